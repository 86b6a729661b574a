"""The PyTorch side of `compare_with_official.py`, run by a Python of its own: networks and tasks.

    python official_side.py TASK WORK       # reads WORK/TASK.npz, writes WORK/TASK.out.npz

PYTHONPATH must hold the official package `autoattack`; nothing of it is part of this repository.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from autoattack import AutoAttack
from autoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from autoattack.fab_pt import FABAttack_PT
from autoattack.square import SquareAttack
from torch import nn

_NORMS = {"linf": "Linf", "l2": "L2"}


def torch_cnn(weights: dict[str, Any]) -> Any:
    """Returns the same network as a PyTorch function of images [B, C, H, W], in the default dtype."""

    w = {name: torch.tensor(value, dtype=torch.get_default_dtype()) for name, value in weights.items()}
    kernels = {i: w[f"conv{i}"].permute(3, 2, 0, 1).contiguous() for i in (1, 2) if f"conv{i}" in w}

    def logits_fn(images: Any) -> Any:
        h = images - 0.5
        for i in kernels:
            h = torch.relu(torch.nn.functional.conv2d(h, kernels[i], w[f"bias{i}"], stride=2, padding=1))
        return (h.permute(0, 2, 3, 1).reshape(len(h), -1) @ w["linear"] + w["bias3"]) * w["scale"]

    return logits_fn


def torch_preact_resnet(weights: dict[str, Any]) -> Any:
    """Returns a PyTorch module with the weights of `networks.get("preact_resnet18")`, in eval mode."""

    def conv(name: str, stride: int = 1) -> Any:
        kernel = torch.tensor(weights[f"{name}/kernel"]).permute(3, 2, 0, 1).contiguous()
        layer = nn.Conv2d(*kernel.shape[1::-1], kernel.shape[2], stride, kernel.shape[2] // 2, bias=False)
        layer.weight.data = kernel
        return layer

    def norm(name: str) -> Any:
        layer = nn.BatchNorm2d(len(weights[f"{name}/gamma"]))
        layer.weight.data, layer.bias.data = (torch.tensor(weights[f"{name}/{v}"]) for v in ("gamma", "beta"))
        layer.running_mean = torch.tensor(weights[f"{name}/moving_mean"])
        layer.running_var = torch.tensor(weights[f"{name}/moving_variance"])
        return layer

    class Block(nn.Module):
        def __init__(self, name: str, stride: int):
            super().__init__()
            self.bn1, self.bn2 = norm(f"{name}_bn1"), norm(f"{name}_bn2")
            self.conv1, self.conv2 = conv(f"{name}_conv1", stride), conv(f"{name}_conv2")
            short = f"{name}_shortcut"
            self.shortcut = conv(short, stride) if f"{short}/kernel" in weights else None

        def forward(self, x: Any) -> Any:
            a = torch.relu(self.bn1(x))
            short = x if self.shortcut is None else self.shortcut(a)
            return self.conv2(torch.relu(self.bn2(self.conv1(a)))) + short

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            places = [(stage, block) for stage in (1, 2, 3, 4) for block in (1, 2)]
            blocks = [Block(f"stage{s}_block{b}", 2 if s > 1 and b == 1 else 1) for s, b in places]
            self.stem, self.blocks, self.bn = conv("stem_conv"), nn.Sequential(*blocks), norm("final_bn")
            self.linear = nn.Linear(*weights["logits/kernel"].shape)
            self.linear.weight.data = torch.tensor(weights["logits/kernel"].T.copy())
            self.linear.bias.data = torch.tensor(weights["logits/bias"])

        def forward(self, x: Any) -> Any:
            return self.linear(torch.relu(self.bn(self.blocks(self.stem(x)))).mean((2, 3)))

    return Network().eval()


def official(task: str, work: Path) -> None:
    """Runs one task of the official suite on the arrays in `task`.npz; writes `task`.out.npz."""

    given = dict(np.load(work / f"{task}.npz"))
    options = json.loads(str(given.pop("options")))
    weights = {name[2:]: value for name, value in given.items() if name.startswith("w:")}
    torch.set_num_threads(options["threads"])
    if options["double"]:
        torch.set_default_dtype(torch.float64)
        # The suite casts its inputs to single precision; in this process that means double.
        torch.Tensor.float = lambda self, **_: self.double()  # type: ignore[assignment]
    network = torch_preact_resnet(weights) if options["network"] == "preact_resnet18" else torch_cnn(weights)
    images = torch.tensor(given["images"], dtype=torch.get_default_dtype()).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor(given["labels"]).long()
    out = _OFFICIAL[task](network, images, labels, given, options)
    np.savez(work / f"{task}.out.npz", **out)


def _official_trace(network: Any, images: Any, labels: Any, given: dict, options: dict) -> dict:

    seen: list[Any] = []

    def watched(points: Any) -> Any:
        logits = network(points)
        seen.append(logits.detach().numpy().copy())
        return logits

    norm, targeted = _NORMS[options["norm"]], options["objective"] == "targeted_dlr"
    common = {"n_iter": options["steps"], "norm": norm, "eps": options["epsilon"], "device": "cpu"}
    attack = APGDAttack_targeted(watched, **common) if targeted else None
    attack = attack or APGDAttack(
        watched, loss={"cross_entropy": "ce"}.get(options["objective"], "dlr"), **common
    )
    attack.init_hyperparam(images)
    if targeted:
        attack.y_target = torch.tensor(given["targets"]).long()
    start = torch.tensor(given["start"]).permute(0, 3, 1, 2).contiguous()
    _, stands, best, _ = attack.attack_single_run(images, labels, x_init=start)
    return {"logits": np.stack(seen), "stands": stands.numpy(), "best": best.numpy()}


def _official_fab(network: Any, images: Any, labels: Any, given: dict, options: dict) -> dict:

    attack = FABAttack_PT(network, norm=_NORMS[options["norm"]], eps=options["epsilon"])
    sizes = []
    for rank in range(2, 2 + options.get("ranks", 9)):
        attack.target_class = rank
        change = (attack.attack_single_run(images, labels, is_targeted=True) - images).flatten(1)
        sizes.append(change.abs().amax(1) if options["norm"] == "linf" else change.norm(dim=1))
    return {"distance": np.stack([size.numpy() for size in sizes])}


def _official_square(network: Any, images: Any, labels: Any, given: dict, options: dict) -> dict:
    """Runs Square on one example after the other, with every random number taken from the given tables."""

    norm = _NORMS[options["norm"]]
    found = []
    for n in range(len(images)):
        queue = _square_numbers(given, n, options["norm"])
        torch.rand = lambda *shape, queue=queue: torch.tensor(next(queue)).reshape(*shape)  # type: ignore
        attack = SquareAttack(
            network,
            norm=norm,
            n_queries=len(given["shared"]),
            eps=options["epsilon"],
            resc_schedule=False,
            device="cpu",
        )
        attack.init_hyperparam(images)
        found.append(attack.attack_single_run(images[n : n + 1], labels[n : n + 1])[1])
    return {"points": torch.cat(found).permute(0, 2, 3, 1).numpy()}


def _square_numbers(given: dict, n: int, norm: str) -> Any:
    """Yields, in the order in which the official code asks for them, numbers in [0, 1]."""
    if norm == "linf":
        yield (given["start_signs"][n].transpose(2, 0, 1) + 1) / 2
    else:
        for tile in range(len(given["start_shared"])):
            yield given["start_shared"][tile]
            yield (given["start_signs"][n, tile] + 1) / 2
    for query in range(len(given["shared"])):
        yield from given["shared"][query, : 2 if norm == "linf" else 5]
        yield given["shared"][query, 2:] if norm == "linf" else (given["signs"][query, n] + 1) / 2


def _official_suite(network: Any, images: Any, labels: Any, given: dict, options: dict) -> dict:

    log = Path(options["log"])
    log.unlink(missing_ok=True)
    norm = _NORMS[options["norm"]]
    suite = AutoAttack(
        network, norm=norm, eps=options["epsilon"], seed=options["seed"], device="cpu", log_path=log
    )
    began, busy = time.monotonic(), time.process_time()
    adversarial = suite.run_standard_evaluation(images, labels, bs=options["batch_size"])
    seconds, busy = time.monotonic() - began, time.process_time() - busy
    with torch.no_grad():
        stands = torch.cat([network(part).argmax(1) for part in adversarial.split(250)]) == labels
    return {"robust": stands.numpy(), "seconds": seconds, "busy": busy}


def _official_passes(network: Any, images: Any, labels: Any, given: dict, options: dict) -> dict:
    """Processor time of a gradient step and of a query, in seconds, the least of several."""

    def gradient() -> None:
        points = images.clone().requires_grad_()
        loss = nn.functional.cross_entropy(network(points), labels, reduction="sum")
        torch.autograd.grad(loss, [points])

    def fab_gradient() -> None:
        # As the suite's FAB takes it: by `backward`, which computes the gradients of the weights as well.
        points = images.clone().requires_grad_()
        network(points)[:, 0].sum().backward()

    def query() -> None:
        with torch.no_grad():
            network(images)

    times = {}
    for name, work in {"gradient": gradient, "fab gradient": fab_gradient, "query": query}.items():
        taken = []
        for _ in range(options["repetitions"]):
            began = time.process_time()
            work()
            taken.append(time.process_time() - began)
        times[name] = min(taken)
    return times


_OFFICIAL = {
    "passes": _official_passes,
    "trace": _official_trace,
    "fab": _official_fab,
    "square": _official_square,
    "suite": _official_suite,
}


if __name__ == "__main__":
    official(sys.argv[1], Path(sys.argv[2]))
