"""What a check is and what it finds; the checks themselves are in `probes`.

Check("ball", "Are all images inside the ball?", lambda sample: Finding(PASS, "yes"))
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

PASS, WARN, FAIL = 0, 1, 2


@dataclasses.dataclass(frozen=True, eq=False)
class Finding:
    """What a check found.

    Attributes:
      outcome: PASS, WARN or FAIL for the whole; None: not run.
      message: one sentence with the figures.
      classes: int [K], the same for each class; empty if the check cannot tell.
      value: the figures behind it, JSON-able.
    """

    outcome: int | None
    message: str
    classes: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, int))
    value: Any = None

    @property
    def level(self) -> int:
        """The worst of the whole and of the classes; PASS if not run."""
        return max(self.outcome or PASS, int(self.classes.max(initial=PASS)))

    def worst(self, place: int) -> int:
        """The level of one class: its own where classes were told apart, otherwise the whole's."""
        return int(self.classes[place]) if len(self.classes) else self.outcome or PASS


@dataclasses.dataclass(frozen=True)
class Check:
    """A question about the evaluation.

    Attributes:
      name: short, for tables.
      question: for readers who do not know the name.
      run: sample -> Finding.
      full: costs further attacks; left out of quick verdicts.
    """

    name: str
    question: str
    run: Callable[[Any], Finding]
    full: bool = False


def excess(count: Any, total: Any, warn: tuple[int, float], fail: tuple[int, float]) -> np.ndarray:
    """Returns the level of each entry: a limit is reached at (examples, share) and above, both.

    The least number of examples keeps a single example of a small class from being called a share.
    """
    count, total = np.asarray(count), np.asarray(total)
    share = count / np.maximum(total, 1)
    level = np.where((count >= warn[0]) & (share >= warn[1]), WARN, PASS)
    return np.where((count >= fail[0]) & (share >= fail[1]), FAIL, level)
