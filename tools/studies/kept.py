"""What is kept of finished runs: results, log and times in small files, and the flags they were made with.

kept = Kept(Path("docs/results/methods_small"))
kept.add("fairat-0", run_directory, [run_directory / "evaluation"])
kept.results("fairat-0")            # [fairat-0.evaluation.json], [] while it is not whole
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_COPIED = (("times.csv", "times.csv"), ("metrics.jsonl", "jsonl"))


class Kept:
    """A folder of finished runs; None keeps nothing."""

    def __init__(self, folder: Path | None):
        self.folder = folder

    def results(self, run: str) -> list[Path]:
        """Returns the kept evaluations of a run; [] where it is not kept, or not to the end."""
        if not self.folder or not (self.folder / f"{run}.jsonl").is_file():
            return []
        names = (path for path in self.folder.glob(f"{run}.*.json") if path.name != f"{run}.config.json")
        return sorted(names)

    def add(self, run: str, directory: Path, evaluations: Sequence[Path], work: Path) -> None:
        """Copies what a finished run found; the log last, without which a run does not count as kept."""
        from fairat_tf.reporting import files

        if not self.folder or not evaluations:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in evaluations:
            files.write_packed(files.read(path, arrays=True), self.folder / f"{run}.{path.name}.json")
        experiment = experiment_of(directory / "config.json", work)
        if experiment:
            text = json.dumps(experiment, indent=1, sort_keys=True) + "\n"
            files.replace(self.folder / f"{run}.config.json", text.encode())
        for name, ending in _COPIED:
            if (path := directory / name).is_file():
                files.replace(self.folder / f"{run}.{ending}", path.read_bytes())

    def experiment(self, run: str) -> dict[str, Any]:
        """Returns what the kept run was, by flag (`whole`); {} where that was not kept."""
        path = self.folder / f"{run}.config.json" if self.folder else None
        return whole(json.loads(path.read_text())) if path and path.is_file() else {}

    def times(self, run: str, directory: Path) -> Path:
        """Returns the table of times of a run: the kept one, or that of its directory."""
        return self._file(run, "times.csv", directory / "times.csv")

    def log(self, run: str, directory: Path) -> Path:
        """Returns the metrics of every epoch of a run: the kept ones, or those of its directory."""
        return self._file(run, "jsonl", directory / "metrics.jsonl")

    def _file(self, run: str, ending: str, otherwise: Path) -> Path:
        kept = self.folder / f"{run}.{ending}" if self.folder else Path()
        return kept if kept.is_file() else otherwise

    def set_diverged(self, run: str, directory: Path, reason: str) -> None:
        """Notes that a run diverged, in its directory and in the folder: it is not tried again."""
        for path in self._diverged(run, directory):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(reason)

    def diverged(self, run: str, directory: Path) -> str:
        """Returns why a run has no result; "" where it may have one."""
        found = [path.read_text() or "diverged" for path in self._diverged(run, directory) if path.exists()]
        return found[0] if found else ""

    def _diverged(self, run: str, directory: Path) -> list[Path]:
        own = [self.folder / f"{run}.diverged"] if self.folder else []
        return [*own, directory / "DIVERGED"]


def whole(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the experiment with the defaults of flags that are younger than it, and left it as it was."""
    from fairat_tf import methods
    from fairat_tf.config import Config

    method = experiment["method"]
    return {**Config(method=method, options=methods.with_defaults(method, {})).experiment(), **experiment}


def experiment_of(path: Path, work: Path) -> dict[str, Any]:
    """Returns what decides the result of the run with this `config.json`; {} where there is none.

    Networks of other runs are named by their run, without the folder.
    """
    from fairat_tf.config import Config

    return named(whole(Config.from_json(path.read_text()).experiment()), work) if path.is_file() else {}


def named(experiment: Mapping[str, Any], work: Path) -> dict[str, Any]:
    """Returns the experiment with the paths below `work` as names of runs."""
    inside = f"{work}/"
    return {
        key: value.removeprefix(inside) if isinstance(value, str) else value
        for key, value in experiment.items()
    }


def difference(one: Mapping[str, Any], other: Mapping[str, Any], ignored: Sequence[str] = ()) -> str:
    """Returns in words where two experiments differ; what only one says, or leaves open, is no matter."""
    return "; ".join(
        f"{key}: {one[key]!r} and {other[key]!r}"
        for key in one
        if key in other
        and key not in ignored
        and None not in (one[key], other[key])
        and one[key] != other[key]
    )
