"""Several machines that train together, each by the same command line: who they are, who is missing.

    cluster = Cluster.from_environment()            # of TF_CONFIG; None: this process trains alone
    watch = cluster.gather(seconds=300)             # all are there, or errors.WorkerMissing
    team = Team(devices.strategy("all"), cluster, watch)
    stop, save, look = team.agree("SIGTERM", False, True)

TensorFlow waits for ever for a worker that never comes, or that is gone, and hears no signal while it waits.
So the workers look for each other before TensorFlow starts, and a thread looks at their ports while it
computes: where one does not answer any more, it ends this process with one line and exit code 75.
"""

import dataclasses
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fairat_tf import errors

_REASONS = ("SIGTERM", "SIGUSR1", "Ctrl-C", "a worker was stopped")
_EXAMPLE = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'
_POLL_SECONDS = 0.5
_GONE_SECONDS = 3.0  # a port that refuses for so long, once training goes, belongs to a process that ended


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The workers' addresses "host:port", the chief's first, and which of them this process is."""

    addresses: tuple[str, ...]
    index: int

    @classmethod
    def from_environment(cls) -> "Cluster | None":
        """Returns the cluster of TF_CONFIG; None where there is none, or of one worker only.

        Raises:
          ValueError: TF_CONFIG is not what TensorFlow documents, or names tasks that do not train.
        """
        text = os.environ.get("TF_CONFIG", "")
        if not text:
            return None
        try:
            known = json.loads(text)
            jobs, task = known["cluster"], known["task"]
            chiefs, others = jobs.get("chief", []), jobs.get("worker", [])
            index = int(task["index"]) + (len(chiefs) if task["type"] == "worker" else 0)
            addresses = tuple(map(str, [*chiefs, *others]))
            fits = task["type"] in ("chief", "worker") and set(jobs) <= {"chief", "worker"}
            ports = [int(address.rpartition(":")[2]) for address in addresses]
            if not fits or not 0 <= index < len(ports):
                raise ValueError("tasks must be chief or worker, and the index one of them")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"TF_CONFIG cannot be used ({error}); expected like {_EXAMPLE}") from error
        return cls(addresses, index) if len(addresses) > 1 else None

    @property
    def others(self) -> list[int]:
        """The numbers of the other workers."""
        return [i for i in range(len(self.addresses)) if i != self.index]

    def name(self, index: int) -> str:
        """Returns how a message names a worker."""
        return f"worker {index} ({self.addresses[index]})"

    def answers(self, index: int, seconds: float = 2.0) -> bool | None:
        """Returns whether a process listens at the address of a worker; None: it cannot be told.

        A port that refuses is a process that ended. No answer at all, or a name that is not found at the
        moment, is a network that is slow.
        """
        host, _, port = self.addresses[index].rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), seconds).close()
        except (ConnectionRefusedError, ConnectionResetError):
            return False
        except OSError:
            return None
        return True

    def gather(self, seconds: float, stopping: Callable[[], str] = lambda: "") -> "Watch":
        """Waits until all workers were seen, then watches them.

        Args:
          seconds: how long to wait for the last of them.
          stopping: asked meanwhile; returns a reason to give up.

        Raises:
          errors.WorkerMissing: one of them did not come.
          errors.Interrupted: `stopping` gave a reason.
          errors.StorageError: the own port is in use.
        """
        port = int(self.addresses[self.index].rpartition(":")[2])
        with socket.socket() as own:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                own.bind(("", port))
            except OSError as error:
                raise errors.StorageError(
                    f"port {port} of {self.name(self.index)}: {error.strerror}"
                ) from error
            own.listen(len(self.addresses))
            self._wait(time.monotonic() + seconds, seconds, stopping)
        return Watch(self, seconds)

    def _wait(self, until: float, seconds: float, stopping: Callable[[], str]) -> None:
        missing = self.others
        while missing := [index for index in missing if not self.answers(index)]:
            if reason := stopping():
                raise errors.Interrupted(f"{reason}: nothing was trained yet; the same command begins again")
            if time.monotonic() > until:
                names = ", ".join(map(self.name, missing))
                raise errors.WorkerMissing(
                    f"{names} did not come within {seconds:g} s; start the same command on every worker of "
                    "TF_CONFIG (--worker_timeout waits longer)"
                )
            time.sleep(_POLL_SECONDS)


class Watch:
    """A thread that ends the process when another worker is gone.

    Args:
      cluster: the workers.
      seconds: how long a port may be closed while TensorFlow starts; a few seconds from `settled` on.
    """

    def __init__(self, cluster: Cluster, seconds: float):
        self._cluster, self._patience, self._limit = cluster, seconds, seconds
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="watch over workers", daemon=True).start()

    def settled(self) -> None:
        """Tells that all workers train: from now on a closed port is a process that ended."""
        self._patience = min(_GONE_SECONDS, self._limit)

    def stop(self) -> None:
        """Ends the watch: the others may leave."""
        self._ended.set()

    def _run(self) -> None:
        seen = dict.fromkeys(self._cluster.others, time.monotonic())
        while not self._ended.wait(_POLL_SECONDS):
            for index in seen:
                found = self._cluster.answers(index, self._limit)
                patience = self._limit if found is None else self._patience
                if found:
                    seen[index] = time.monotonic()
                elif time.monotonic() - seen[index] > patience and not self._ended.is_set():
                    self._end(index)

    def _end(self, index: int) -> None:
        error = errors.WorkerMissing(
            f"{self._cluster.name(index)} is gone; start the same command on every worker: training goes on "
            "from the last checkpoint"
        )
        print(f"\nfairat_tf: {error}", file=sys.stderr, flush=True)
        os._exit(error.exit_code)


class Team:
    """What the workers of a run decide and collect together; one process alone is a team as well.

    Args:
      strategy: over all devices of all workers.
      cluster: the workers; None: one process.
      watch: what to end when the work is done.

    Attributes:
      count: number of workers.
      index: which of them this process is.
      chief: whether it is the one that writes.
      first_replica: number of its first replica among all.
    """

    def __init__(
        self, strategy: tf.distribute.Strategy, cluster: Cluster | None = None, watch: Watch | None = None
    ):
        self.strategy, self._watch = strategy, watch
        self.count, self.index = (len(cluster.addresses), cluster.index) if cluster else (1, 0)
        self.chief = self.index == 0
        self.local_replicas = strategy.num_replicas_in_sync // self.count
        self.first_replica = self.index * self.local_replicas
        self._sum: Any = tf.function(self._summed, autograph=False)
        self._collect: Any = tf.function(self._collected, autograph=False, reduce_retracing=True)

    def agree(self, stop: str = "", save: bool = False, look: bool = False) -> tuple[str, bool, bool]:
        """Returns what all do after a step: a reason to stop that any has, the chief's save and look."""
        if self.count == 1:
            return stop, save, look
        told = [name == stop for name in _REASONS[:-1]]
        told.append(bool(stop) and not any(told))
        wishes = self.total([*told, self.chief and save, self.chief and look])
        if self._watch:
            self._watch.settled()
        reason = next((name for name, count in zip(_REASONS, wishes, strict=False) if count), "")
        return reason, bool(wishes[-2]), bool(wishes[-1])

    def total(self, values: Sequence[Any]) -> np.ndarray:
        """Returns the sum of the values over all replicas, float64, on every worker."""
        if self.count == 1:
            return self.local_replicas * np.asarray(values, np.float64)
        return self._sum(tf.constant(np.asarray(values, np.float64))).numpy()

    def same(self, what: str, number: int) -> None:
        """Makes sure that all workers have the same number (a hash, a step).

        Raises:
          errors.UsageError: they do not; `what` says what differs.
        """
        parts = np.array([number >> shift & 0xFFFF for shift in (0, 16, 32, 48)], np.float64)
        means = self.total([*parts, *parts**2]) / self.strategy.num_replicas_in_sync  # exact: small integers
        if not np.array_equal(means, [*parts, *parts**2]):
            raise errors.UsageError(f"the workers do not have the same {what}")

    def of_all_replicas(self, variables: Sequence[Any]) -> list[np.ndarray]:
        """Returns the values of variables that each replica keeps for itself, [replicas, ...] each."""
        return [value.numpy() for value in self._collect(list(variables))] if variables else []

    def batches(self, batches: tf.data.Dataset) -> Any:
        """Returns an iterable over global batches, cut for the replicas: replica r takes the r-th part."""
        if self.strategy.num_replicas_in_sync == 1:
            return batches
        if self.count == 1:
            return self.strategy.experimental_distribute_dataset(batches)
        return self.strategy.distribute_datasets_from_function(lambda _: batches.flat_map(self._own_parts))

    def part(self) -> None:
        """Lets the workers leave each other, all at this point."""
        if self.count > 1:
            self.total([1])
        if self._watch:
            self._watch.stop()

    def _own_parts(self, batch: dict[str, tf.Tensor]) -> tf.data.Dataset:
        def own(values: tf.Tensor) -> tf.Tensor:
            size = values.shape[0] // self.strategy.num_replicas_in_sync
            parts = tf.reshape(values, [-1, size, *values.shape[1:]])
            return parts[self.first_replica : self.first_replica + self.local_replicas]

        return tf.data.Dataset.from_tensor_slices({name: own(values) for name, values in batch.items()})

    def _summed(self, values: tf.Tensor) -> tf.Tensor:
        def on_replica(own: tf.Tensor) -> tf.Tensor:
            return _context().all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(own))

        return self.strategy.experimental_local_results(self.strategy.run(on_replica, args=(values,)))[0]

    def _collected(self, variables: list[Any]) -> list[tf.Tensor]:
        def on_replica() -> list[tf.Tensor]:
            return [_context().all_gather(tf.convert_to_tensor(v)[None], axis=0) for v in variables]

        return [self.strategy.experimental_local_results(v)[0] for v in self.strategy.run(on_replica)]


def _context() -> Any:
    return tf.distribute.get_replica_context()
