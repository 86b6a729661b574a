"""How far a long evaluation is: robust accuracy so far and time left.

attack.run(logits_fn, images, labels, seed, progress=print_progress)
"""

import dataclasses
import sys
from collections.abc import Callable
from typing import TypeAlias


@dataclasses.dataclass(frozen=True)
class Progress:
    """One moment of an evaluation.

    Attributes:
      attack: name of the attack that runs.
      round: its round, counted from 1.
      rounds: how many rounds it has.
      done: examples of this round that are done.
      total: examples of this round.
      robust_accuracy: fraction of all examples that still stands, in [0, 1].
      seconds: time since this process began the evaluation.
      seconds_left: time left if nothing else falls, so at most about that.
    """

    attack: str
    round: int
    rounds: int
    done: int
    total: int
    robust_accuracy: float
    seconds: float
    seconds_left: float


Report: TypeAlias = Callable[[Progress], None]


def print_progress(now: Progress) -> None:
    """Writes the progress over the same line of standard error."""
    bar = ("#" * round(20 * now.done / max(now.total, 1))).ljust(20, ".")
    line = (
        f"{now.attack} {now.round}/{now.rounds} [{bar}] {now.done}/{now.total}  "
        f"robust {100 * now.robust_accuracy:.2f} %  {_duration(now.seconds)} so far, at most "
        f"{_duration(now.seconds_left)} left"
    )
    print(f"\r{line:<100}", end="", file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
