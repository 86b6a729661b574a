"""What a study found: its runs compared, seed by seed, as text and tables.

print(report(runner))       # also writes summary-STUDY.md and .png, and comparison-STUDY/ beside the runs
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import table

if TYPE_CHECKING:
    from run import Runner

Finished = Mapping[str, Mapping[int, list[Path]]]  # variant -> seed -> evaluations
_VALIDATED = ("val_robust_accuracy", "val_robust_worst_class")


def report(runner: "Runner") -> str:
    """Returns the tables of what is finished, or why there are none yet; writes them too."""
    from fairat_tf import quiet

    quiet.import_tensorflow()
    from fairat_tf.reporting import comparison, files

    runs = [(variant, seed) for variant in runner.study.variants for seed in runner.study.seeds]
    for run in runs:
        runner.keep_results(*run)
    runner.check_seeds()
    finished, name = runner.finished(), runner.study.tables or runner.study.name
    if runner.study.reference not in finished or len(finished) < 2:
        there = ", ".join(finished) or "none"
        return (
            f"No table yet: it needs runs of {runner.study.reference} and of another (finished: {there}).\n"
        )
    found = compared(finished)
    *_, picture = comparison.write(found, runner.work / f"comparison-{name}")
    diverged = {f"{v}-{s}": reason for v, s in runs if (reason := runner.diverged(v, s))}
    costs = {variant: runner.step_seconds(variant) for variant in runner.study.variants}
    text = table.summary(runner.study, found, diverged, costs, _validated(runner, finished))
    for folder in filter(None, (runner.work, runner.kept.folder)):
        folder.mkdir(parents=True, exist_ok=True)
        files.replace(folder / f"summary-{name}.md", text.encode())
        files.replace(folder / f"summary-{name}.png", picture.read_bytes())
    return text


def compared(finished: Finished) -> dict[str, Any]:
    """Returns the comparison of all variants with the first, each over the seeds that it has itself."""
    from fairat_tf.evaluation import comparing

    (first, whole), *others = finished.items()
    found = comparing.compare(comparing.entries({n: list(runs.values()) for n, runs in finished.items()}))
    for name, runs in others:
        if len(runs) < len(whole):
            pair = {first: [whole[seed] for seed in runs], name: list(runs.values())}
            own = comparing.compare(comparing.entries(pair))
            for attack, block in found["attacks"].items():
                block["differences"][name] = own["attacks"][attack]["differences"][name]
            seeds = ", ".join(map(str, runs))
            found["notes"].append(f"{name}: its differences are over seed{'s' * (len(runs) > 1)} {seeds}")
    return found


def _validated(runner: "Runner", finished: Finished) -> dict[str, dict[int, list[float]]]:
    """Returns variant -> seed -> average and worst class on validation; {} where other networks count."""
    trained = runner.study.networks == "last" and not runner.study.evaluate
    return logged(runner, finished, _VALIDATED) if trained else {}


def log_table(runner: "Runner", keys: Sequence[str]) -> str:
    """Returns the table of what training logged under these names, by variant."""
    return table.logged(logged(runner, runner.finished(), keys), keys)


def logged(runner: "Runner", finished: Finished, keys: Sequence[str]) -> dict[str, dict[int, list[float]]]:
    """Returns variant -> seed -> what training logged under each name, of the runs that logged any of them.

    It is the mean over the last epochs, as many as were evaluated; NaN for a name that the run does not have.
    """
    found: dict[str, dict[int, list[float]]] = {}
    for variant, runs in finished.items():
        for seed, evaluated in runs.items():
            rows = runner.log(variant, seed)[-len(evaluated) :]
            if any(key in row for row in rows for key in keys):
                means = [statistics.mean(_number(row.get(key)) for row in rows) for key in keys]
                found.setdefault(variant, {})[seed] = means
    return found


def _number(value: float | None) -> float:
    """Returns what was logged; NaN where it was no number, or not logged."""
    return math.nan if value is None else value
