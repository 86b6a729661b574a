"""The evaluation at the end of a run: the test split, by the network that validation chose.

    result = evaluated(parts, run, stop)          # and of the last networks, where the run keeps them

The same examples whatever the seed of the run, so that runs can be compared example by example.
"""

import functools
import itertools
import pathlib
import shutil
import time
from typing import Any

from fairat_tf import errors, eval_lib, model_files
from fairat_tf.assembly import Parts
from fairat_tf.config import Config
from fairat_tf.data.dataset import Split
from fairat_tf.evaluation import sampling
from fairat_tf.reporting import files, page
from fairat_tf.run_directory import BY_TRAINING, RunDirectory
from fairat_tf.signals import StopSignals

SEED = 0  # of every run
BATCH_SIZE = 250


def attack_names(config: Config) -> tuple[str, ...]:
    """Returns the attacks of the evaluation at the end, without "clean", which is always there."""
    names = (name.strip() for name in config.run.evaluate.split(","))
    return tuple(name for name in names if name and name != "clean")


def sample(parts: Parts) -> Split:
    """Returns the test examples to evaluate: all, or the same ones of each class whatever the run's seed."""
    test, wanted = parts.dataset.test, parts.config.run.evaluate_examples
    if not wanted:
        return test
    each = sampling.per_class_for(test.labels, parts.dataset.num_classes, wanted)
    return test.take(sampling.by_class(test.labels, parts.dataset.num_classes, each, SEED))


def evaluated(parts: Parts, run: RunDirectory, stop: StopSignals) -> dict[str, Any] | None:
    """Evaluates the best network on the test split, class by class; None where no attack is named."""
    wanted = parts.config.run
    if not wanted.evaluate:
        return None
    stop.raise_from_now_on(
        f"the network is trained; evaluate it with the same flags and --run_dir={run.path}"
    )
    test, began = sample(parts), time.monotonic()
    _make_own(run / "evaluation")
    result = _evaluation(parts, test, str(run.path), run / "evaluation")
    page.write(result, run.path, run=run.path)
    for network in sorted((run / "last").glob("*.keras")):
        _evaluation(parts, test, str(network), network.with_suffix(""))
    print(f"Evaluated {len(test)} test images in {time.monotonic() - began:.0f} s.")
    return result


def _evaluation(parts: Parts, test: Split, path: str, folder: pathlib.Path) -> dict[str, Any]:
    """Evaluates the network at `path` on the test examples and writes the result into `folder`.

    Progress of an evaluation of other examples, or of the network before training went on, is dropped.
    """
    model, state = model_files.load(path), folder / "eval_state"
    evaluate = functools.partial(
        eval_lib.evaluate,
        model.logits_fn,
        test.images,
        test.labels,
        parts.dataset.class_names,
        attacks=("clean", *attack_names(parts.config)),
        epsilon=parts.config.attack.epsilon,
        norm=parts.config.attack.norm,
        batch_size=BATCH_SIZE,
        seed=SEED,
        progress=True,
        state_dir=str(state),
        model=model.described(),
        dataset={"name": parts.config.data.dataset, "split": "test"},
    )
    try:
        result = evaluate()
    except errors.OtherSettings:
        shutil.rmtree(state)
        result = evaluate()
    files.write(result, folder)
    return result


def _make_own(folder: pathlib.Path) -> None:
    """Makes the folder training's own; what `fairat_tf.evaluate` has there gets the next free number."""
    own = folder / BY_TRAINING
    if folder.exists() and not own.exists():
        names = (folder.with_name(f"{folder.name}-{number}") for number in itertools.count(2))
        folder.rename(next(name for name in names if not name.exists()))
    folder.mkdir(parents=True, exist_ok=True)
    own.touch()
