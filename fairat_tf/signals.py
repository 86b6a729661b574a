"""Stopping a program that saves before it ends.

with StopSignals() as stop:
    for work in pieces:
        do(work)
        if stop.reason():
            save()
            raise errors.Interrupted(stop.reason())
"""

import signal
from typing import Any

from fairat_tf import errors

_WATCHED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class StopSignals:
    """While used as a context, SIGTERM, SIGUSR1 and Ctrl-C are noted; a second Ctrl-C leaves at once."""

    def __init__(self) -> None:
        self._reason = ""
        self._message = ""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        self._before = {number: signal.signal(number, self._note) for number in _WATCHED}
        return self

    def listen_again(self) -> None:
        """Takes the signals back: TensorFlow's runtime for several workers puts a handler in their place."""
        for number in _WATCHED:
            signal.signal(number, self._note)

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def reason(self) -> str:
        """Returns why to stop ("Ctrl-C", "SIGTERM", ...), or "" while nothing asked for it."""
        return self._reason

    def raise_from_now_on(self, message: str) -> None:
        """Makes the next signal raise `errors.Interrupted(message)`: for work whose state is always on disk.

        Raises:
          errors.Interrupted: a signal has come already.
        """
        self._message = message
        if self._reason:
            raise errors.Interrupted(f"{self._reason}: {message}")

    def note_from_now_on(self) -> None:
        """Takes `raise_from_now_on` back: for work that looks at `reason` and saves what is done."""
        self._message = ""

    def _note(self, number: int, frame: Any) -> None:
        if number == signal.SIGINT and self._reason:
            raise KeyboardInterrupt
        self._reason = name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        if self._message:
            raise errors.Interrupted(f"{name}: {self._message}")
