"""One whole evaluation, from a path and a data set's name to the files: what the command line calls.

result = run(Request(model="runs/a", dataset="cifar10", examples=1000, output_dir="runs/a/evaluation"))
result["verdict"]["status"], [gate["passed"] for gate in result["gates"]]
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fairat_tf import attacks, data, errors, eval_lib, model_files
from fairat_tf.data import DataError, Dataset, Split
from fairat_tf.evaluation import (
    comparing,
    contract,
    evidence,
    gate,
    groups,
    kept_apart,
    planning,
    sampling,
    suite,
    summary,
)
from fairat_tf.evaluation.gate import Gate
from fairat_tf.metrics.fairness import class_counts, rho
from fairat_tf.reporting import files
from fairat_tf.run_directory import run_of
from fairat_tf.units import pixels


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be evaluated and how.

    Attributes:
      model: run directory, .keras file, SavedModel or module:function.
      dataset: as for training: a name, "folder:PATH", "npz:PATH".
      split: "test", "validation" or "train"; of a run directory those of the run (`evaluation.kept_apart`).
      data_dir, download, image_size: as for training.
      outputs, input_range, endpoint, trust: see `model_files.load`.
      attacks: their names.
      epsilon, norm: the threat model.
      examples: how many in all, the same number of each class; 0 means every example.
      batch_size, seed: see `eval_lib.evaluate`.
      group_by: "label", or a group column of the data.
      gates: required bounds, judged at `confidence`.
      checks: "none", "quick" or "full".
      budget: seconds, or None.
      baseline: a directory with the result of another model, for rho.
      save_examples: write the adversarial images.
      output_dir: where results and progress go.
      progress: show bars on stderr.
      command: the command line, for the page.
    """

    model: str
    dataset: str
    split: str = "test"
    data_dir: str = ""
    download: bool = False
    image_size: int = 0
    outputs: str = "logits"
    input_range: tuple[float, float] = (0.0, 1.0)
    endpoint: str = ""
    trust: bool = False
    attacks: tuple[str, ...] = eval_lib.QUICK
    epsilon: float = 8 / 255
    norm: str = "linf"
    examples: int = 0
    batch_size: int = 128
    seed: int = 0
    group_by: str = "label"
    gates: tuple[Gate, ...] = ()
    confidence: float = 0.95
    checks: str = "full"
    budget: float | None = None
    baseline: str = ""
    save_examples: bool = False
    output_dir: str = "evaluation"
    progress: bool = False
    command: str = ""


def run(request: Request) -> dict[str, Any]:
    """Evaluates and writes the result into `request.output_dir`; returns it, `per_example` included.

    Raises:
      CommandError: see its kinds; a missed gate and a bad verdict are in the result, not raised.
    """
    names = tuple(dict.fromkeys(("clean", *request.attacks)))
    for name in names[1:]:
        attacks.get(name)
    suite.check_names(names)
    base = files.read(request.baseline, arrays=True) if request.baseline else None
    dataset, split = _examples(request)
    chosen, about = _drawn(request, split, dataset.num_classes)
    column, group_names = _column(request, dataset, split, chosen)
    present = [group_names[place] for place in np.unique(column)] if column is not None else []
    counts = chosen.counts(dataset.num_classes)
    absent = [name for name, count in zip(dataset.class_names, counts, strict=True) if not count]
    gate.check_names(request.gates, names, dataset.class_names, present, absent)
    if base is not None:
        _check_baseline(request, base, chosen, dataset.class_names)
    model = _model(request)
    contract.check(
        model.logits_fn,
        chosen.images,
        chosen.labels,
        dataset.class_names,
        model.image_shape,
        model.log_probabilities,
    )
    plan = _plan(request, model, chosen, names, dataset.num_classes)
    result = eval_lib.evaluate(
        model.logits_fn,
        chosen.images,
        chosen.labels,
        dataset.class_names,
        attacks=names,
        epsilon=request.epsilon,
        norm=request.norm,
        batch_size=request.batch_size,
        seed=request.seed,
        progress=request.progress,
        checks=request.checks,
        budget=request.budget,
        state_dir=str(Path(request.output_dir) / "eval_state"),
        keep_adversarial=request.save_examples,
        model=model.described(),
        dataset={"name": request.dataset, "split": request.split, **about},
    )
    result |= {"plan": plan} if plan else {}
    result["command"] = request.command
    if column is not None:
        result["groups"] = groups.by_group(result, column, request.group_by, group_names)
    if base is not None:
        add_rho(result, base)
    result["gates"] = gate.judge(request.gates, result, request.confidence)
    files.write(result, request.output_dir)
    if request.save_examples:
        evidence.save(result, chosen.images, request.output_dir)
    _page(request, result, model, chosen)
    return result


def add_rho(result: dict[str, Any], base: dict[str, Any]) -> None:
    """Adds rho against the baseline's result to the fairness of every attack that both have.

    Both results need `per_example`: rho is of the examples that the attack reached in both, since a budget
    may have ended either early. It is left out where there are none.
    """
    labels, classes = result["per_example"]["labels"], len(result["dataset"]["class_names"])
    for attack, own in result["fairness"].items():
        if attack not in base["fairness"]:
            continue
        flags = [each["per_example"][f"correct/{attack}"] for each in (result, base)]
        shared = (flags[0] >= 0) & (flags[1] >= 0)
        if shared.any():
            own["rho"] = rho(
                *(v for f in flags for v in _average_and_worst(f[shared], labels[shared], classes))
            )


def _average_and_worst(right: np.ndarray, labels: np.ndarray, classes: int) -> tuple[float, float]:
    correct, total = class_counts(right, labels, classes)
    return float(right.mean()), float((correct[total > 0] / total[total > 0]).min())


def _check_baseline(request: Request, base: dict[str, Any], chosen: Split, names: Sequence[str]) -> None:
    """Makes sure that the baseline's result is of the examples and the threat model asked for."""
    digest = summary.fingerprint(chosen.images, chosen.labels)
    asked = {
        "dataset": {"fingerprint": digest, "class_names": list(names)},
        "threat_model": {"norm": request.norm, "epsilon": float(request.epsilon)},
    }
    comparing.check_same(f"--baseline={request.baseline} was evaluated", base, asked, "is asked for now")


def _examples(request: Request) -> tuple[Dataset, Split]:
    try:
        dataset = data.load(
            request.dataset,
            data_dir=request.data_dir,
            download=request.download,
            image_size=request.image_size,
            progress=request.progress,
        )
    except DataError as error:
        raise errors.DataError(str(error)) from error
    splits = kept_apart.splits_of(dataset, request.dataset, request.model, request.split)
    if request.split not in splits or not len(splits[request.split]):
        known = ", ".join(splits)
        raise errors.UsageError(f"{request.dataset} has no split {request.split!r}; it has {known}")
    return dataset, splits[request.split]


def _drawn(request: Request, split: Split, classes: int) -> tuple[Split, dict[str, Any]]:
    """Returns the examples to evaluate and how they were chosen."""
    if not request.examples or request.examples >= len(split):
        return split, {"sampling": f"all {len(split)} examples of the split", "of": len(split)}
    each = sampling.per_class_for(split.labels, classes, request.examples)
    places = sampling.by_class(split.labels, classes, each, request.seed)
    note = (
        f"{each} of each class (all of a smaller one), drawn with seed {request.seed} from {len(split)}; "
        "averages weigh classes equally, not as the data set does"
    )
    return split.take(places), {"sampling": note, "of": len(split), "places": places.tolist()}


def _column(
    request: Request, dataset: Dataset, split: Split, chosen: Split
) -> tuple[np.ndarray | None, list[str]]:
    """Returns the group of each chosen example, or None without grouping, and the groups' names."""
    if request.group_by == "label":
        return None, []
    if request.group_by not in split.groups:
        known = ", ".join(["label", *split.groups])
        raise errors.UsageError(f"--group_by={request.group_by}: the data has the columns {known}")
    name = request.group_by
    return groups.coded(split.groups[name], chosen.groups[name], dataset.group_names.get(name, ()), name)


def _model(request: Request) -> model_files.Model:
    model = model_files.load(
        request.model,
        outputs=request.outputs,
        input_range=request.input_range,
        endpoint=request.endpoint,
        trust=request.trust,
    )
    for note in (*model.notes, *_other_threat(request)):
        print(f"fairat_tf: note: {note}", file=sys.stderr)
    return model


def _other_threat(request: Request) -> list[str]:
    """Returns what to say where the run was trained against another threat model than it is judged by."""
    _, config = run_of(request.model)
    if config is None or (config.attack.norm, config.attack.epsilon) == (request.norm, request.epsilon):
        return []
    asked, own = ((each.norm, pixels(each.epsilon)) for each in (request, config.attack))
    return [f"judged by {asked[0]}, epsilon {asked[1]}; it was trained against {own[0]}, epsilon {own[1]}"]


def _plan(
    request: Request, model: model_files.Model, split: Split, names: tuple[str, ...], classes: int
) -> dict[str, Any] | None:
    if request.budget is None:
        return None
    plan = planning.estimate(
        model.logits_fn, split.images, split.labels, names, classes, request.batch_size, request.budget
    )
    for name, seconds in plan["seconds"].items():
        print(f"fairat_tf: {name}: at most {seconds:.0f} s for all examples", file=sys.stderr)
    return plan


def _page(request: Request, result: dict[str, Any], model: model_files.Model, split: Split) -> None:
    from fairat_tf.reporting import gallery, page

    shown = gallery.examples(model.logits_fn, split.images, split.labels, result)
    run = request.model if Path(request.model).is_dir() else None
    page.write(result, request.output_dir, shown, run)
