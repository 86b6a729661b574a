#!/usr/bin/env python3
"""Compares `fairat_tf`'s AutoAttack with the authors' PyTorch suite, on the same networks and images.

    git clone https://github.com/fra31/auto-attack /tmp/official          # at a392200
    python3 -m venv /tmp/torch && /tmp/torch/bin/pip install torch numpy
    python tools/compare_with_official.py --official=/tmp/official --torch_python=/tmp/torch/bin/python \
        --data_dir=~/tensorflow_datasets --work=/tmp/agreement --stages=traces,fab,square,suite,time

For development only: the official package is not part of this repository and is read from where the flag
says. TensorFlow and PyTorch run in processes of their own and exchange .npz files in --work. Each stage
prints its figures and adds them to results.json in --work.
"""

import argparse
import json
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# Networks of the agreement stages: radius at which 30 to 70 % survive, by norm.
NETWORKS = {
    "plain": {"linf": 1 / 255, "l2": 0.1},
    "adversarially trained": {"linf": 2 / 255, "l2": 0.2},
    "gradient-masked": {"linf": 1 / 255, "l2": 0.1},
}
TRACE_STEPS, SQUARE_QUERIES, SIZE = 100, 1000, 16


# --- networks, as functions of the same weights in both frameworks ---------------------------------


def tf_cnn(weights: dict[str, Any], dtype: str = "float32") -> Any:
    """Returns logits_fn of the small network: two strided convolutions and a linear layer."""
    import tensorflow as tf

    w = {name: tf.constant(value, dtype) for name, value in weights.items()}

    def logits_fn(images: Any) -> Any:
        h = images - 0.5
        for i in (1, 2) if "conv2" in w else (1,):
            h = tf.pad(h, [[0, 0], [1, 1], [1, 1], [0, 0]])
            h = tf.nn.relu(tf.nn.conv2d(h, w[f"conv{i}"], 2, "VALID") + w[f"bias{i}"])
        return (tf.reshape(h, [-1, w["linear"].shape[0]]) @ w["linear"] + w["bias3"]) * w["scale"]

    return logits_fn


def torch_cnn(weights: dict[str, Any]) -> Any:
    """Returns the same network as a PyTorch function of images [B, C, H, W], in the default dtype."""
    import torch

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
    import torch
    from torch import nn

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


# --- the official side: this file again, under the Python that has PyTorch ---------------------------


def official(task: str, work: Path) -> None:
    """Runs one task of the official suite on the arrays in `task`.npz; writes `task`.out.npz."""
    import torch

    given = dict(np.load(work / f"{task}.npz"))
    options = json.loads(str(given.pop("options")))
    weights = {name[2:]: value for name, value in given.items() if name.startswith("w:")}
    # The small network runs faster on one thread; the timed one gets every core, as TensorFlow does.
    torch.set_num_threads(1 if options["network"] == "cnn" else os.cpu_count() or 1)
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
    import torch
    from autoattack.autopgd_base import APGDAttack, APGDAttack_targeted

    seen: list[Any] = []

    def watched(points: Any) -> Any:
        logits = network(points)
        seen.append(logits.detach().numpy().copy())
        return logits

    norm, targeted = {"linf": "Linf", "l2": "L2"}[options["norm"]], options["objective"] == "targeted_dlr"
    common = {"n_iter": TRACE_STEPS, "norm": norm, "eps": options["epsilon"], "device": "cpu"}
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
    from autoattack.fab_pt import FABAttack_PT

    attack = FABAttack_PT(network, norm={"linf": "Linf", "l2": "L2"}[options["norm"]], eps=options["epsilon"])
    sizes = []
    for rank in range(2, 2 + options.get("ranks", 9)):
        attack.target_class = rank
        change = (attack.attack_single_run(images, labels, is_targeted=True) - images).flatten(1)
        sizes.append(change.abs().amax(1) if options["norm"] == "linf" else change.norm(dim=1))
    return {"distance": np.stack([size.numpy() for size in sizes])}


def _official_square(network: Any, images: Any, labels: Any, given: dict, options: dict) -> dict:
    """Runs Square on one example after the other, with every random number taken from the given tables."""
    import torch
    from autoattack.square import SquareAttack

    norm = {"linf": "Linf", "l2": "L2"}[options["norm"]]
    found = []
    for n in range(len(images)):
        queue = _square_numbers(given, n, options["norm"])
        torch.rand = lambda *shape, queue=queue: torch.tensor(next(queue)).reshape(*shape)  # type: ignore
        attack = SquareAttack(
            network,
            norm=norm,
            n_queries=SQUARE_QUERIES,
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
    for query in range(SQUARE_QUERIES):
        for number in given["shared"][query, : 2 if norm == "linf" else 5]:
            yield number
        yield given["shared"][query, 2:] if norm == "linf" else (given["signs"][query, n] + 1) / 2


def _official_suite(network: Any, images: Any, labels: Any, given: dict, options: dict) -> dict:
    import torch
    from autoattack import AutoAttack

    log = Path(options["log"])
    log.unlink(missing_ok=True)
    norm = {"linf": "Linf", "l2": "L2"}[options["norm"]]
    suite = AutoAttack(
        network, norm=norm, eps=options["epsilon"], seed=options["seed"], device="cpu", log_path=log
    )
    began, busy = time.monotonic(), time.process_time()
    adversarial = suite.run_standard_evaluation(images, labels, bs=options["batch_size"])
    seconds, busy = time.monotonic() - began, time.process_time() - busy
    with torch.no_grad():
        stands = torch.cat([network(part).argmax(1) for part in adversarial.split(250)]) == labels
    return {"robust": stands.numpy(), "seconds": seconds, "busy": busy}


_OFFICIAL = {
    "trace": _official_trace,
    "fab": _official_fab,
    "square": _official_square,
    "suite": _official_suite,
}


def ask_official(flags: argparse.Namespace, task: str, weights: dict, arrays: dict, **options: Any) -> dict:
    """Returns what the official suite makes of a task (a name for the files, arrays, and options)."""
    options = {"network": "cnn", "double": False, **options}
    named = {f"w:{name}": value for name, value in weights.items()}
    np.savez(flags.work / f"{task}.npz", options=np.array(json.dumps(options)), **named, **arrays)
    command = [
        flags.torch_python,
        __file__,
        "--official",
        flags.official,
        "--work",
        flags.work,
        "--task",
        task,
    ]
    environment = {**os.environ, "PYTHONPATH": str(flags.official)}
    subprocess.run([str(part) for part in command], check=True, env=environment, stdout=subprocess.DEVNULL)
    return dict(np.load(flags.work / f"{task}.out.npz"))


# --- data and training -------------------------------------------------------------------------------


def data(flags: argparse.Namespace, size: int = SIZE) -> dict[str, np.ndarray]:
    """Returns 6,000 training and 1,000 test images of CIFAR-10, float32 [N, size, size, 3] in [0, 1]."""
    kept = flags.work / "images.npz"
    if not kept.exists():
        import tensorflow_datasets as tfds

        arrays = {}
        for split in ("train[:6000]", "test[:1000]"):
            loaded = tfds.load("cifar10", split=split, data_dir=flags.data_dir, download=False, batch_size=-1)
            arrays[split[:4] + "_x"] = loaded["image"].numpy().astype(np.float32) / 255
            arrays[split[:4] + "_y"] = loaded["label"].numpy().astype(np.int32)
        np.savez(kept, **arrays)
    arrays = dict(np.load(kept))
    factor = 32 // size
    for name in ("trai_x", "test_x"):
        shape = (-1, size, factor, size, factor, 3)
        arrays[name] = arrays[name].reshape(shape).mean((2, 4)).astype(np.float32)
    return {
        "train_x": arrays["trai_x"],
        "train_y": arrays["trai_y"],
        "test_x": arrays["test_x"],
        "test_y": arrays["test_y"],
    }


def train(
    network: Any, variables: list, images: np.ndarray, labels: np.ndarray, epsilon: float, steps: int
) -> None:
    """Trains with Adam, on PGD-5 examples where epsilon is not 0."""
    import keras
    import tensorflow as tf

    from fairat_tf import attacks, rng

    optimizer = keras.optimizers.Adam(2e-3)
    optimizer.build(variables)
    attack = attacks.get("pgd")(epsilon=epsilon, step_size=epsilon / 3, steps=5) if epsilon else None

    @tf.function(autograph=False)
    def step(x: Any, y: Any, seed: Any) -> Any:
        x = attack(lambda z: network(z, False), x, y, seed) if attack else x
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, network(x, True)))
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    chosen = np.random.default_rng(0)
    for i in range(steps):
        rows = chosen.integers(len(images), size=64)
        step(images[rows], labels[rows], rng.key(0, "agreement", i))


def cnn_weights(flags: argparse.Namespace, name: str) -> dict[str, np.ndarray]:
    """Returns the weights of one of `NETWORKS`, trained at the first call."""
    kept = flags.work / f"{name.replace(' ', '_')}.weights.npz"
    if kept.exists():
        return dict(np.load(kept))
    import tensorflow as tf

    random, images = np.random.default_rng(1), data(flags)
    shapes = {"conv1": (3, 3, 3, 8), "conv2": (3, 3, 8, 16), "linear": (SIZE * SIZE, 10)}
    weights = {k: random.normal(size=s) * math.sqrt(2 / np.prod(s[:-1])) for k, s in shapes.items()}
    weights |= {"bias1": np.zeros(8), "bias2": np.zeros(16), "bias3": np.zeros(10)}
    hard = name == "adversarially trained"
    if hard:
        weights = cnn_weights(flags, "plain")
    scale = np.float32(200.0 if name == "gradient-masked" else weights.pop("scale", 1.0))
    variables = {k: tf.Variable(v, dtype=tf.float32) for k, v in weights.items()}

    def network(x: Any, _: bool) -> Any:
        return _with_variables(x, variables)

    train(network, list(variables.values()), images["train_x"], images["train_y"], hard * 4 / 255, 800)
    trained = {k: v.numpy() for k, v in variables.items()}
    trained["scale"] = scale
    np.savez(kept, **trained)
    return trained


def _with_variables(x: Any, w: dict[str, Any]) -> Any:
    import tensorflow as tf

    h = x - 0.5
    for i in (1, 2):
        h = tf.nn.conv2d(tf.pad(h, [[0, 0], [1, 1], [1, 1], [0, 0]]), w[f"conv{i}"], 2, "VALID")
        h = tf.nn.relu(h + w[f"bias{i}"])
    return tf.reshape(h, [-1, w["linear"].shape[0]]) @ w["linear"] + w["bias3"]


# --- stages ------------------------------------------------------------------------------------------


def correct_test_images(
    flags: argparse.Namespace, weights: dict, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first `count` test images that the network classifies correctly."""
    images = data(flags)
    right = np.argmax(tf_cnn(weights)(images["test_x"]).numpy(), -1) == images["test_y"]
    rows = np.flatnonzero(right)[:count]
    return images["test_x"][rows], images["test_y"][rows]


def _asked(flags: argparse.Namespace) -> list[tuple[str, dict[str, float]]]:
    return [(name, radii) for name, radii in NETWORKS.items() if name in flags.networks.split(",")]


def traces(flags: argparse.Namespace) -> list[dict]:
    """APGD in float64 from the same starts: every example's loss at every one of 101 points."""
    import tensorflow as tf

    from fairat_tf import rng
    from fairat_tf.attacks import apgd, threat
    from fairat_tf.attacks.search import ranked_class

    rows = []
    for name, radii in _asked(flags):
        weights = cnn_weights(flags, name)
        network = tf_cnn(weights, "float64")
        images, labels = correct_test_images(flags, weights, flags.examples)
        images = images.astype(np.float64)
        for norm, epsilon in radii.items():
            ball = threat.get(norm)(tf.constant(images), epsilon)
            for objective in ("cross_entropy", "dlr", "targeted_dlr"):
                attack = apgd.APGD(epsilon, norm, TRACE_STEPS, objective=objective)
                start, seen = ball.boundary_start(rng.key(0, "start")), []

                def watched(points: Any, network: Any = network, seen: list = seen) -> Any:
                    logits = network(points)
                    seen.append(logits.numpy())
                    return logits

                loss = attack.loss(network, ball.images, 0)
                evaluate = apgd.averaged(watched, loss, tf.constant(labels), 1)
                end = apgd.climb(evaluate, ball, tf.constant(labels), start, TRACE_STEPS)
                targets = ranked_class(network(ball.images), 1).numpy()
                arrays = {"images": images, "labels": labels, "start": start.numpy(), "targets": targets}
                other = ask_official(
                    flags,
                    "trace",
                    weights,
                    arrays,
                    norm=norm,
                    epsilon=epsilon,
                    objective=objective,
                    double=True,
                )
                mine = np.stack([loss(tf.constant(z), tf.constant(labels)).numpy() for z in seen])
                theirs = np.stack(
                    [loss(tf.constant(z), tf.constant(labels)).numpy() for z in other["logits"]]
                )
                apart = np.abs(mine - theirs).max(0) / np.maximum(1.0, np.abs(theirs).max(0))
                rows.append(
                    {
                        "network": name,
                        "norm": norm,
                        "objective": objective,
                        "examples": len(labels),
                        "largest difference of a loss": float(apart.max()),
                        "traces within 1e-6": float((apart <= 1e-6).mean()),
                        "equal success": float((end.fooled.numpy() == (other["stands"] == 0)).mean()),
                        "survive": float(1 - end.fooled.numpy().mean()),
                    }
                )
                print(rows[-1], flush=True)
    return rows


def fab(flags: argparse.Namespace) -> list[dict]:
    """FAB-T in float64 towards each of nine targets: the norms of the perturbations."""
    import tensorflow as tf

    from fairat_tf import rng
    from fairat_tf.attacks.fab import fab_t

    rows = []
    for name, radii in _asked(flags):
        weights = cnn_weights(flags, name)
        images, labels = correct_test_images(flags, weights, flags.examples)
        images, network = images.astype(np.float64), tf_cnn(weights, "float64")
        for norm, epsilon in radii.items():
            attack = fab_t(epsilon, norm=norm)
            nearest = tf.function(
                lambda x, y, n, a=attack, f=network: a.nearest(f, x, y, rng.key(0, "fab"), n)[1]
            )
            mine = np.stack([nearest(images, labels, tf.constant(n)).numpy() for n in range(9)])
            arrays = {"images": images, "labels": labels}
            other = ask_official(flags, "fab", weights, arrays, norm=norm, epsilon=epsilon, double=True)
            theirs = np.where(other["distance"] == 0, np.inf, other["distance"])
            both = np.isfinite(mine) & np.isfinite(theirs)
            apart = np.abs(mine[both] / theirs[both] - 1)
            rows.append(
                {
                    "network": name,
                    "norm": norm,
                    "runs": mine.size,
                    "found by both or neither": float((np.isfinite(mine) == np.isfinite(theirs)).mean()),
                    "median relative difference": float(np.median(apart)),
                    "99th percentile": float(np.quantile(apart, 0.99)),
                    "median of the nearest": float(np.median(np.abs(mine.min(0) / theirs.min(0) - 1))),
                    "equal verdict at epsilon": float(
                        ((mine.min(0) <= epsilon) == (theirs.min(0) <= epsilon)).mean()
                    ),
                }
            )
            print(rows[-1], flush=True)
    return rows


def square(flags: argparse.Namespace) -> list[dict]:
    """Square in float64, fed the same random numbers: the same decisions leave the same image."""
    import tensorflow as tf

    from fairat_tf.attacks import square_windows, threat
    from fairat_tf.attacks.square import Square

    rows = []
    for name, radii in _asked(flags):
        weights = cnn_weights(flags, name)
        images, labels = correct_test_images(flags, weights, 24)
        images = images.astype(np.float64)
        for norm, epsilon in radii.items():
            random, attack = np.random.default_rng(0), Square(epsilon, norm, queries=SQUARE_QUERIES)
            tiles = int(square_windows.grid(SIZE, SIZE)[0].max()) + 1
            start = (len(images), 1, SIZE, 3) if norm == "linf" else (len(images), tiles, 3)
            tables = {
                "shared": random.random((SQUARE_QUERIES, 5)),
                "start_shared": random.random(tiles),
                "start_signs": random.choice([-1.0, 1.0], start),
                "signs": random.choice([-1.0, 1.0], (SQUARE_QUERIES, len(images), 3)),
            }
            draws, ball = _Recorded(tables), threat.get(norm)(tf.constant(images), epsilon)
            first = attack.start(ball, draws)
            points = attack.search(
                tf_cnn(weights, "float64"), ball, tf.constant(labels), draws, first, 0, SQUARE_QUERIES
            ).numpy()
            arrays = {"images": images, "labels": labels, **tables}
            other = ask_official(flags, "square", weights, arrays, norm=norm, epsilon=epsilon, double=True)
            apart = np.abs(points - other["points"]).max((1, 2, 3))
            rows.append(
                {
                    "network": name,
                    "norm": norm,
                    "examples": len(labels),
                    "equal decisions": float((apart < 1e-9).mean()),
                    "changed from the start": float(
                        (np.abs(points - first.numpy()).max((1, 2, 3)) > 0).mean()
                    ),
                    "largest difference of a pixel": float(apart.max()),
                }
            )
            print(rows[-1], flush=True)
    return rows


class _Recorded:
    def __init__(self, tables: dict[str, np.ndarray]):
        self.tables = tables

    def shared(self, query: Any, count: int) -> Any:
        import tensorflow as tf

        if isinstance(query, int):
            return tf.constant(self.tables["start_shared"])
        return tf.constant(self.tables["shared"])[query, :count]

    def signs(self, query: Any, shape: Any) -> Any:
        import tensorflow as tf

        return tf.constant(self.tables["start_signs" if isinstance(query, int) else "signs"])[
            ... if isinstance(query, int) else query
        ]


def suite(flags: argparse.Namespace) -> list[dict]:
    """The whole suite in float32: joint flags, average and worst class, on 1,000 examples."""
    from fairat_tf import attacks, rng

    rows = []
    for name, radii in _asked(flags):
        weights, images = cnn_weights(flags, name), data(flags)
        x, y = images["test_x"][: flags.suite_examples], images["test_y"][: flags.suite_examples]
        for norm in flags.norms.split(","):
            epsilon = radii[norm]
            began = time.monotonic()
            result = attacks.get("autoattack")(epsilon=epsilon, norm=norm).run(
                tf_cnn(weights), x, y, rng.key(0, "agreement"), batch_size=250
            )
            seconds = time.monotonic() - began
            log = str(flags.work / "suite.log")
            other = ask_official(
                flags,
                "suite",
                weights,
                {"images": x, "labels": y},
                norm=norm,
                epsilon=epsilon,
                seed=0,
                batch_size=250,
                log=log,
            )
            itself = None
            if flags.repeat:
                again = ask_official(
                    flags,
                    "suite",
                    weights,
                    {"images": x, "labels": y},
                    norm=norm,
                    epsilon=epsilon,
                    seed=1,
                    batch_size=250,
                    log=log + ".again",
                )
                itself = 100 * float((again["robust"] == other["robust"]).mean())
            classes = [
                np.array([f[y == c].mean() for c in range(10)]) for f in (result.robust, other["robust"])
            ]
            rows.append(
                {
                    "network": name,
                    "norm": norm,
                    "epsilon": epsilon,
                    "examples": len(y),
                    "after": {k: round(100 * v, 2) for k, v in result.after.items()},
                    "official after": official_log(log),
                    "robust": 100 * float(result.robust.mean()),
                    "official robust": 100 * float(other["robust"].mean()),
                    "equal flags": 100 * float((result.robust == other["robust"]).mean()),
                    "official against itself, other seed": itself,
                    "worst class": 100 * float(classes[0].min()),
                    "official worst class": 100 * float(classes[1].min()),
                    "seconds": seconds,
                    "official seconds": float(other["seconds"]),
                }
            )
            print(rows[-1], flush=True)
    return rows


def timing(flags: argparse.Namespace) -> list[dict]:
    """The whole suite on a PreActResNet-18 (32x32, narrow), one implementation after the other.

    Wall time and processor time of both cores: on a machine that does other work too, compare the latter.
    """
    import keras

    from fairat_tf import attacks, networks, rng

    images = data(flags, 32)
    model = networks.get("preact_resnet18")(num_classes=10, width=flags.width)
    epsilon = 4 / 255
    kept = flags.work / f"preact_resnet18_{flags.width}.weights.h5"
    if kept.exists():
        model.load_weights(kept)
    else:
        train(
            lambda x, training: model(x, training=training),
            model.trainable_variables,
            images["train_x"],
            images["train_y"],
            0.0,
            250,
        )
        train(
            lambda x, training: model(x, training=training),
            model.trainable_variables,
            images["train_x"],
            images["train_y"],
            epsilon,
            100,
        )
        model.save_weights(kept)
    keras.config.set_dtype_policy("mixed_bfloat16")
    half = networks.get("preact_resnet18")(num_classes=10, width=flags.width)
    keras.config.set_dtype_policy("float32")
    half.set_weights(model.get_weights())
    x, y = images["test_x"][: flags.time_examples], images["test_y"][: flags.time_examples]
    weights = {"/".join(v.path.split("/")[-2:]): v.numpy() for v in model.variables}
    searches = {"float32": None, "bfloat16 search": lambda z: half(z, training=False)}
    runs, flags_of = [], {}
    attack = attacks.get("autoattack")(epsilon=epsilon)
    for name, search in searches.items():
        began, busy = time.monotonic(), time.process_time()
        result = attack.run(
            lambda z: model(z, training=False),
            x,
            y,
            rng.key(0, "time"),
            batch_size=flags.time_batch,
            search_fn=search,
        )
        runs.append({"run": name, "seconds": time.monotonic() - began, "busy": time.process_time() - busy})
        runs[-1] |= {"after": result.after, "by attack": result.seconds}
        flags_of[name] = result.robust
        print(runs[-1], flush=True)
    log = str(flags.work / "time.log")
    other = ask_official(
        flags,
        "suite",
        weights,
        {"images": x, "labels": y},
        network="preact_resnet18",
        norm="linf",
        epsilon=epsilon,
        seed=0,
        batch_size=flags.time_batch,
        log=log,
    )
    for row in runs:
        row["equal flags"] = 100 * float((flags_of[row["run"]] == other["robust"]).mean())
        row["of the official processor time"] = row["busy"] / float(other["busy"])
        row["of the official wall time"] = row["seconds"] / float(other["seconds"])
    runs.append(
        {
            "run": "official",
            "seconds": float(other["seconds"]),
            "busy": float(other["busy"]),
            "after": official_log(log),
        }
    )
    print(runs, flush=True)
    return runs


def freeze(flags: argparse.Namespace) -> list[dict]:
    """Writes tests/attacks/data/official.json: what the official suite gets on a problem made from a seed."""
    given = {"seed": 11, "epsilon": {"linf": 0.014, "l2": 0.14}}
    frozen: dict[str, Any] = {"made by": "tools/compare_with_official.py --stages=freeze", "network": given}
    frozen |= {"apgd": [], "fab": []}
    random = np.random.default_rng(given["seed"])
    kernel, linear = random.normal(size=(3, 3, 3, 6)) * 0.4, random.normal(size=(96, 5)) * 0.5
    images = random.uniform(size=(8, 8, 8, 3))
    noise = random.uniform(-1, 1, images.shape)
    # One convolution: the second one of the small network is left out.
    weights = {
        "conv1": kernel,
        "bias1": np.zeros(6),
        "linear": linear,
        "bias3": np.zeros(5),
        "scale": np.ones([]),
    }
    logits = tf_cnn(weights, "float64")(images).numpy()
    arrays = {"images": images, "labels": logits.argmax(1), "targets": np.argsort(-logits, 1)[:, 1]}
    for norm, epsilon in given["epsilon"].items():
        size = np.abs(noise).max((1, 2, 3)) if norm == "linf" else np.sqrt((noise**2).sum((1, 2, 3)))
        start = np.clip(images + epsilon * noise / size[:, None, None, None], 0, 1)
        options = {"norm": norm, "epsilon": epsilon, "double": True}
        for objective in ("cross_entropy", "dlr", "targeted_dlr"):
            other = ask_official(
                flags, "trace", weights, {**arrays, "start": start}, objective=objective, **options
            )
            last = _loss(objective, other["logits"][-1], arrays)
            case = {
                "norm": norm,
                "objective": objective,
                "best": other["best"].tolist(),
                "last": last.tolist(),
            }
            frozen["apgd"].append({**case, "stands": other["stands"].astype(bool).tolist()})
        other = ask_official(flags, "fab", weights, arrays, ranks=4, **options)
        frozen["fab"].append({"norm": norm, "distance": other["distance"].tolist()})
    kept = ROOT / "tests" / "attacks" / "data" / "official.json"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(json.dumps(frozen))
    return []


def _loss(objective: str, logits: np.ndarray, arrays: dict[str, np.ndarray]) -> np.ndarray:
    import tensorflow as tf

    from fairat_tf import objectives
    from fairat_tf.objectives import losses

    labels, logits = tf.constant(arrays["labels"], tf.int32), tf.constant(logits)
    if objective == "targeted_dlr":
        return losses.targeted_dlr(logits, labels, arrays["targets"]).numpy()
    return objectives.get(objective)(logits, labels).numpy()


def official_log(path: str) -> dict[str, float]:
    """Returns the accuracy after each attack, in per cent, from the official suite's log."""
    text = Path(path).read_text()
    pairs = re.findall(r"robust accuracy after ([A-Z-]+): ([0-9.]+)%", text)
    return {name.lower(): float(value) for name, value in pairs}


STAGES = {"traces": traces, "fab": fab, "square": square, "suite": suite, "time": timing, "freeze": freeze}


def main() -> None:
    """Runs the stages asked for, or one task of the official side."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--official", required=True, help="folder that holds the package autoattack")
    parser.add_argument("--torch_python", default=sys.executable, help="a Python that has PyTorch")
    parser.add_argument("--data_dir", default=None, help="TFDS directory that holds CIFAR-10")
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for weights, exchange files and results.json"
    )
    parser.add_argument(
        "--stages", default="traces,fab,square,suite,time", help="which of " + ", ".join(STAGES)
    )
    parser.add_argument("--examples", type=int, default=64, help="examples of the stages traces and fab")
    parser.add_argument("--suite_examples", type=int, default=1000, help="examples of the stage suite")
    parser.add_argument("--time_examples", type=int, default=48, help="examples of the stage time")
    parser.add_argument("--time_batch", type=int, default=48, help="batch size of both in the stage time")
    parser.add_argument("--width", type=int, default=8, help="width of the network of the stage time")
    parser.add_argument("--networks", default=",".join(NETWORKS), help="which of " + ", ".join(NETWORKS))
    parser.add_argument(
        "--repeat", action="store_true", help="suite: run the official one with a second seed"
    )
    parser.add_argument("--norms", default="linf,l2", help="norms of the stage suite")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    flags.work.mkdir(parents=True, exist_ok=True)
    if flags.task:
        official(flags.task, flags.work)
        return
    kept = flags.work / "results.json"
    results = json.loads(kept.read_text()) if kept.exists() else {}
    for stage in flags.stages.split(","):
        results[stage] = STAGES[stage](flags)
        kept.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
