"""Runs a study: variants of a training run, each with several seeds, and one table of all.

    ./tools/study tools/studies/methods_small.toml --data_dir=DIR --work=runs/methods_small

A study is a TOML file:

    reference = "pgd_at"                                  # what the others are compared with
    seeds = [0, 1]
    flags = ["--flagfile=flags/cifar10_small.flags"]      # of every run
    attacks = ["clean", "pgd20"]                          # columns of the table
    networks = "best"                                     # or "last": the mean of what --keep_last keeps

    [variants]
    pgd_at = ["--method=pgd_at"]
    frl = ["--method=frl", "--init_from={pgd_at}"]        # the run of another variant, with the same seed

Every variant of the first seed is trained first, then the second seed. A run lies in WORK/VARIANT-SEED and
is resumed by the same command; one that has its evaluation is left alone. With --keep=FOLDER the results of
every finished run are kept there in one small file, and a run that is there already is not made again, unless
another one needs its network, which is not kept. A run that diverges (exit code 6) is named below the table
and does not stop the others; any other failure ends the study with its exit code. With --only=NAME,NAME only
these variants are trained, and what they need, so that several processes can share a study; the table shows
whatever is finished.

The column "cost" is the processor time of a training step, relative to the reference: the median over the
epochs and seeds of `times.csv`. It compares runs of one machine under the same load.
"""

import argparse
import csv
import dataclasses
import math
import statistics
import string
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from fairat_tf import errors  # noqa: E402

_MEASURES = ("average", "worst_class")
_FIELDS = {"reference", "seeds", "flags", "attacks", "networks", "variants"}


@dataclasses.dataclass(frozen=True)
class Study:
    """What a study file says; `variants` maps a name to the flags that make it differ."""

    reference: str
    seeds: tuple[int, ...]
    flags: tuple[str, ...]
    attacks: tuple[str, ...]
    networks: str
    variants: dict[str, tuple[str, ...]]

    @classmethod
    def read(cls, path: Path) -> "Study":
        """Returns the study of a TOML file.

        Raises:
          UsageError: no such file, not TOML, or a field missing, unknown or wrong.
        """
        try:
            found = tomllib.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise errors.UsageError(f"{path} cannot be read as a study: {error}") from error
        if set(found) != _FIELDS:
            raise errors.UsageError(f"{path}: expected {sorted(_FIELDS)}, received {sorted(found)}")
        variants = {name: tuple(flags) for name, flags in found.pop("variants").items()}
        texts = {name: found.pop(name) for name in ("reference", "networks")}
        study = cls(**texts, variants=variants, **{k: tuple(v) for k, v in found.items()})
        if study.reference not in variants or not study.seeds or study.networks not in ("best", "last"):
            raise errors.UsageError(
                f"{path}: reference must be one of the variants, seeds not empty, networks best or last"
            )
        return study


@dataclasses.dataclass(frozen=True)
class Runner:
    """Trains what is missing in `work`; `extra` are flags of this machine, such as --data_dir."""

    study: Study
    work: Path
    extra: tuple[str, ...] = ()
    keep: Path | None = None
    only: tuple[str, ...] = ()

    def folder(self, variant: str, seed: int) -> Path:
        """Returns the run directory of a variant and seed."""
        return self.work / f"{variant}-{seed}"

    def command(self, variant: str, seed: int) -> list[str]:
        """Returns the training command of a variant and seed."""
        others = {name: str(self.folder(name, seed)) for name in self.study.variants}
        own = [flag.format(**others) for flag in self.study.variants[variant]]
        where = [f"--seed={seed}", f"--run_dir={self.folder(variant, seed)}"]
        return [sys.executable, "-m", "fairat_tf.train", *self.study.flags, *own, *self.extra, *where]

    def needed(self, variant: str) -> list[str]:
        """Returns the variants whose networks this one takes: those in braces in its flags."""
        parsed = [part for flag in self.study.variants[variant] for part in string.Formatter().parse(flag)]
        return [name for _, name, _, _ in parsed if name]

    def results(self, variant: str, seed: int) -> list[Path]:
        """Returns where the run's evaluations lie: the kept files, or its own folders; [] if unfinished."""
        run, kept = self.folder(variant, seed), []
        if self.keep and (self.keep / f"{variant}-{seed}.jsonl").is_file():
            kept = sorted(self.keep.glob(f"{variant}-{seed}.*.json"))
        if kept or not self.has_network(variant, seed):
            return kept
        if self.study.networks == "best":
            return [run / "evaluation"]
        return sorted(path for path in (run / "last").iterdir() if path.is_dir())

    def has_network(self, variant: str, seed: int) -> bool:
        """Returns whether the run is finished and its directory is still there."""
        return (self.folder(variant, seed) / "MODEL_CARD.md").is_file()

    def diverged(self, variant: str, seed: int) -> Path:
        """Returns the file that says that the run diverged, or needs one that did."""
        return self.folder(variant, seed) / "DIVERGED"

    def run(self) -> None:
        """Trains every variant with every seed.

        Raises:
          CommandError: a run failed; it has the run's exit code.
        """
        for seed in self.study.seeds:
            for variant in self.only or self.study.variants:
                if not self.results(variant, seed):
                    self._train(variant, seed)

    def _train(self, variant: str, seed: int) -> None:
        if self.diverged(variant, seed).exists():
            return
        for name in self.needed(variant):
            if not self.has_network(name, seed):
                self._train(name, seed)
            if self.diverged(name, seed).exists():
                self._set_diverged(variant, seed, f"needs {name}-{seed}, which diverged")
                return
        print(f"\n== {variant}, seed {seed}", flush=True)
        code = subprocess.run(self.command(variant, seed), cwd=ROOT, check=False).returncode
        if code == errors.Diverged.exit_code:
            self._set_diverged(variant, seed, "diverged")
        elif code:
            failure = errors.CommandError(f"{variant}, seed {seed}: training ended with exit code {code}")
            failure.exit_code = code if code > 0 else errors.Interrupted.exit_code
            raise failure
        self.keep_results(variant, seed)

    def _set_diverged(self, variant: str, seed: int, reason: str) -> None:
        path = self.diverged(variant, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(reason)

    def keep_results(self, variant: str, seed: int) -> None:
        """Copies results and log of a finished run into `keep`, where they are not there yet; the log last.

        Without its log a run does not count as kept: the copying was stopped, and is done again.
        """
        from fairat_tf.reporting import files

        found = [path for path in self.results(variant, seed) if path.is_dir()]
        if self.keep and found:
            self.keep.mkdir(parents=True, exist_ok=True)
            for path in found:
                name = f"{variant}-{seed}.{path.name}.json"
                files.write_packed(files.read(path, arrays=True), self.keep / name)
            for name, kept in (("times.csv", "times.csv"), ("metrics.jsonl", "jsonl")):
                if (path := self.folder(variant, seed) / name).is_file():
                    files.replace(self.keep / f"{variant}-{seed}.{kept}", path.read_bytes())

    def step_seconds(self, variant: str) -> float:
        """Returns the processor time of a training step in seconds; NaN where none was measured."""
        found: list[float] = []
        for seed in self.study.seeds:
            kept = self.keep / f"{variant}-{seed}.times.csv" if self.keep else Path()
            path = kept if kept.is_file() else self.folder(variant, seed) / "times.csv"
            if path.is_file():
                with path.open() as file:
                    rows = list(csv.DictReader(file))
                found += [float(r["processor_seconds"]) / int(r["steps"]) for r in rows if r["steps"] != "0"]
        return statistics.median(found) if found else math.nan

    def entries(self) -> list[str]:
        """Returns the arguments of `fairat_tf.compare`: the reference first, each with its finished seeds.

        Seeds that the reference lacks are left out: where as many are left, they are the same, and paired.
        """
        names = [self.study.reference, *(n for n in self.study.variants if n != self.study.reference)]
        seeds = [seed for seed in self.study.seeds if self.results(self.study.reference, seed)]
        found = {n: [self.results(n, seed) for seed in seeds] for n in names}
        joined = {n: ["+".join(map(str, paths)) for paths in runs if paths] for n, runs in found.items()}
        return [f"{name}={','.join(seeds)}" for name, seeds in joined.items() if seeds]


def summary(
    study: Study, found: dict[str, Any], diverged: Mapping[str, str], costs: Mapping[str, float] | None = None
) -> str:
    """Returns two Markdown tables of a comparison (`evaluation.comparing.compare`): a row for each variant.

    The first has the accuracies, the second the differences from the reference and the cost. `costs` are the
    seconds of a training step of the variants; the table has their ratio to the reference's.
    """
    costs, attacks = costs or {}, found["attacks"]
    robust = [attack for attack in study.attacks if attack != "clean"] or list(study.attacks)
    accuracy, change = [], []
    for name in attacks[study.attacks[-1]]["models"]:
        rows = [attacks[attack]["models"][name] for attack in study.attacks]
        accuracy.append([name, *(_interval(row[key]) for row in rows for key in _MEASURES)])
        cost = costs.get(name, math.nan) / costs.get(study.reference, math.nan)
        rows = [attacks[attack]["differences"].get(name) for attack in robust]
        cells = [_interval(row[key], "+") if row else "" for row in rows for key in _MEASURES]
        change.append([name, *cells, "" if math.isnan(cost) else f"{cost:.2f}"])
    notes = [f"* {note}" for note in found["notes"]]
    notes += [f"* {name}: {reason}; not in the table" for name, reason in diverged.items()]
    first = _table(["variant", *_columns(study.attacks)], accuracy)
    second = _table([f"minus {study.reference}", *_columns(robust), "cost"], change)
    return "\n".join([*first, "", *second, "", *notes]) + "\n"


def _columns(attacks: Sequence[str]) -> list[str]:
    return [f"{attack}: {column}" for attack in attacks for column in ("average", "worst class")]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [" | ".join(heads), " | ".join("---" for _ in heads), *(" | ".join(row) for row in rows)]
    return [f"| {line} |" for line in lines]


def _interval(row: dict[str, Any], sign: str = "") -> str:
    low, high = (f"{100 * bound:{sign}.1f}" for bound in row["ci95"])
    return f"{100 * row['value']:{sign}.1f} ({low} to {high})"


def _report(runner: Runner) -> str:
    from fairat_tf.evaluation import comparing
    from fairat_tf.reporting import comparison

    for variant in runner.study.variants:
        for seed in runner.study.seeds:
            runner.keep_results(variant, seed)
    if not any(entry.startswith(f"{runner.study.reference}=") for entry in runner.entries()):
        return f"No table yet: no run of {runner.study.reference} is finished.\n"
    found = comparing.compare(comparing.load(runner.entries()))
    comparison.write(found, runner.work / "comparison")
    diverged = {p.parent.name: p.read_text() or "diverged" for p in sorted(runner.work.glob("*/DIVERGED"))}
    costs = {variant: runner.step_seconds(variant) for variant in runner.study.variants}
    text = summary(runner.study, found, diverged, costs)
    for folder in filter(None, (runner.work, runner.keep)):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "summary.md").write_text(text)
    return text


def _chosen(study: Study, only: str) -> tuple[str, ...]:
    names = tuple(filter(None, only.split(",")))
    unknown = [name for name in names if name not in study.variants]
    if unknown:
        there = ", ".join(study.variants)
        raise errors.UsageError(f"--only: no variant {', '.join(unknown)}; there are {there}")
    return names


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Other flags (--data_dir=DIR, --noresume, ...) go to every training run.",
    )
    parser.add_argument("study", type=Path, help="the TOML file")
    parser.add_argument("--work", type=Path, required=True, help="where runs and tables go")
    parser.add_argument("--keep", type=Path, help="keep results and logs in this folder")
    parser.add_argument("--only", default="", help="train these variants, of the study's: NAME,NAME")
    parser.add_argument("--table_only", action="store_true", help="train nothing; table of what is there")
    given, extra = parser.parse_known_args(argv)
    try:
        study = Study.read(given.study)
        runner = Runner(study, given.work.absolute(), tuple(extra), given.keep, _chosen(study, given.only))
        if not given.table_only:
            runner.run()
        print("\n" + _report(runner))
    except errors.CommandError as error:
        print(f"study: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
