"""Compares evaluations on the same examples: models, or methods with several seeds each.

    comparison = compare(load(["fair=runs/a,runs/b", "plain=runs/c,runs/d"]))    # two seeds each
    load(["fair=runs/a/last/epoch-0109+runs/a/last/epoch-0110", ...])    # the mean of two networks of a run
    comparison["attacks"]["pgd20"]["differences"]["plain"]["worst_class"]      # value, ci95

The first model is the reference; differences are "other minus first". Only examples that every evaluation
has under an attack are used, and only evaluations of the same examples and threat model are compared.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fairat_tf import errors
from fairat_tf.metrics import intervals, paired
from fairat_tf.metrics.fairness import rho
from fairat_tf.metrics.intervals import percentile
from fairat_tf.reporting import files

DOUBTS = ("suspicious", "unreliable")


@dataclasses.dataclass(frozen=True, eq=False)
class Entry:
    """One model to compare: its name and, for each seed, the evaluations of its networks, arrays included."""

    name: str
    seeds: tuple[tuple[dict[str, Any], ...], ...]

    @property
    def results(self) -> list[dict[str, Any]]:
        """All evaluations of the model."""
        return [result for networks in self.seeds for result in networks]

    def flags(self, attack: str) -> np.ndarray:
        """Returns the share of each seed's networks that are right, [S, N]; NaN where one does not say."""
        return np.stack([_mean_flags(networks, attack) for networks in self.seeds])


def load(arguments: Sequence[str]) -> list[Entry]:
    """Returns the entries named by `DIR`, `NAME=DIR` or `NAME=DIR,DIR,...` (several seeds).

    DIR is the folder of an evaluation, a run directory with `evaluation/` in it, or a packed result
    (`files.write_packed`). Several joined by "+" are networks of one training run, which count as their mean.

    Raises:
      UsageError: fewer than two, or one name twice.
      DataError: no evaluation there, or evaluations that cannot be compared.
    """
    parts = [_parted(argument) for argument in arguments]
    names = [name for name, _ in parts]
    if len(parts) < 2 or len(set(names)) < len(names):
        raise errors.UsageError(f"expected two or more evaluations with different names, got {names}")
    return entries(dict(parts))


def entries(named: Mapping[str, Sequence[Sequence[str | Path]]]) -> list[Entry]:
    """Returns the entries of evaluations by name: of each seed, where those of its networks lie.

    Raises:
      DataError: no evaluation there, or evaluations that cannot be compared.
    """
    found = [
        Entry(name, tuple(tuple(files.read(_folder(f), arrays=True) for f in run) for run in seeds))
        for name, seeds in named.items()
    ]
    first = found[0].results[0]
    for entry in found:
        for result in entry.results:
            check_same(f"{entry.name} was evaluated", result, first, "the first")
    return found


def _parted(argument: str) -> tuple[str, list[list[str]]]:
    """Returns the name and the folders of an argument, [seed][network]."""
    name, equals, paths = argument.partition("=")
    folders = (paths if equals else argument).split(",")
    return name if equals else Path(argument).name or argument, [folder.split("+") for folder in folders]


def _mean_flags(networks: Sequence[dict[str, Any]], attack: str) -> np.ndarray:
    flags = np.stack([result["per_example"][f"correct/{attack}"] for result in networks]).astype(np.float64)
    return np.where(flags < 0, np.nan, flags).mean(axis=0)


def _folder(path: str | Path) -> Path:
    """Returns where the result lies: a run directory's own, otherwise `path` itself."""
    given = Path(path).expanduser()
    inside = given / "evaluation"
    return inside if (inside / files.RESULT).is_file() else given


def check_same(what: str, result: dict[str, Any], first: dict[str, Any], other: str) -> None:
    """Checks that two evaluations are of the same examples, classes and threat model.

    Raises:
      DataError: they are not; `what` is the beginning of its message, `other` names the second one.
    """
    for part, key, differs in (
        ("dataset", "fingerprint", "other examples"),
        ("dataset", "class_names", "other classes"),
        ("threat_model", "norm", "another norm"),
        ("threat_model", "epsilon", "another epsilon"),
    ):
        if result[part].get(key) != first[part].get(key):
            data = [each["dataset"] for each in (result, first)]
            one, two = (f"{own.get('examples')} of {own.get('name')}" for own in data)
            shown = f" ({one} and {two})" if one != two else ""
            raise errors.DataError(
                f"{what} with {differs} than {other}{shown}: evaluate all with the same --dataset, "
                "--examples, --seed, --norm and --epsilon"
            )


def doubt(result: dict[str, Any]) -> str:
    """Returns the verdict of an evaluation that cannot simply be believed (one of `DOUBTS`), otherwise ""."""
    status = result["verdict"]["status"]
    return status if status in DOUBTS else ""


def compare(entries: Sequence[Entry], draws: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Returns {"models", "reference", "class_names", "notes", "attacks": {attack: {...}}}, JSON-able."""
    shared = [
        a
        for a in entries[0].results[0]["attacks"]
        if all(a in r["attacks"] for e in entries for r in e.results)
    ]
    first = entries[0].results[0]["dataset"]
    attacks = {attack: _attack(entries, attack, draws, seed) for attack in shared}
    return {
        "models": [
            {"name": e.name, "seeds": len(e.seeds), "networks": len(e.results) // len(e.seeds)}
            for e in entries
        ],
        "reference": entries[0].name,
        "class_names": first["class_names"],
        "dataset": first.get("name"),
        "notes": _notes(entries) + _agreeing(attacks),
        "attacks": attacks,
    }


def _agreeing(attacks: Mapping[str, Any]) -> list[str]:
    """Returns the note on Student's intervals that are points."""
    spans = [
        row[key]["t95"]
        for block in attacks.values()
        for row in block["differences"].values()
        for key in paired.STATISTICS
        if "t95" in row.get(key, {})
    ]
    if any(high - low < 1e-9 for low, high in spans):
        return [
            "a Student's interval that is a point: its seeds happen to differ alike, which is no certainty"
        ]
    return []


def _notes(entries: Sequence[Entry]) -> list[str]:
    """Returns what a reader must know of the intervals and of the evaluations."""
    runs = [len(entry.seeds) for entry in entries]
    least, most = min(runs), max(runs)
    notes = ["intervals are over examples" + (" and seeds" if most > 1 else " only: one training run each")]
    notes.append(
        "differences of worst class and gap are bootstrapped: rough where several classes are equally weak"
    )
    if most > 1:
        notes += [
            f"{entry.name}: one training run, so its intervals and its differences leave out that of seeds"
            for entry in entries
            if len(entry.seeds) == 1
        ]
    few = min((n for n in runs if n > 1), default=5)
    if few < 5:
        notes.append(f"{few} seeds are few: the bootstrapped intervals of differences are then too narrow")
    if most == least > 1:
        notes.append("t over seeds: paired in the order given, Student's interval of the seeds' differences")
    for entry in entries:
        judged = [verdict for verdict in map(doubt, entry.results) if verdict]
        if judged:
            worst = max(judged, key=DOUBTS.index)
            notes.append(f"{entry.name}: its evaluation was judged {worst}: its robustness may be overrated")
    return notes


def _attack(entries: Sequence[Entry], attack: str, draws: int, seed: int) -> dict[str, Any]:
    labels = entries[0].results[0]["per_example"]["labels"]
    names = entries[0].results[0]["dataset"]["class_names"]
    flags = {entry.name: entry.flags(attack) for entry in entries}
    seen = np.all([np.isfinite(own).all(axis=0) for own in flags.values()], axis=0)
    labels, flags = labels[seen], {name: own[:, seen] for name, own in flags.items()}
    if not len(labels):
        raise errors.DataError(f"{attack}: no example that every evaluation has")
    resampled = paired.resample(flags, labels, len(names), draws, seed)
    reference = entries[0].name
    points = {name: _points(own, labels, len(names)) for name, own in flags.items()}
    return {
        "examples": len(labels),
        "models": {name: _model(own, labels, points[name], names) for name, own in flags.items()},
        "differences": {
            name: _difference(name, reference, flags, points, resampled, labels, names)
            for name in flags
            if name != reference
        },
    }


def _points(flags: np.ndarray, labels: np.ndarray, num_classes: int) -> dict[str, np.ndarray]:
    accuracy = paired.class_accuracy(flags, labels, num_classes)
    weights = np.bincount(labels, minlength=num_classes) / len(labels)
    return {**paired.statistics(accuracy, weights), "per_class": accuracy}


def _model(
    flags: np.ndarray,
    labels: np.ndarray,
    points: dict[str, np.ndarray],
    names: list[str],
) -> dict[str, Any]:
    """Returns values and intervals: of one network those of its evaluation."""
    bounds = _bounds(flags, labels, points, len(names))
    row: dict[str, Any] = {
        key: {
            "value": float(points[key].mean()),
            "ci95": list(bounds[key]),
            "sd_over_seeds": float(points[key].std(ddof=1)) if len(points[key]) > 1 else None,
        }
        for key in paired.STATISTICS
    }
    if not points["average"].all():
        row["nsd"] = {"value": None, "ci95": [None, None], "sd_over_seeds": None}
    per_class = points["per_class"].mean(axis=0)
    return row | {"per_class": {n: _known(value) for n, value in zip(names, per_class, strict=True)}}


def _bounds(
    flags: np.ndarray, labels: np.ndarray, points: dict[str, np.ndarray], num_classes: int
) -> dict[str, tuple[float, float]]:
    """Returns the interval of each of `paired.STATISTICS`; every one holds its value."""
    total = np.bincount(labels, minlength=num_classes)
    right = [np.bincount(labels, weights=own, minlength=num_classes)[total > 0] for own in flags]
    own: dict[str, list[Any]] = {
        "average": [intervals.wilson(counts.sum(), total.sum()) for counts in right],
        "worst_class": [intervals.worst_class_interval(counts, total[total > 0]) for counts in right],
        "worst_three": [intervals.worst_three_interval(counts, total[total > 0]) for counts in right],
        "gap": [intervals.gap_interval(counts, total[total > 0]) for counts in right],
        "nsd": [intervals.nsd_interval(counts, total[total > 0]) for counts in right],
    }
    limits = {"nsd": (0.0, np.inf)}
    return {
        key: intervals.over_seeds(points[key], of_seeds, limits=limits.get(key, (0.0, 1.0)))
        for key, of_seeds in own.items()
    }


def _difference(
    name: str, reference: str, flags: dict, points: dict, draws: dict, labels: np.ndarray, names: list[str]
) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for key in paired.STATISTICS:
        change = draws[name][key] - draws[reference][key]
        value = float(points[name][key].mean() - points[reference][key].mean())
        row[key] = {"value": value, "ci95": list(percentile(change))}
        own, base = points[name][key], points[reference][key]
        if len(own) == len(base) > 1:
            row[key]["t95"] = list(paired.over_pairs(own - base))
            row[key]["detectable"] = paired.detectable(own - base)
        row[key]["beyond_chance"] = all(_without_zero(*row[key][i]) for i in ("ci95", "t95") if i in row[key])
    if not (points[name]["average"].all() and points[reference]["average"].all()):
        row["nsd"] = {"value": None, "ci95": [None, None], "beyond_chance": False}
    mean = {
        m: {key: float(points[m][key].mean()) for key in ("average", "worst_class")}
        for m in (name, reference)
    }
    row["rho"] = rho(*mean[name].values(), *mean[reference].values())
    row["per_class"] = _classes(flags[name], flags[reference], draws[name], draws[reference], labels, names)
    return row


def _classes(
    own: np.ndarray, base: np.ndarray, own_draws: dict, base_draws: dict, labels: np.ndarray, names: list[str]
) -> dict[str, Any]:
    """Returns the difference of each class; McNemar's test only where both models are one network.

    `beyond_chance` holds for all classes at once: Holm's p-value below 5 %, else Bonferroni's interval, also
    that over paired seeds where there are some.
    """
    rows: dict[str, Any] = {}
    single = _one_network(own) and _one_network(base)
    present = [c for c in range(len(names)) if np.any(labels == c)]
    for c in present:
        a, b = own[:, labels == c], base[:, labels == c]
        change = own_draws["per_class"][:, c] - base_draws["per_class"][:, c]
        row: dict[str, Any] = {"value": float(a.mean() - b.mean()), "ci95": list(percentile(change))}
        row["beyond_chance"] = _without_zero(*percentile(change, 1 - 0.05 / len(present)))
        if len(a) == len(b) > 1:
            runs = a.mean(axis=1) - b.mean(axis=1)
            row["t95"] = list(paired.over_pairs(runs))
            row["beyond_chance"] &= _without_zero(*paired.over_pairs(runs, 1 - 0.05 / len(present)))
        if single:
            better, worse = int((a > b).sum()), int((a < b).sum())
            row |= {"better": better, "worse": worse, "p": paired.mcnemar(better, worse)}
        rows[names[c]] = row
    if single:
        adjusted = paired.holm([row["p"] for row in rows.values()])
        for row, p in zip(rows.values(), adjusted, strict=True):
            row["p_holm"], row["beyond_chance"] = p, p < 0.05
    return rows


def _without_zero(low: float, high: float) -> bool:
    """Returns whether the interval lies on one side of 0, by more than rounding."""
    return bool(low > 1e-9 or high < -1e-9)


def _one_network(flags: np.ndarray) -> bool:
    """Returns whether flags [S, N] are those of a single network: one seed, each example right or wrong."""
    return len(flags) == 1 and bool(np.isin(flags, (0.0, 1.0)).all())


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
