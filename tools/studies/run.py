"""Runs a study: variants of a training run, each with several seeds, and one table of all.

    ./tools/study tools/studies/methods_small.toml --data_dir=DIR --work=runs/methods_small

A study is a TOML file:

    reference = "pgd_at"                                  # what the others are compared with
    seeds = [0, 1]
    flags = ["--flagfile=flags/cifar10_small.flags"]      # of every run
    attacks = ["clean", "pgd20"]                          # columns of the table
    networks = "best"      # or "last": the mean of what --keep_last keeps; or "final": the last of these
    evaluate = ["--dataset=cifar10", "--attacks=cw20"]    # if given: evaluated by this, not by training

    [variants]
    pgd_at = ["--method=pgd_at"]
    frl = ["--method=frl", "--init_from={pgd_at}"]        # the run of another variant, with the same seed

Every variant of the first seed is trained first, then the second seed. A run lies in WORK/VARIANT-SEED and
is resumed by the same command; one that has its evaluation is left alone. With --keep=FOLDER the results of
every finished run are kept there in small files, with the flags they were made with, and a run that is there
already is not made again, unless another one needs its network, which is not kept. Runs that were made with
other flags are refused (exit code 3), never mixed. A run that diverges (exit code 6) is named below the
table, is not tried again and does not stop the others; any other failure ends the study with its exit code.
Ctrl-C and SIGTERM go on to the training run, which saves (exit code 75). With --only=NAME,NAME only these
variants are trained, and what they need, so that several processes can share a study: one waits while another
trains what both need. The tables, summary-STUDY.md in both folders, and the figure, summary-STUDY.png, show
whatever is finished; a variant with fewer seeds than the reference is compared over its own. With
--reference=NAME nothing is trained, and all is compared with that variant: summary-STUDY-beside-NAME.md.
With --seeds=0,1 the study has these seeds in place of its own, and tables of their own name:
summary-STUDY-seeds-0-1.md. --logged=NAME,NAME prints what training logged so, in the mean of the last epochs,
as many as were evaluated.

The column "cost" is the processor time of a training step, relative to the reference: the median over the
epochs and seeds of `times.csv`. It compares runs of one machine under the same load.
"""

import argparse
import csv
import dataclasses
import json
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT)]

import children  # noqa: E402
import report  # noqa: E402
from definition import Study  # noqa: E402
from kept import Kept, difference, experiment_of, named  # noqa: E402

from fairat_tf import errors  # noqa: E402

_JUDGED = (errors.GateFailed.exit_code, errors.Unreliable.exit_code)  # perhaps of a whole evaluation


@dataclasses.dataclass(frozen=True)
class Runner:
    """Trains what is missing in `work`; `extra` are flags of this machine, such as --data_dir."""

    study: Study
    work: Path
    extra: tuple[str, ...] = ()
    kept: Kept = dataclasses.field(default_factory=lambda: Kept(None))
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

    def results(self, variant: str, seed: int) -> list[Path]:
        """Returns where the run's evaluations lie: the kept files, or its own folders; [] if unfinished."""
        return self._kept_results(variant, seed) or self.evaluations(variant, seed)

    def _kept_results(self, variant: str, seed: int) -> list[Path]:
        """Returns the kept evaluations of the networks that the study asks for; [] if one is missing."""
        run, own = f"{variant}-{seed}", self.study.name if self.study.evaluate else "evaluation"
        kept = {path.name.removeprefix(f"{run}.")[: -len(".json")]: path for path in self.kept.results(run)}
        if self.study.networks == "best":
            return [kept[own]] if own in kept else []
        last = [path for name, path in kept.items() if name.startswith("epoch-")]
        if self.study.networks == "final":
            return last[-1:]
        facts = self.kept.experiment(run)
        return last if len(last) >= min(facts.get("keep_last", 0), facts.get("epochs") or 0) else []

    def evaluations(self, variant: str, seed: int) -> list[Path]:
        """Returns the evaluations in the run's directory; [] if it is unfinished or not there."""
        places = list(self.places(variant, seed).values()) if self.has_network(variant, seed) else []
        return places if all((place / "evaluation.json").is_file() for place in places) else []

    def places(self, variant: str, seed: int) -> dict[Path, Path]:
        """Returns network -> the folder of its evaluation, of a finished run; {} where it kept none."""
        run, own = self.folder(variant, seed), self.study.name if self.study.evaluate else ""
        if self.study.networks == "best":
            return {run: run / (own or "evaluation")}
        names = sorted({path.name.removesuffix(".keras") for path in (run / "last").glob("epoch-*")})
        if self.study.networks == "final":
            names = names[-1:]
        return {run / "last" / f"{name}.keras": run / (own or "last") / name for name in names}

    def has_network(self, variant: str, seed: int) -> bool:
        """Returns whether the run is finished and its directory is still there."""
        return (self.folder(variant, seed) / "MODEL_CARD.md").is_file()

    def diverged(self, variant: str, seed: int) -> str:
        """Returns why the run has no result ("diverged", "needs ..."), or ""."""
        return self.kept.diverged(f"{variant}-{seed}", self.folder(variant, seed))

    def experiment(self, variant: str, seed: int) -> dict[str, Any]:
        """Returns what a finished run was, by flag; {} where nobody knows any more."""
        known = self.kept.experiment(f"{variant}-{seed}")
        return known or experiment_of(self.folder(variant, seed) / "config.json", self.work)

    def run(self) -> None:
        """Trains every variant with every seed, and evaluates it if the study has an evaluation of its own.

        Raises:
          CommandError: a run or evaluation failed; it has its exit code.
          DataError: a finished run was made with other flags.
          UsageError: a variant's flags leave nothing to evaluate, or evaluate nothing.
        """
        self._check_study()
        for seed in self.study.seeds:
            for variant in self.only or self.study.variants:
                trained = self.has_network(variant, seed)
                if trained or self.results(variant, seed):
                    self._check_flags(variant, seed)
                if not (self.results(variant, seed) or trained and self.study.evaluate):
                    self._train(variant, seed)  # or evaluates, where the network is there
                if self.study.evaluate and not self.results(variant, seed):
                    self._evaluate(variant, seed)

    def _check_study(self) -> None:
        name, networks = self.study.name, self.study.networks
        for variant in self.only or self.study.variants:
            asked = self._config(variant, self.study.seeds[0]).run
            if networks != "best" and not asked.keep_last:
                raise errors.UsageError(
                    f"{name}: {variant} keeps no network of the last epochs, and networks is {networks!r}: "
                    "give it --keep_last=5, or so"
                )
            if not asked.evaluate and not self.study.evaluate:
                raise errors.UsageError(f"{name}: {variant} has --evaluate= and evaluates nothing")

    def _check_flags(self, variant: str, seed: int) -> None:
        wanted = self._asked_for(variant, seed)
        free = () if self.study.networks == "last" else ("keep_last",)  # another number changes no figure
        differs = difference(self.experiment(variant, seed), wanted, ignored=free)
        self._refuse(differs, f"{variant}-{seed}", "asked for")

    def _config(self, variant: str, seed: int) -> Any:
        """Returns the configuration that the run's command asks for."""
        from fairat_tf import flags_lib

        command = flags_lib.training_command(self.command(variant, seed)[2:])
        command.flags.unparse_flags()
        command.flags(self.command(variant, seed)[2:])
        return flags_lib.config_from(command.flags)

    def _asked_for(self, variant: str, seed: int) -> dict[str, Any]:
        """Returns what the run's command asks for, with the defaults of its method and data set."""
        from fairat_tf import methods, recipes
        from fairat_tf.data.specs import known_spec

        config = self._config(variant, seed)
        options = methods.with_defaults(config.method, config.options)
        if known := known_spec(config.data.dataset):
            config = recipes.completed(config, known)
        return named(dataclasses.replace(config, options=options).experiment(), self.work)

    def _refuse(self, differs: str, run: str, other: str) -> None:
        if differs:
            raise errors.DataError(
                f"{run} was made with other flags than {other} ({differs}): "
                "use another --work and --keep, or the flags it was made with"
            )

    def check_seeds(self) -> None:
        """Checks that the finished runs of a variant differ in nothing but the seed.

        Raises:
          DataError: they do.
        """
        for variant in self.study.variants:
            seeds = [seed for seed in self.study.seeds if self.results(variant, seed)]
            for seed in seeds[1:]:
                first, now = (self.experiment(variant, s) for s in (seeds[0], seed))
                alike = {key: self._with_seed(value, seed, seeds[0]) for key, value in now.items()}
                differs = difference(first, alike, ignored=("seed",))
                self._refuse(differs, f"{variant}-{seed}", f"{variant}-{seeds[0]}")

    def _with_seed(self, value: Any, seed: int, other: int) -> Any:
        """Returns the value; where it names a run of the study with this seed, that with the other seed."""
        own = (name for name in self.study.variants if value == f"{name}-{seed}")
        return next((f"{name}-{other}" for name in own), value)

    def _train(self, variant: str, seed: int) -> None:
        if self.diverged(variant, seed):
            return
        for name in self.study.needed(variant):
            if not self.has_network(name, seed):
                self._train(name, seed)
            if self.diverged(name, seed):
                self._set_diverged(variant, seed, f"needs {name}-{seed}, which diverged")
                return
        print(f"\n== {variant}, seed {seed}", flush=True)
        code = children.run(self.command(variant, seed), ROOT)
        if code == errors.StorageError.exit_code and children.wait_for_lock(self.folder(variant, seed)):
            if not self.has_network(variant, seed):
                self._train(variant, seed)
        elif code == errors.Diverged.exit_code:
            self._set_diverged(variant, seed, "diverged")
        elif code:
            raise _failure(f"{variant}, seed {seed}: training", code)
        self.keep_results(variant, seed)

    def _evaluate(self, variant: str, seed: int) -> None:
        from fairat_tf.evaluate import COMMAND

        names = {flag: flag.lstrip("-").partition("=")[0] for flag in self.extra}
        known = [flag for flag, n in names.items() if {n, n.removeprefix("no")} & set(COMMAND.flags)]
        places = self.places(variant, seed) if self.has_network(variant, seed) else {}  # {}: it diverged
        for network, place in places.items():
            own = [*self.study.evaluate, *known, f"--model={network}", f"--output_dir={place}"]
            print(f"\n== {variant}, seed {seed}: {network.name} under {self.study.name}", flush=True)
            code = children.run([sys.executable, "-m", "fairat_tf.evaluate", *own], ROOT)
            if code and not (code in _JUDGED and (place / "evaluation.json").is_file()):
                raise _failure(f"{variant}, seed {seed}: the evaluation of {network.name}", code)
        self.keep_results(variant, seed)

    def _set_diverged(self, variant: str, seed: int, reason: str) -> None:
        self.kept.set_diverged(f"{variant}-{seed}", self.folder(variant, seed), reason)

    def keep_results(self, variant: str, seed: int) -> None:
        """Keeps the results and the log of a finished run, if they are not kept yet."""
        if not self._kept_results(variant, seed):
            found = self.evaluations(variant, seed)
            self.kept.add(f"{variant}-{seed}", self.folder(variant, seed), found, self.work)

    def step_seconds(self, variant: str) -> float:
        """Returns the processor time of a training step in seconds; NaN where none was measured."""
        found: list[float] = []
        for seed in self.study.seeds:
            path = self.kept.times(f"{variant}-{seed}", self.folder(variant, seed))
            if path.is_file():
                with path.open() as file:
                    rows = list(csv.DictReader(file))
                found += [float(r["processor_seconds"]) / int(r["steps"]) for r in rows if r["steps"] != "0"]
        return statistics.median(found) if found else math.nan

    def finished(self) -> dict[str, dict[int, list[Path]]]:
        """Returns variant -> seed -> the run's evaluations, of what is finished, the reference first.

        Seeds that the reference lacks are left out.
        """
        names = [self.study.reference, *(n for n in self.study.variants if n != self.study.reference)]
        seeds = [seed for seed in self.study.seeds if self.results(self.study.reference, seed)]
        found = {n: {seed: self.results(n, seed) for seed in seeds} for n in names}
        whole = {n: {seed: paths for seed, paths in runs.items() if paths} for n, runs in found.items()}
        return {n: runs for n, runs in whole.items() if runs}

    def log(self, variant: str, seed: int) -> list[dict[str, Any]]:
        """Returns the metrics of a finished run's epochs, in order."""
        path = self.kept.log(f"{variant}-{seed}", self.folder(variant, seed))
        return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def _failure(what: str, code: int) -> errors.CommandError:
    failure = errors.CommandError(f"{what} ended with exit code {code}")
    failure.exit_code = code if code > 0 else errors.Interrupted.exit_code
    return failure


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
    parser.add_argument("--seeds", help="these seeds in place of the study's: NUMBER,NUMBER")
    parser.add_argument("--reference", default="", help="compare with this variant: tables only")
    parser.add_argument("--logged", default="", help="print what training logged, too: NAME,NAME")
    parser.add_argument("--table_only", action="store_true", help="train nothing; table of what is there")
    given, extra = parser.parse_known_args(argv)
    try:
        if words := [word for word in extra if not word.startswith("--")]:
            raise errors.UsageError(f"expected flags as --NAME=VALUE, received {words[0]!r}")
        study = Study.read(given.study)
        if given.seeds is not None:
            study = study.seeded(given.seeds)
        only = study.chosen(given.only)
        if given.reference:
            study = study.beside(given.reference)
        runner = Runner(study, given.work.absolute(), tuple(extra), Kept(given.keep), only)
        if not (given.table_only or given.reference):
            runner.run()
        print("\n" + report.report(runner))
        if given.logged:
            print(report.log_table(runner, given.logged.split(",")))
    except errors.CommandError as error:
        print(f"study: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
