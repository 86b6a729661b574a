"""What a study is: the TOML file that `run.py` describes, read and checked.

study = Study.read(Path("tools/studies/methods_small.toml"))
"""

import dataclasses
import string
import tomllib
from pathlib import Path
from typing import Any

from fairat_tf import errors

_FIELDS = {"reference", "seeds", "flags", "attacks", "networks", "variants"}
_NETWORKS = ("best", "last", "final")


@dataclasses.dataclass(frozen=True)
class Study:
    """What a study file says; `variants` maps a name to the flags that make it differ.

    `evaluate`, if there, are the flags of an evaluation of the trained networks, in place of training's own.
    """

    name: str
    reference: str
    seeds: tuple[int, ...]
    flags: tuple[str, ...]
    attacks: tuple[str, ...]
    networks: str
    variants: dict[str, tuple[str, ...]]
    evaluate: tuple[str, ...] = ()
    tables: str = ""  # name of what the report writes; that of the study if empty

    @classmethod
    def read(cls, path: Path) -> "Study":
        """Returns the study of a TOML file; its name is the file's.

        Raises:
          UsageError: no such file, not TOML, or a field missing, unknown or wrong.
        """
        try:
            found = tomllib.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise errors.UsageError(f"{path} cannot be read as a study: {error}") from error
        if set(found) - {"evaluate"} != _FIELDS:
            raise errors.UsageError(f"{path}: expected {sorted(_FIELDS)}, received {sorted(found)}")
        _check_types(path, found)
        variants = {name: tuple(flags) for name, flags in found.pop("variants").items()}
        texts = {name: found.pop(name) for name in ("reference", "networks")}
        study = cls(path.stem, **texts, variants=variants, **{k: tuple(v) for k, v in found.items()})
        if study.reference not in variants or not study.seeds or study.networks not in _NETWORKS:
            raise errors.UsageError(
                f"{path}: reference must be one of the variants, seeds not empty, networks one of {_NETWORKS}"
            )
        return study

    def beside(self, reference: str) -> "Study":
        """Returns the study with another variant to compare with, and tables of their own name.

        Raises:
          UsageError: a name that the study does not have.
        """
        if reference not in self.variants:
            there = ", ".join(self.variants)
            raise errors.UsageError(f"--reference: no variant {reference}; there are {there}")
        tables = f"{self.tables or self.name}-beside-{reference}"
        return dataclasses.replace(self, reference=reference, tables=tables)

    def seeded(self, text: str) -> "Study":
        """Returns the study with the seeds named with commas, and tables of their own name.

        Raises:
          UsageError: not whole numbers from 0 on, or the same one twice.
        """
        names = text.split(",")
        seeds = tuple(int(name) for name in names if name.isdecimal())
        if len(set(seeds)) < len(names):
            raise errors.UsageError(
                f"--seeds: expected different whole numbers, as in 0,1, received {text!r}"
            )
        return dataclasses.replace(self, seeds=seeds, tables="-".join([self.name, "seeds", *map(str, seeds)]))

    def needed(self, variant: str) -> list[str]:
        """Returns the variants whose networks this one takes: those in braces in its flags."""
        parsed = [part for flag in self.variants[variant] for part in string.Formatter().parse(flag)]
        return [name for _, name, _, _ in parsed if name]

    def chosen(self, only: str) -> tuple[str, ...]:
        """Returns the variants named with commas; none for an empty text.

        Raises:
          UsageError: a name that the study does not have.
        """
        names = tuple(filter(None, only.split(",")))
        unknown = [name for name in names if name not in self.variants]
        if unknown:
            there = ", ".join(self.variants)
            raise errors.UsageError(f"--only: no variant {', '.join(unknown)}; there are {there}")
        return names


def _check_types(path: Path, found: dict[str, Any]) -> None:
    lists = {name: found[name] for name in ("flags", "attacks", "evaluate") if name in found}
    if isinstance(found["variants"], dict):
        lists |= {f"variants.{name}": flags for name, flags in found["variants"].items()}
    wrong = [name for name, value in lists.items() if not _list_of(str, value)]
    wrong += [] if _list_of(int, found["seeds"]) else ["seeds"]
    wrong += [] if isinstance(found["variants"], dict) else ["variants"]
    if wrong:
        raise errors.UsageError(
            f"{path}: {', '.join(wrong)}: expected lists, of whole numbers for seeds, else of texts"
        )


def _list_of(kind: type, value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)
