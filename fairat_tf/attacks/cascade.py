"""Runs attacks one after the other over any number of images; decided examples leave the batches.

    data = evaluation.examples(images, labels, epsilon=8 / 255)
    result = run(attacks, "linf", Networks(logits_fn), data, seed, Options())

Between rounds (one target, one restart, some hundred queries) the examples that still stand are packed
into full batches again. One graph serves all batches of an attack. `AutoAttack.run` is the way in.
"""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from fairat_tf import rng
from fairat_tf.attacks import cascade_state, threat, verification
from fairat_tf.attacks.evaluation import Examples, Networks, Options, Result
from fairat_tf.attacks.pgd import LogitsFn, misclassified
from fairat_tf.attacks.progress import Progress
from fairat_tf.attacks.search import Search

# Random draws are made for this many places, and example n takes those of place n modulo it: what an
# example meets depends on neither the batch size nor on what else still stands. (The authors' suite, too,
# gives the same draws to every batch when a seed is set.)
PLACES = 256
_PROBE = 32


def run(
    attacks: dict[str, Search],
    norm: str,
    networks: Networks,
    data: Examples,
    seed: tf.Tensor,
    options: Options,
) -> Result:
    """Returns what is left after the attacks, in their order; see `AutoAttack.run`."""
    shape = data.images.shape[1:]
    num_classes = verification.require_precision(networks.judge, shape, allowed=())
    if networks.search is not None:
        verification.require_precision(networks.search, shape, allowed=("bfloat16",))
    if data.labels.min() < 0 or data.labels.max() >= num_classes:
        raise ValueError(
            f"labels must be in 0 ... {num_classes - 1}; received {data.labels.min()} ... {data.labels.max()}"
        )
    if options.batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; received {options.batch_size!r}")
    return _Cascade(attacks, norm, networks, data, seed, options, num_classes).run()


class _Cascade:
    def __init__(
        self,
        attacks: dict[str, Search],
        norm: str,
        networks: Networks,
        data: Examples,
        seed: tf.Tensor,
        options: Options,
        num_classes: int,
    ):
        self.attacks, self.norm, self.networks = attacks, norm, networks
        self.data, self.seed, self.options, self.num_classes = data, seed, options, num_classes
        self.verifier = verification.Verifier(networks.judge, norm)
        self.padded = options.jit_compile or bool(tf.config.list_physical_devices("GPU"))
        self.adversarial = np.array(data.images, np.float32)
        self.points: np.ndarray | None = None
        self.robust = np.zeros(len(data.labels), bool)
        self.answers = np.array(data.labels, np.int32)
        self.robust_after: dict[str, np.ndarray] = {}
        self.not_finite: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self.pending = np.zeros(0, np.int64)
        self.round = self.done = 0
        self.began = self.saved = time.monotonic()
        self.work = 0.0

    def run(self) -> Result:
        self._begin()
        try:
            for name, attack in self.attacks.items():
                if name not in self.robust_after:
                    self._run_attack(name, attack)
        except BaseException:
            self._save(now=True)
            raise
        return Result(
            self.adversarial,
            self.robust,
            self.robust_after,
            self.data.labels,
            self.answers,
            {name: self.not_finite.get(name, 0) for name in self.attacks},
            {name: self.seconds.get(name, 0.0) for name in self.attacks},
        )

    def _begin(self) -> None:
        """Goes on from a saved state, or classifies the natural images."""
        self.probe = self.verifier.logits(self.data.images[:_PROBE])
        again = self.verifier.logits(self.data.images[:_PROBE])
        if not np.array_equal(self.probe, again):
            self.probe = self.probe[:0]
        if self.options.state_path is not None:
            self.fingerprint = self._fingerprint()
            if self._restore():
                return
        for first in range(0, len(self.robust), self.options.batch_size):
            rows = np.arange(first, min(first + self.options.batch_size, len(self.robust)))
            checked = self._verify(rows, self.data.images[rows])
            self.robust[rows], self.answers[rows] = ~checked.fooled, checked.answers
        self.robust_after["clean"] = self.robust.copy()
        self.pending = np.flatnonzero(self.robust)

    def _run_attack(self, name: str, attack: Search) -> None:
        search = exact = self._graph(name, attack, self.networks.search or self.networks.judge)
        if self.networks.search is not None:
            exact = self._graph(name, attack, self.networks.judge)
        if attack.continues and self.points is None:
            self.points = np.array(self.data.images, np.float32)
        rounds = attack.rounds(self.num_classes)
        while self.round < rounds and len(self.pending):
            for rows in self._batches():
                begun = time.monotonic()
                before = None if self.points is None else self.points[rows].copy()
                denied = self._attack_rows(name, search, rows)
                if len(denied) and exact is not search:
                    if self.points is not None and before is not None:  # the round is repeated, not added
                        self.points[denied] = before[np.isin(rows, denied)]
                    self._attack_rows(name, exact, denied)
                self.done += len(rows)
                self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - begun
                self.work += len(rows) * attack.passes(self.num_classes)
                self._report(name, rounds)
                self._save()
            self.round, self.done, self.pending = self.round + 1, 0, np.flatnonzero(self.robust)
        self.robust_after[name] = self.robust.copy()
        self.round, self.points = 0, None
        self._save(now=True)

    def _graph(self, name: str, attack: Search, logits_fn: LogitsFn) -> Any:
        key, shape = rng.fold(self.seed, name), self.data.images.shape[1:]
        size = self.options.batch_size if self.padded else None
        return _graph(attack, self.norm, logits_fn, key, shape, size, self.options.jit_compile)

    def _batches(self) -> Iterator[np.ndarray]:
        while self.done < len(self.pending):
            yield self.pending[self.done : self.done + self.options.batch_size]

    def _attack_rows(self, name: str, search: Any, rows: np.ndarray) -> np.ndarray:
        """Attacks the examples in one batch; returns those whose success the judge denies."""
        size = len(rows)
        if self.padded:
            rows = np.concatenate([rows, np.full(self.options.batch_size - size, rows[0])])
        images = np.asarray(self.data.images[rows], np.float32)
        points = images if self.points is None else self.points[rows]
        found, claimed = search(
            images, points, self.data.labels[rows], self.data.epsilon[rows], rows, self.round
        )
        rows, found, claimed = rows[:size], found.numpy()[:size], claimed.numpy()[:size]
        checked = self._verify(rows, found)
        fallen = rows[checked.fooled]
        self.adversarial[fallen] = checked.adversarial[checked.fooled]
        self.robust[fallen], self.answers[fallen] = False, checked.answers[checked.fooled]
        if self.points is not None:
            self.points[rows] = checked.adversarial
        self.not_finite[name] = self.not_finite.get(name, 0) + int((~checked.finite).sum())
        return rows[claimed & ~checked.fooled]

    def _verify(self, rows: np.ndarray, points: np.ndarray) -> verification.Verified:
        return self.verifier(self.data.images[rows], points, self.data.labels[rows], self.data.epsilon[rows])

    def _report(self, name: str, rounds: int) -> None:
        if self.options.progress is None:
            return
        seconds = time.monotonic() - self.began
        left = seconds / self.work * self._work_left(name)
        accuracy = float(self.robust.mean())
        self.options.progress(
            Progress(name, self.round + 1, rounds, self.done, len(self.pending), accuracy, seconds, left)
        )

    def _work_left(self, name: str) -> float:
        """Returns the forward passes left where nothing else falls."""
        standing, names = int(self.robust.sum()), list(self.attacks)
        now = self.attacks[name]
        rounds_left = now.rounds(self.num_classes) - self.round - 1
        work = now.passes(self.num_classes) * (len(self.pending) - self.done + rounds_left * standing)
        for later in (self.attacks[other] for other in names[names.index(name) + 1 :]):
            work += later.passes(self.num_classes) * later.rounds(self.num_classes) * standing
        return work

    def _fingerprint(self) -> str:
        arrays = (self.data.images, self.data.labels, self.data.epsilon, np.asarray(self.seed))
        return cascade_state.fingerprint(arrays, repr(self.attacks), self.norm)

    def _save(self, now: bool = False) -> None:
        if self.options.state_path is None:
            return
        if not now and time.monotonic() - self.saved < self.options.save_every:
            return
        fallen = np.flatnonzero(self.robust_after["clean"] & ~self.robust)
        standing = np.flatnonzero(self.robust)
        arrays = {
            "probe": self.probe,
            "robust": self.robust,
            "answers": self.answers,
            "pending": self.pending,
            "adversarial": self.adversarial[fallen],
            "points": np.zeros(0, np.float32) if self.points is None else self.points[standing],
            **{f"after/{name}": flags for name, flags in self.robust_after.items()},
        }
        header = {
            "fingerprint": self.fingerprint,
            "round": self.round,
            "done": self.done,
            "continues": self.points is not None,
            "not_finite": self.not_finite,
            "seconds": self.seconds,
            "after": list(self.robust_after),
        }
        cascade_state.save(self.options.state_path, arrays, header)
        self.saved = time.monotonic()

    def _restore(self) -> bool:
        """Returns whether there was a state to go on from."""
        found = cascade_state.load(self.options.state_path) if self.options.state_path else None
        if found is None:
            return False
        arrays, header = found
        if "answers" not in arrays:  # of a version before it was kept
            return False
        if header["fingerprint"] != self.fingerprint or not _alike(arrays["probe"], self.probe):
            raise cascade_state.OtherStateError(
                f"{self.options.state_path} holds the state of another evaluation (other images, labels, "
                "attack, seed or network); give another state_path or remove the file"
            )
        self.robust, self.pending, self.answers = (arrays[key] for key in ("robust", "pending", "answers"))
        self.robust_after = {name: arrays[f"after/{name}"] for name in header["after"]}
        self.round, self.done = header["round"], header["done"]
        self.not_finite, self.seconds = header["not_finite"], header["seconds"]
        self.adversarial[self.robust_after["clean"] & ~self.robust] = arrays["adversarial"]
        if header["continues"]:
            self.points = np.array(self.data.images, np.float32)
            self.points[self.robust] = arrays["points"]
        return True


def _alike(kept: np.ndarray, now: np.ndarray) -> bool:
    """Returns whether two probes are of one network; one that is empty (answers at random) says nothing."""
    if not len(kept) or not len(now):
        return True
    return kept.shape == now.shape and np.allclose(kept, now, rtol=1e-3, atol=1e-3, equal_nan=True)


def _graph(
    attack: Search,
    norm: str,
    logits_fn: LogitsFn,
    key: tf.Tensor,
    image_shape: tuple[int, ...],
    batch_size: int | None,
    jit_compile: bool,
) -> Any:
    """Returns one graph for a round of the attack: arrays -> (points, misclassified there).

    `batch_size` None is a graph for batches of any size.
    """

    def attack_batch(
        images: tf.Tensor,
        points: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        rows: tf.Tensor,
        number: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        ball = threat.get(norm)(images, epsilon)
        seed = rng.Rows(key, rows % PLACES, PLACES)
        found = attack.round(logits_fn, ball, labels, seed, number, points)
        return found, misclassified(logits_fn(found), labels)

    batch = [batch_size]
    signature = (
        *[tf.TensorSpec([batch_size, *image_shape], tf.float32)] * 2,
        tf.TensorSpec(batch, tf.int32),
        tf.TensorSpec(batch, tf.float32),
        tf.TensorSpec(batch, tf.int32),
        tf.TensorSpec([], tf.int32),
    )
    graph = tf.function(attack_batch, signature, autograph=False, jit_compile=jit_compile)

    def search(images: Any, points: Any, labels: Any, epsilon: Any, rows: Any, number: int) -> Any:
        images, points, epsilon = (tf.constant(value, tf.float32) for value in (images, points, epsilon))
        labels, rows, number = (tf.constant(value, tf.int32) for value in (labels, rows, number))
        return graph(images, points, labels, epsilon, rows, number)

    return search
