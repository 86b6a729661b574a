"""Explicit name -> object tables whose entries are imported when they are asked for.

    networks = Table("network", {"small_cnn": "fairat_tf.networks.small_cnn:small_cnn"})
    networks.get("small_cnn")(num_classes=10)

A table is a plain dictionary in the `__init__.py` of its folder: one line for each name,
nothing to register and nothing imported before it is used.
"""

import difflib
import importlib
from collections.abc import Callable, Mapping
from typing import Any


class UnknownNameError(ValueError):
    """A name that its table does not hold; the message lists the known names."""


class Table:
    """Maps names to objects, given as `"module:attribute"`.

    Args:
      kind: what the names stand for, in the singular ("attack"); used in messages.
      entries: name -> "package.module:attribute".
      fallback: called with an unknown name; returns an object, or None where the name has no
        meaning either. Serves families of names such as `wrn_D_W`.
      family: how the message describes the names that `fallback` understands.
    """

    def __init__(
        self,
        kind: str,
        entries: Mapping[str, str],
        fallback: Callable[[str], Any | None] | None = None,
        family: str = "",
    ):
        self.kind = kind
        self._entries = dict(entries)
        self._fallback = fallback
        self._family = family

    def names(self) -> list[str]:
        """Returns the listed names, in the order of the table."""
        return list(self._entries)

    def get(self, name: str) -> Any:
        """Returns the object called `name`.

        Raises:
          UnknownNameError: no such name; the message holds the known ones.
        """
        if name in self._entries:
            module, attribute = self._entries[name].split(":")
            return getattr(importlib.import_module(module), attribute)
        found = self._fallback(name) if self._fallback else None
        if found is None:
            raise UnknownNameError(self._unknown(name))
        return found

    def _unknown(self, name: str) -> str:
        known = ", ".join(self._entries) + (f", {self._family}" if self._family else "")
        close = difflib.get_close_matches(str(name), self._entries, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        return f"Unknown {self.kind} {name!r}; known: {known}.{hint}"
