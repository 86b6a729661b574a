"""AutoAttack: four attacks one after the other, each on what still stands; the joint worst case counts.

    attack = AutoAttack(epsilon=8 / 255, version="standard")
    result = attack.run(logits_fn, images, labels, seed, progress=print_progress)
    result.robust.mean(), result.after["apgd-ce"], result.robust_after["square"]

Source: Croce & Hein, ICML 2020, section 5, with the constants of the authors' suite (fra31/auto-attack at
a392200). `docs/autoattack.md` names what is the same and what differs.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from fairat_tf import rng
from fairat_tf.attacks import cascade, evaluation, threat
from fairat_tf.attacks.apgd import apgd_ce, apgd_dlr, apgd_t
from fairat_tf.attacks.fab import fab, fab_t
from fairat_tf.attacks.pgd import LogitsFn, misclassified
from fairat_tf.attacks.progress import Report
from fairat_tf.attacks.search import Search
from fairat_tf.attacks.square import Square
from fairat_tf.lookup import UnknownNameError

_MAKERS: dict[str, Any] = {
    "apgd-ce": apgd_ce,
    "apgd-dlr": apgd_dlr,
    "apgd-t": apgd_t,
    "fab": fab,
    "fab-t": fab_t,
    "square": Square,
}

# For each version the attacks in their order, and where they differ from the makers' defaults.
# "torchattacks" are the defaults of torchattacks 3.5.1: 10 steps, and Square's schedule stretched.
VERSIONS: dict[str, dict[str, dict[str, Any]]] = {
    "standard": {"apgd-ce": {}, "apgd-t": {}, "fab-t": {}, "square": {}},
    "plus": {
        "apgd-ce": {"restarts": 5},
        "apgd-dlr": {"restarts": 5},
        "fab": {"restarts": 5},
        "square": {},
        "apgd-t": {},
        "fab-t": {},
    },
    "rand": {"apgd-ce": {"gradient_draws": 20}, "apgd-dlr": {"gradient_draws": 20}},
    "torchattacks": {
        "apgd-ce": {"steps": 10},
        "apgd-t": {"steps": 10},
        "fab-t": {"steps": 10},
        "square": {"rescale": True},
    },
}


@dataclasses.dataclass(frozen=True)
class AutoAttack:
    """The ensemble. `run` evaluates any number of images; a call attacks one batch in one graph.

    Attributes:
      epsilon: radius of the threat model, in pixels of [0, 1].
      version: "standard" (APGD-CE, APGD-T, FAB-T, Square), "plus" (six attacks, five restarts), "rand"
        (gradients averaged over 20 passes, for networks that answer at random), or "torchattacks".
      norm: "linf" or "l2".
      steps: steps of the gradient attacks where not the version's own (100, torchattacks 10).
      queries: queries of Square where not the version's own (5000).
    """

    epsilon: float = 8 / 255
    version: str = "standard"
    norm: str = "linf"
    steps: int | None = None
    queries: int | None = None

    def __post_init__(self) -> None:
        threat.get(self.norm)
        if self.version not in VERSIONS:
            raise UnknownNameError(
                f"Unknown version {self.version!r} of AutoAttack; known: {', '.join(VERSIONS)}"
            )
        self.attacks()

    def attacks(self) -> dict[str, Search]:
        """Returns the attacks by name, in the order in which they run."""
        return {name: self._make(name, options) for name, options in VERSIONS[self.version].items()}

    def _make(self, name: str, options: dict[str, Any]) -> Search:
        budget = {"queries": self.queries} if name == "square" else {"steps": self.steps}
        given = {key: value for key, value in budget.items() if value is not None}
        return _MAKERS[name](epsilon=self.epsilon, norm=self.norm, **{**options, **given})

    def __call__(
        self, logits_fn: LogitsFn, images: tf.Tensor, labels: tf.Tensor, seed: rng.Seed, epsilon: Any = None
    ) -> tf.Tensor:
        """Returns adversarial images of one batch, same shape and dtype, inside the ball and [0, 1].

        The whole batch goes through every attack, so `run` is faster where some examples fall early.
        An example that withstands everything comes back as the last attack's strongest point.

        Args:
          logits_fn: images [B, H, W, C] -> logits [B, K].
          images: natural examples in [0, 1].
          labels: int32 [B].
          seed: int32 [2] from `rng`.
          epsilon: radius for this call, a float or [B]; None means the attack's own.
        """
        result, stands = images, ~misclassified(logits_fn(images), labels)
        for name, attack in self.attacks().items():
            points = attack(logits_fn, images, labels, rng.fold(seed, name), epsilon)
            result = tf.where(threat.wide(stands, points), points, result)
            stands &= ~misclassified(logits_fn(points), labels)
        return result

    def run(
        self,
        logits_fn: LogitsFn,
        images: np.ndarray,
        labels: np.ndarray,
        seed: tf.Tensor,
        *,
        epsilon: Any = None,
        batch_size: int = 64,
        search_fn: LogitsFn | None = None,
        progress: Report | None = None,
        state_path: str | Path | None = None,
        save_every: float = 60.0,
        jit_compile: bool = False,
    ) -> evaluation.Result:
        """Evaluates N images; what has fallen leaves the batches, and every success is verified in float32.

        Args:
          logits_fn: images [B, H, W, C] -> logits [B, K], in float32: it decides what counts as success.
          images: natural examples [N, H, W, C] in [0, 1], float32 (may be memory-mapped).
          labels: int [N].
          seed: int32 [2] from `rng`. What is drawn for an example depends on it and on the example's place
            among the N alone, not on the batch size and not on which other examples still stand.
          epsilon: radius, a float or [N]; None means the attack's own.
          batch_size: examples in one step on the device; memory is bounded by it.
          search_fn: the same network in bfloat16, for the search; None means `logits_fn`.
          progress: called with a `Progress` after every batch, for instance `progress.print_progress`.
          state_path: file to keep the state in; a run that finds its own state there goes on from it. It is
            written after each attack, every `save_every` seconds, and when an exception ends the run, for
            instance one that `progress` raises to stop it.
          save_every: least seconds between two saves inside an attack.
          jit_compile: compile with XLA; the last batch is then padded to full size (as it is on a GPU).

        Raises:
          ValueError: images or labels do not fit, the network computes in float16 (or in bfloat16 where
            it decides), or `state_path` holds the state of another evaluation.
        """
        data = evaluation.examples(images, labels, self.epsilon if epsilon is None else epsilon)
        options = evaluation.Options(batch_size, jit_compile, progress, state_path, save_every)
        networks = evaluation.Networks(logits_fn, search_fn)
        return cascade.run(self.attacks(), self.norm, networks, data, seed, options)
