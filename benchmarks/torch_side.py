"""Cases of the PyTorch peer: the same networks, step and PGD, written for PyTorch at its best.

Its own settings are the fields `channels_last`, `compiled` (torch.compile) and `folded` of the case; bfloat16
is autocast, except that `folded` attacks run on kernels that were folded with BatchNorm and cast once.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's usage)

from benchmarks.cases import Case
from benchmarks.torch_networks import network_of

EPSILON, STEP = 8 / 255, 2 / 255


def make(case: Case) -> Callable[[], Any]:
    """Returns a function that runs the case once and waits for its end."""
    if case.threads:
        torch.set_num_threads(case.threads)
    if case.replicas != 1 or (case.what == "step" and case.method != "pgd_at"):
        raise ValueError("the peer knows PGD-AT on one device")
    return _Peer(case).function()


class _Peer:
    """A network, a batch, and what the case does with them."""

    def __init__(self, case: Case):
        torch.manual_seed(0)
        self.case = case
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        layout = torch.channels_last if case.channels_last else torch.contiguous_format
        self.network = network_of(case.network, case.width, case.classes).to(
            self.device, memory_format=layout
        )
        self.images = torch.rand(case.batch, 3, 32, 32, device=self.device).to(memory_format=layout)
        self.labels = torch.randint(0, case.classes, (case.batch,), device=self.device)
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, foreach=True
        )
        attack = case.compiled if case.compiled_attack is None else case.compiled_attack
        self.trained = torch.compile(self._loss) if case.compiled else self._loss
        self.input_gradient = torch.compile(self._input_gradient) if attack else self._input_gradient

    def function(self) -> Callable[[], Any]:
        """Returns what the case times."""
        if self.case.what in ("art", "foolbox"):
            return self._other_library()
        return {"step": self.step, "attack": self.attack, "pass": self.train, "forward": self.forward}[
            self.case.what
        ]

    def _precision(self) -> Any:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.case.precision == "bfloat16")

    def _loss(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with self._precision():
            logits = self.network(images)
        return F.cross_entropy(logits.float(), labels)

    def _input_gradient(self, points: torch.Tensor, labels: torch.Tensor, weights: Any) -> torch.Tensor:
        points = points.detach().requires_grad_(True)
        with self._precision():
            logits = self.network(points) if weights is None else self.network.folded(points, weights)
        loss = F.cross_entropy(logits.float(), labels, reduction="sum")
        return torch.autograd.grad(loss, points)[0]

    def attack(self) -> torch.Tensor:
        """Runs PGD with BatchNorm in inference mode; no gradient of the weights is computed."""
        self.network.eval()
        self.network.requires_grad_(False)
        weights = None
        if self.case.folded:
            kind = torch.bfloat16 if self.case.precision == "bfloat16" else torch.float32
            weights = self.network.fold(kind)
        lower, upper = (self.images - EPSILON).clamp(0, 1), (self.images + EPSILON).clamp(0, 1)
        points = self.images + EPSILON * (2 * torch.rand_like(self.images) - 1)
        points = torch.clamp(points, lower, upper)
        for _ in range(self.case.steps):
            gradient = self.input_gradient(points, self.labels, weights)
            points = torch.clamp(points + STEP * gradient.sign(), lower, upper)
        self.network.requires_grad_(True)
        return self._waited(points)

    def train(self, images: torch.Tensor | None = None) -> torch.Tensor:
        """Runs forward and backward in training mode."""
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.trained(self.images if images is None else images, self.labels)
        loss.backward()
        return self._waited(loss)

    def step(self) -> torch.Tensor:
        """Runs a step of PGD-AT."""
        loss = self.train(self.attack())
        self.optimizer.step()
        return self._waited(loss)

    def forward(self) -> torch.Tensor:
        """Runs the forward pass in inference mode."""
        self.network.eval()
        with torch.no_grad(), self._precision():
            return self._waited(self.network(self.images))

    def _waited(self, value: torch.Tensor) -> torch.Tensor:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return value

    def _other_library(self) -> Callable[[], Any]:
        self.network.eval()
        if self.case.what == "foolbox":
            import foolbox

            model = foolbox.PyTorchModel(self.network, bounds=(0, 1), device=self.device)
            attack = foolbox.attacks.LinfPGD(abs_stepsize=STEP, steps=self.case.steps)
            return lambda: attack(model, self.images, self.labels, epsilons=EPSILON)
        from art.attacks.evasion import ProjectedGradientDescentPyTorch
        from art.estimators.classification import PyTorchClassifier

        classifier = PyTorchClassifier(
            self.network, torch.nn.CrossEntropyLoss(), (3, 32, 32), self.case.classes, clip_values=(0.0, 1.0)
        )
        attack = ProjectedGradientDescentPyTorch(
            classifier,
            eps=EPSILON,
            eps_step=STEP,
            max_iter=self.case.steps,
            num_random_init=1,
            batch_size=self.case.batch,
            verbose=False,
        )
        images, labels = self.images.cpu().numpy(), self.labels.cpu().numpy()
        return lambda: attack.generate(images, labels)
