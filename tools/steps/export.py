"""Writes a training step as an XLA program, with its state and data order, for `run.py`.

    ./tools/run_step export runs/step --dataset=cifar10 --data_dir=DIR --method=fairat \\
        --records='DIR/cifar10/*/*-train*'

FOLDER holds `step.hlo` (the program: pixels, labels, rows and number of a batch -> metrics, new state),
`program.json` (what its parameters are), `start/` (the state, in parts of 16 MB) and `data.npz`: the row of
each training example in the TFRecord files, or, without --records, the examples themselves. `test.npz` is
the same for the test examples that the run would evaluate at its end (--test_records), and `evaluate-*.hlo`
are the programs of its attacks. Other flags are those of fairat_tf.train.
"""

import argparse
import glob
import hashlib
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

import export_evaluation  # noqa: E402
import records  # noqa: E402
import shards  # noqa: E402

from fairat_tf import errors  # noqa: E402


def refusal(parts: Any) -> str:
    """Returns why a run cannot go on without Keras between its epochs; "" if it can."""
    from fairat_tf.methods.base import Method
    from fairat_tf.methods.fairat import FairAT

    method, kind = parts.method, type(parts.method)
    if parts.config.run.devices not in ("1", 1):
        return "devices: the program is for one device"
    if kind.on_epoch_begin is not Method.on_epoch_begin or kind.class_shares is not Method.class_shares:
        return f"method={parts.config.method} does more at the begin of an epoch than a program can"
    if kind.on_epoch_end not in (Method.on_epoch_end, FairAT.on_epoch_end):
        return f"method={parts.config.method} learns from the end of an epoch, which a program cannot"
    if method.class_weights.startswith(("inverse", "hedge")) or method.class_label_smoothing:
        return "class_weights=inverse, hedge and class_label_smoothing follow the end of each epoch"
    options = parts.config.options
    if options.get("hard_choice") == "worst_classes" or options.get("split_bn"):
        return "hard_choice=worst_classes and split_bn follow the end of each epoch"
    return ""


class Program:
    """The step of a run as a `tf.function` for XLA, and what its parameters are."""

    def __init__(self, parts: Any):
        import tensorflow as tf

        from fairat_tf.data import pipeline

        self.state = list(parts.method.state)
        self.place_of = {_variable(v).handle._id: f"{i:04d}" for i, v in enumerate(self.state)}
        self.constants: dict[str, np.ndarray] = {}
        size, shape = parts.config.data.batch_size, parts.train.images.shape[1:]
        self.arguments = [
            tf.TensorSpec([size, *shape], tf.uint8, "pixels"),
            tf.TensorSpec([size], tf.int32, "labels"),
            tf.TensorSpec([size], tf.int32, "rows"),
            tf.TensorSpec([], tf.int32, "number"),
        ]

        @tf.function(jit_compile=True, autograph=False)
        def step(pixels: Any, labels: Any, rows: Any, number: Any) -> Any:
            batch = {"image": tf.cast(pixels, tf.float32) / 255.0, "label": labels, "index": rows}
            seed = parts.config.run.seed
            return parts.method.train_step(
                pipeline.varied(batch, number, seed=seed, augment=parts.weak, mix=parts.mix)
            )

        self.step = step

    def write(self, folder: Path) -> dict[str, Any]:
        """Writes step.hlo; returns what `program.json` says of it."""
        import tensorflow as tf

        zeros = [tf.zeros(spec.shape, spec.dtype) for spec in self.arguments]
        concrete = self.step.get_concrete_function(*zeros)
        program = self.step.experimental_get_compiler_ir(*zeros)
        (folder / "step.hlo").write_bytes(program(stage="hlo_serialized"))
        header = program(stage="hlo").split("entry_computation_layout")[0]
        pairs = re.findall(r"\{(\d+)\}: \((\d+), \{\}", header)
        return {
            "arguments": [[s.name, s.shape.as_list(), s.dtype.name] for s in self.arguments],
            "results": sorted(concrete.structured_outputs),
            "alias": [[int(output), int(parameter)] for output, parameter in pairs],
            "captured": [self._name(tensor) for tensor in concrete.captured_inputs],
        }

    def _name(self, tensor: Any) -> str:
        """Returns the name of what the step captures: a variable's place in the state, or a constant."""
        if tensor.dtype != "resource":
            name = f"constant-{len(self.constants):03d}"
            self.constants[name] = np.asarray(tensor)
            return name
        if tensor._id not in self.place_of:
            raise errors.UsageError(f"the step uses {tensor}, which is not part of the method's state")
        return self.place_of[tensor._id]

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns all that the step captures, and the rest of the state: name -> values."""
        return {f"{i:04d}": _variable(v).numpy() for i, v in enumerate(self.state)} | self.constants

    def places(self, variables: Sequence[Any]) -> list[str]:
        """Returns the places of variables in the state."""
        return [self.place_of[_variable(v).handle._id] for v in variables]


def _variable(variable: Any) -> Any:
    """Returns TensorFlow's variable of a Keras variable."""
    return getattr(variable, "value", variable)


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
    for name in ("step.hlo", "program.json"):
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
    program, method = Program(parts), parts.method
    evaluation, constants, test = export_evaluation.write(folder, parts)
    method.reset_metrics()
    sums = [variable for metric in method.train_metrics for variable in metric.variables]
    facts = program.write(folder) | {
        "config": json.loads(parts.config.to_json()),
        "network": json.loads(method.evaluated_network.to_json()),
        "epoch": program.places([method.epoch])[0],
        "sums": program.places(sums),
        "evaluated": program.places(method.evaluated_network.variables),
        "steps": parts.steps,
        "epochs": parts.config.optimization.epochs,
        "evaluation": evaluation,
    }
    (folder / "program.json").write_text(json.dumps(facts))
    np.savez(folder / "constants.npz", **constants)
    _write_examples(folder / "data.npz", parts.train, files)
    _write_examples(folder / "test.npz", test, test_files)
    begin = {"epoch": 0, "step": 0, "program": _identity(folder, parts.train)}
    shards.write(folder / "start", program.arrays(), begin, small=small)
    print(
        f"{folder}: {len(parts.train)} examples, {len(program.state)} variables, {parts.steps} steps an epoch"
    )


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
