"""Writes a training step as an XLA program, with its state and data order, for `run.py`.

    ./tools/run_step export runs/step --dataset=cifar10 --data_dir=DIR --method=fairat \\
        --records='DIR/cifar10/*/*-train*'

FOLDER holds `step.hlo` (the program: pixels, labels, rows and number of a batch -> metrics, new state),
`program.json` (what its parameters are), `start/` (the state, in parts of 16 MB) and `data.npz`: the row of
each training example in the TFRecord files, or, without --records, the examples themselves. `validate.hlo`
and `validation.npz` are the same for validation after every epoch. `test.npz` are the test examples that the
run would evaluate at its end (--test_records), and `evaluate-*.hlo` the programs of its attacks. Other flags
are those of fairat_tf.train.
"""

import argparse
import glob
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

import export_evaluation  # noqa: E402
import programs  # noqa: E402
import records  # noqa: E402
import shards  # noqa: E402

from fairat_tf import errors  # noqa: E402


def refusal(parts: Any) -> str:
    """Returns why a run cannot go on without Keras between its epochs; "" if it can."""
    from fairat_tf.methods.base import Method
    from fairat_tf.methods.fairat import FairAT

    kind = type(parts.method)
    if parts.config.run.devices not in ("1", 1):
        return "devices: the program is for one device"
    if kind.on_epoch_begin is not Method.on_epoch_begin or kind.class_shares is not Method.class_shares:
        return f"method={parts.config.method} does more at the begin of an epoch than a program can"
    if kind.on_epoch_end not in (Method.on_epoch_end, FairAT.on_epoch_end):
        return f"method={parts.config.method} learns from the end of an epoch, which a program cannot"
    if parts.config.options.get("split_bn"):
        return "split_bn follows the end of each epoch in a way that a program cannot"
    return ""


def rows_in(files: Sequence[str], images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns in which row of the TFRecord files each example is, int32 [N].

    Raises:
      DataError: an example is not in the files.
    """
    import tensorflow as tf

    stored, classes = records.images_and_labels(files, lambda data: tf.io.decode_image(data).numpy())
    known = {
        _digest(image, label): row for row, (image, label) in enumerate(zip(stored, classes, strict=True))
    }
    found = [known.get(_digest(image, label), -1) for image, label in zip(images, labels, strict=True)]
    if min(found) < 0:
        raise errors.DataError(f"{found.count(-1)} examples are not in the TFRecord files")
    return np.array(found, np.int32)


def _digest(image: np.ndarray, label: int) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(image).tobytes() + bytes([int(label) & 255])).digest()


def _identity(folder: Path, train: Any) -> str:
    """Returns the SHA-256 of the program, its configuration and its data: what a state belongs to."""
    digest = hashlib.sha256(train.fingerprint().encode())
    for name in ("step.hlo", "validate.hlo", "program.json"):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def _write_examples(path: Path, split: Any, files: Sequence[str]) -> None:
    """Writes the labels, and the rows of the examples in the files; without files their pixels."""
    data = {"rows": rows_in(files, split.images, split.labels)} if files else {"images": split.images}
    np.savez_compressed(path, labels=split.labels, **data)


def export(
    config: Any,
    folder: Path,
    files: Sequence[str] = (),
    test_files: Sequence[str] = (),
    small: bool = False,
) -> None:
    """Writes the folder.

    Args:
      config: the run's configuration.
      folder: is made.
      files: TFRecord files that hold the training set; none: its pixels are written.
      test_files: those that hold the test set.
      small: round the weights to start from to bfloat16, here and there.

    Raises:
      UsageError: the run needs more than a program between two epochs.
    """
    import dataclasses

    import keras

    from fairat_tf import assembly, methods

    keras.utils.set_random_seed(config.run.seed)
    options = dataclasses.asdict(methods.get(config.method).Options(**config.options))
    parts = assembly.assemble(dataclasses.replace(config, options=options), assembly.load(config))
    reason = refusal(parts) or export_evaluation.refusal(parts.config)
    if reason:
        raise errors.UsageError(reason)
    folder.mkdir(parents=True, exist_ok=True)
    method, state = parts.method, programs.State(parts.method)
    evaluation, constants, test = export_evaluation.write(folder, parts)
    method.reset_metrics()
    facts = programs.write(folder / "step.hlo", state, *programs.training(parts)) | {
        "config": json.loads(parts.config.to_json()),
        "network": json.loads(method.evaluated_network.to_json()),
        "epoch": state.places([method.epoch])[0],
        "sums": state.sums(method.train_metrics),
        "evaluated": state.places(method.evaluated_network.variables),
        "steps": parts.steps,
        "epochs": parts.config.optimization.epochs,
        "validation": _validation(folder, parts, state, files),
        "between": _between(method, state),
        "evaluation": evaluation,
    }
    (folder / "program.json").write_text(json.dumps(facts))
    np.savez(folder / "constants.npz", **constants)
    _write_examples(folder / "data.npz", parts.train, files)
    _write_examples(folder / "test.npz", test, test_files)
    begin = {"epoch": 0, "step": 0, "program": _identity(folder, parts.train)}
    shards.write(folder / "start", state.arrays(), begin, small=small)
    numbers = f"{len(parts.train)} examples, {len(state.variables)} variables, {parts.steps} steps an epoch"
    print(f"{folder}: {numbers}")


def _validation(folder: Path, parts: Any, state: programs.State, files: Sequence[str]) -> dict[str, Any]:
    """Writes what validates after an epoch; returns what `program.json` says of it."""
    _write_examples(folder / "validation.npz", parts.validation_split, files)
    facts = programs.write(folder / "validate.hlo", state, *programs.validation(parts))
    return facts | {"sums": state.sums(parts.method.validation_metrics)}


def _between(method: Any, state: programs.State) -> dict[str, Any]:
    """Returns where the variables are that `between.py` needs."""
    total_losses = getattr(method, "total_losses", None)
    return {
        "class_weights": method.class_weights,
        "class_weight": state.places([method.class_weight])[0],
        "class_accuracy": state.places([method.class_accuracy])[0],
        "counts": state.places([method.train_confusion.counts])[0],
        "robust_loss": state.places([method.robust_loss.total, method.robust_loss.count]),
        "total_losses": None if total_losses is None else state.places([total_losses])[0],
    }


def _found(given: argparse.Namespace, flag: str) -> list[str]:
    """Returns the files of a flag's pattern."""
    pattern = getattr(given, flag)
    files = sorted(glob.glob(os.path.expanduser(pattern)))
    if pattern and not files:
        raise errors.DataError(f"--{flag}={pattern}: no such file")
    return files


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=lambda path: Path(path).expanduser())
    parser.add_argument(
        "--records", default="", help="pattern of the TFRecord files that hold the training set"
    )
    parser.add_argument(
        "--test_records", default="", help="pattern of the TFRecord files that hold the test set"
    )
    parser.add_argument("--small", action="store_true", help="round the weights to start from to bfloat16")
    given, rest = parser.parse_known_args(argv)
    from fairat_tf import flags_lib, quiet

    try:
        command = flags_lib.training_command(["train", *rest])
        command.parse(["train", *rest])
        config = flags_lib.config_from(command.flags)
        files, test_files = (_found(given, name) for name in ("records", "test_records"))
        quiet.import_tensorflow()
        export(config, given.folder, files, test_files, given.small)
    except errors.CommandError as error:
        print(f"run_step: {error}", file=sys.stderr)
        return error.exit_code
    except ValueError as error:
        print(f"run_step: {error}", file=sys.stderr)
        return errors.UsageError.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
