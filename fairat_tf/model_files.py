"""Loads a trained classifier, ours or anybody's, as `images -> logits`.

    logits_fn = load_logits("runs/a")                  # run directory, .keras file or SavedModel
    model = load("somebody.keras", outputs="softmax", input_range=(0, 255))
    model.logits_fn(images), model.sha256

Accepted: a run directory (`best/model.keras`, otherwise `export/`), a `.keras` file (Keras' safe mode stays
on), a SavedModel (a program: scanned first, see `trust`), or `module:function` that returns a Keras model
or a callable. `.h5` and pickles are refused. Keras models run with `training=False`: BatchNorm is frozen.
"""

import dataclasses
import hashlib
import importlib
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fairat_tf import errors, optimization
from fairat_tf.evaluation import saved_model_scan
from fairat_tf.networks.folding import prepared

LogitsFn = Callable[[tf.Tensor], tf.Tensor]
OUTPUTS = ("logits", "softmax")
_HALF = ("mixed_bfloat16", "mixed_float16", "bfloat16", "float16")
_UNREADABLE = (
    *errors.DAMAGED,
    *(ValueError, TypeError, ImportError, AttributeError, LookupError, tf.errors.OpError),
)


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A loaded classifier.

    Attributes:
      logits_fn: float32 [B, H, W, C] in [0, 1] -> float32 logits [B, K].
      path: what was asked for.
      kind: "keras", "saved_model" or "function".
      sha256: of the file(s), or of the weights of a function's model; None if there is nothing to hash.
      parameters: number of weights, if known.
      image_shape: (H, W, C) with None where any size goes, or None if unknown.
      notes: what the user should know about how it was loaded.
      keras_model: the Keras model, if it is one.
      log_probabilities: the logits are logarithms of what the model returns as probabilities.
    """

    logits_fn: LogitsFn
    path: str
    kind: str
    sha256: str | None = None
    parameters: int | None = None
    image_shape: tuple[int | None, ...] | None = None
    notes: tuple[str, ...] = ()
    keras_model: Any = None
    log_probabilities: bool = False

    def described(self) -> dict[str, Any]:
        """Returns what goes into the evaluation result, JSON-able."""
        return {
            "path": self.path,
            "kind": self.kind,
            "sha256": self.sha256,
            "parameters": self.parameters,
            "notes": list(self.notes),
        }


def load_logits(path: str | Path, **options: Any) -> LogitsFn:
    """Returns the `logits_fn` of the model at `path`; `options` and errors as for `load`."""
    return load(path, **options).logits_fn


def load(
    path: str | Path,
    *,
    outputs: str = "logits",
    input_range: tuple[float, float] = (0.0, 1.0),
    endpoint: str = "",
    trust: bool = False,
) -> Model:
    """Returns the model at `path`.

    Args:
      path: run directory, `.keras` file, SavedModel directory, or "module:function".
      outputs: what the model returns. "softmax": the logits are recovered, by leaving out the last
        activation of a Keras model, otherwise by the logarithm (which cannot undo saturation).
      input_range: what the model expects for black and white; images in [0, 1] are scaled to it.
      endpoint: of a SavedModel; "" chooses `serve` or `serving_default`.
      trust: load a SavedModel although it holds operations that touch files or run Python.

    Raises:
      UsageError: nothing there, a kind that is refused, or no endpoint that takes float32 images.
    """
    if outputs not in OUTPUTS:
        raise errors.UsageError(f"outputs: expected one of {', '.join(OUTPUTS)}, got {outputs!r}")
    place = find(Path(path))
    if place is None:
        model = _from_function(str(path))
    elif place.is_dir():
        model = _from_saved_model(place, endpoint, trust)
    else:
        model = _from_keras_file(place)
    model = dataclasses.replace(model, path=str(path))
    if outputs == "softmax":
        model = _without_softmax(model)
    return dataclasses.replace(model, logits_fn=_scaled(model.logits_fn, *input_range))


def find(path: Path) -> Path | None:
    """Returns the file or SavedModel that `path` names, None for "module:function"; errors as for `load`."""
    if path.is_dir():
        inside = (path / "best" / "model.keras", path / "export", path)
        for place in inside:
            if place.suffix == ".keras" and place.is_file() or (place / "saved_model.pb").is_file():
                return place
        raise errors.UsageError(
            f"{path} holds no model: expected best/model.keras, export/ or saved_model.pb in it"
        )
    if path.suffix in (".h5", ".hdf5"):
        raise errors.UsageError(
            f"{path}: .h5 is refused, it can run code past Keras' safe mode; "
            'load it yourself where you trust it and save it again: model.save("model.keras")'
        )
    if path.is_file() and path.suffix == ".keras":
        return path
    if ":" in str(path) and not path.exists():
        return None
    what = "not found" if not path.exists() else "not a model that can be read"
    raise errors.UsageError(
        f"{path} is {what}; expected a run directory, a .keras file, a SavedModel or module:function (a "
        "model of another framework has to become one of these)"
    )


def _from_keras_file(path: Path) -> Model:
    _check_archive(path)
    _register_own_layers()
    try:
        model = keras.models.load_model(path, compile=False)
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())[:300]
        if "lambda" in reason.lower():
            raise errors.UsageError(
                f"{path} holds a Lambda layer, which is code, and is refused; where you trust it, load it "
                "yourself in a function and give --model=module:function"
            ) from error
        raise errors.UsageError(f"{path} cannot be loaded in Keras' safe mode: {reason}") from error
    return _from_keras_model(in_float32(model), "keras", _digest([path]))


def in_float32(model: keras.Model) -> keras.Model:
    """Returns the model with float32 layers: robustness is judged in float32 whatever it was trained in."""
    described = json.loads(model.to_json())
    changed = _with_float32(described)
    if changed == described:
        return model
    plain = keras.models.model_from_json(json.dumps(changed))
    optimization.set_weights(plain, [np.asarray(w, _wide(w.dtype)) for w in model.get_weights()])
    return plain


def _with_float32(described: Any) -> Any:
    """Returns a model's description with float32 in place of types and policies of half precision."""
    if isinstance(described, list):
        return [_with_float32(inner) for inner in described]
    if not isinstance(described, dict):
        return described
    changed = {key: _with_float32(inner) for key, inner in described.items()}
    if changed.get("dtype") in _HALF:
        changed["dtype"] = "float32"
    if changed.get("class_name") == "DTypePolicy" and changed["config"]["name"] in _HALF:
        changed["config"]["name"] = "float32"
    return changed


def _wide(dtype: np.dtype) -> Any:
    return np.float32 if dtype.name in ("float16", "bfloat16") else dtype


def _register_own_layers() -> None:
    for name in ("networks.architecture", "networks.layers"):
        try:
            importlib.import_module(f"fairat_tf.{name}")
        except ModuleNotFoundError:
            continue


def _from_function(path: str) -> Model:
    module_name, _, function_name = path.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise errors.UsageError(f"{path}: expected module:function, but {error}") from error
    made = function()
    if isinstance(made, keras.Model):
        return _from_keras_model(made, "function", None)
    if callable(made):
        return Model(lambda images: tf.cast(made(images), tf.float32), path, "function")
    raise errors.UsageError(f"{path}() returned {type(made).__name__}; expected a Keras model or a callable")


def _from_keras_model(model: Any, kind: str, sha256: str | None) -> Model:
    shape = getattr(model, "input_shape", None)
    if isinstance(shape, (list, dict)):
        raise errors.UsageError(f"expected a model with one input, got {len(shape)}")
    return Model(
        logits_fn=_logits_of(model),
        path="",
        kind=kind,
        sha256=sha256 or _weights_digest(model),
        parameters=int(model.count_params()) if model.built else None,
        image_shape=tuple(shape[1:]) if shape else None,
        keras_model=model,
    )


def _logits_of(model: Any) -> LogitsFn:
    """Returns the model in inference mode, prepared once (`networks.folding`): its weights do not change."""
    function = prepared(model)
    return lambda images: tf.cast(function(images), tf.float32)


def _from_saved_model(path: Path, endpoint: str, trust: bool) -> Model:
    found = saved_model_scan.dangerous(path)
    if found and not trust:
        raise errors.UsageError(
            f"{path} is a program that holds {', '.join(found)} (files or Python); "
            "give --trust if you know where it comes from"
        )
    try:
        loaded = tf.saved_model.load(str(path))
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())[:300]
        raise errors.UsageError(f"{path} cannot be loaded as a SavedModel: {reason}") from error
    name, function = saved_model_scan.endpoint(loaded, endpoint, path)
    hidden = saved_model_scan.dangerous_in(function)
    if hidden and not trust:
        raise errors.UsageError(f"{path}: endpoint {name} holds {', '.join(hidden)}; give --trust to run it")
    call, shape = saved_model_scan.caller(function, name)

    def logits_fn(images: tf.Tensor) -> tf.Tensor:
        return tf.cast(call(images), tf.float32)

    files = sorted(p for p in path.rglob("*") if p.is_file())
    variables: Any = getattr(loaded, "variables", None) or getattr(function, "variables", ())
    return Model(
        logits_fn=_Keeping(logits_fn, loaded),
        path="",
        kind="saved_model",
        sha256=_digest(files, path),
        parameters=sum(int(np.prod(v.shape)) for v in variables) or None,
        image_shape=shape,
        notes=(f"SavedModel endpoint {name}", "a SavedModel is a program: run only what you trust"),
    )


class _Keeping:
    """Calls a function and keeps alive what it needs (a SavedModel's variables)."""

    def __init__(self, function: LogitsFn, owner: Any):
        self._function, self._owner = function, owner

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        return self._function(images)


def _without_softmax(model: Model) -> Model:
    bare = _without_last_activation(model.keras_model) if model.keras_model is not None else None
    if bare is not None:
        note = "the last softmax was left out to get logits"
        return dataclasses.replace(
            model,
            logits_fn=_logits_of(bare),
            notes=(*model.notes, note),
        )
    inner = model.logits_fn
    note = "logits are logarithms of the probabilities: a saturated softmax stays saturated"
    return dataclasses.replace(
        model,
        logits_fn=_Keeping(lambda images: tf.math.log(tf.maximum(inner(images), 1e-30)), inner),
        notes=(*model.notes, note),
        log_probabilities=True,
    )


def _without_last_activation(model: Any) -> Any | None:
    """Returns the model without its last softmax, or None if the last layer has none."""
    last = model.layers[-1] if model.layers else None
    if last is None:
        return None
    name = getattr(getattr(last, "activation", None), "__name__", "")
    if isinstance(last, keras.layers.Softmax) or (
        isinstance(last, keras.layers.Activation) and name == "softmax"
    ):
        return keras.Model(model.inputs[0], last.input)
    if name == "softmax":
        last.activation = keras.activations.linear
        return model
    return None


def _scaled(logits_fn: LogitsFn, low: float, high: float) -> LogitsFn:
    if (low, high) == (0.0, 1.0):
        return logits_fn
    return _Keeping(lambda images: logits_fn(images * (high - low) + low), logits_fn)


def _check_archive(path: Path) -> None:
    """Refuses a .keras archive whose members would leave the folder they are unpacked into."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise errors.UsageError(f"{path} is not a .keras file (a zip archive): {error}") from error
    for name in names:
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or ":" in name:
            raise errors.UsageError(f"{path} is refused: its member {name!r} leaves the archive's folder")


def _digest(files: list[Path], root: Path | None = None) -> str:
    digest = hashlib.sha256()
    for file in files:
        if root:
            digest.update(str(file.relative_to(root)).encode() + b"\0")
        for chunk in _chunks(file):
            digest.update(chunk)
    return digest.hexdigest()


def _chunks(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            yield chunk


def _weights_digest(model: Any) -> str:
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()
