"""Robust accuracy by group of people (or of anything): an attribute beside the class.

    codes, names = coded(split.groups["Male"], rows, dataset.group_names.get("Male", ()), "Male")
    result["groups"] = by_group(result, codes, name="Male", value_names=names)
    result["groups"]["attacks"]["pgd20"]["disparity"]        # best minus worst group, with its interval

Every group is shown with its size, however small; below `summary.FEW` examples it is marked, since its
interval then says little. A group that no evaluated example belongs to is listed with total 0.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fairat_tf import errors
from fairat_tf.evaluation.summary import FEW
from fairat_tf.metrics import intervals

MOST = 200
"""More groups than this are no groups of people: a table of them says nothing."""


def coded(
    column: np.ndarray, chosen: np.ndarray, value_names: Sequence[str], name: str
) -> tuple[np.ndarray, list[str]]:
    """Returns the group of each chosen example, int [N] from 0, and the names of all groups.

    Args:
      column: int [all], the column of the whole split, which decides what groups there are.
      chosen: int [N], the column of the examples that are evaluated.
      value_names: names of the values 0, 1, ...; a value beyond them goes by its number.
      name: of the column.

    Raises:
      UsageError: more than `MOST` groups.
    """
    values = np.union1d(np.arange(len(value_names)), column)
    if len(values) > MOST:
        raise errors.UsageError(
            f"--group_by={name}: {len(values)} values, at most {MOST} can be shown; choose another column"
        )
    names = [value_names[v] if 0 <= v < len(value_names) else str(v) for v in values.tolist()]
    return np.searchsorted(values, chosen), names


def column_names(values: np.ndarray, names: Sequence[str] | None = None) -> list[str]:
    """Returns a name for each value 0 .. max of an integer column."""
    highest = int(np.max(values, initial=0))
    return list(names) if names and len(names) > highest else [str(value) for value in range(highest + 1)]


def by_group(
    result: Mapping[str, Any], column: np.ndarray, name: str, value_names: Sequence[str] | None = None
) -> dict[str, Any]:
    """Returns {"by", "sizes", "few", "small", "attacks": {attack: {...}}}, as the module shows.

    Args:
      result: of an evaluation, with `per_example`.
      column: int [N], the group of each evaluated example, from 0.
      name: of the attribute.
      value_names: names of its values; their numbers if not given.

    Raises:
      UsageError: the column does not fit the examples.
    """
    labels = result["per_example"]["labels"]
    column = np.asarray(column)
    if (
        column.shape != labels.shape
        or not np.issubdtype(column.dtype, np.integer)
        or column.min(initial=0) < 0
    ):
        raise errors.UsageError(
            f"--group_by={name}: expected integers from 0, one for each of {len(labels)} examples, "
            f"got {column.dtype} {list(column.shape)}"
        )
    names = column_names(column, value_names)
    sizes = np.bincount(column, minlength=len(names))
    return {
        "by": name,
        "sizes": dict(zip(names, sizes.tolist(), strict=True)),
        "few": FEW,
        "small": [group for group, size in zip(names, sizes, strict=True) if size < FEW],
        "attacks": {attack: _attack(result, attack, column, names) for attack in result["attacks"]},
    }


def _attack(result: Mapping[str, Any], attack: str, column: np.ndarray, names: list[str]) -> dict[str, Any]:
    labels = result["per_example"]["labels"]
    flags = result["per_example"][f"correct/{attack}"]
    seen = flags >= 0
    classes = result["dataset"]["class_names"]
    cells = np.zeros((2, len(classes), len(names)), np.int64)
    np.add.at(cells[0], (labels[seen], column[seen]), flags[seen])
    np.add.at(cells[1], (labels[seen], column[seen]), 1)
    right, total = cells.sum(axis=1)
    present = np.flatnonzero(total)
    accuracy = right[present] / total[present]
    shown = right[present], total[present]
    return {
        "per_group": _table(right, total, names),
        "per_class_and_group": {
            label: _table(cells[0, c], cells[1, c], names) for c, label in enumerate(classes)
        },
        "disparity": {"value": float(np.ptp(accuracy)), "ci95": list(intervals.gap_interval(*shown))},
        "worst_group": {
            "name": names[present[int(np.argmin(accuracy))]],
            "accuracy": float(accuracy.min()),
            "ci95": list(intervals.worst_class_interval(*shown)),
        },
    }


def _table(right: np.ndarray, total: np.ndarray, names: list[str]) -> dict[str, Any]:
    low, high = intervals.wilson(right, total)
    return {
        name: {
            "accuracy": float(right[g] / total[g]) if total[g] else None,
            "ci95": [float(low[g]), float(high[g])],
            "correct": int(right[g]),
            "total": int(total[g]),
        }
        for g, name in enumerate(names)
    }
