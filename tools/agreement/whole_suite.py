"""The stages that run the whole suite on both sides: agreement of the flags, and time."""

import argparse
import re
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from agreement.networks import cnn_weights, coarse_cnn, data, tf_cnn, train
from agreement.stages import ask_official, asked

from fairat_tf import attacks, networks, objectives, rng
from fairat_tf.attacks.pgd import loss_and_gradient
from fairat_tf.networks import folding


def suite(flags: argparse.Namespace) -> list[dict]:
    """The whole suite on 1,000 examples: joint flags, average and worst class, with either search."""
    rows = []
    for name, radii in asked(flags):
        weights, images = cnn_weights(flags, name), data(flags)
        x, y = images["test_x"][: flags.suite_examples], images["test_y"][: flags.suite_examples]
        for norm in flags.norms.split(","):
            facts = {"network": name, "norm": norm, "epsilon": radii[norm], "examples": len(y)}
            official = _official_suite(flags, weights, x, y, norm, radii[norm], seed=0)
            itself = None
            if flags.repeat:
                again = _official_suite(flags, weights, x, y, norm, radii[norm], seed=1)
                itself = _equal(again["robust"], official["robust"])
            for search, search_fn in {"float32": None, "bfloat16": coarse_cnn(weights)}.items():
                result = attacks.get("autoattack")(epsilon=radii[norm], norm=norm).run(
                    tf_cnn(weights), x, y, rng.key(0, "agreement"), batch_size=250, search_fn=search_fn
                )
                rows.append({**facts, "search": search, **_agreement(result, official, y)})
                rows[-1]["official against itself, other seed"] = itself
                print(rows[-1], flush=True)
    return rows


def _official_suite(
    flags: argparse.Namespace, weights: dict, x: Any, y: Any, norm: str, epsilon: float, seed: int
) -> dict[str, Any]:
    log = flags.work / f"suite-{seed}.log"
    options = {"norm": norm, "epsilon": epsilon, "seed": seed, "batch_size": 250, "log": str(log)}
    other = ask_official(flags, "suite", weights, {"images": x, "labels": y}, **options)
    return {**other, "after": official_log(str(log))}


def _agreement(result: Any, official: dict[str, Any], labels: np.ndarray) -> dict[str, Any]:
    worst = [
        100 * float(min(robust[labels == c].mean() for c in range(10)))
        for robust in (result.robust, official["robust"])
    ]
    return {
        "after": {k: round(100 * v, 2) for k, v in result.after.items()},
        "official after": official["after"],
        "robust": 100 * float(result.robust.mean()),
        "official robust": 100 * float(official["robust"].mean()),
        "equal flags": _equal(result.robust, official["robust"]),
        "worst class": worst[0],
        "official worst class": worst[1],
    }


def _equal(robust: np.ndarray, other: np.ndarray) -> float:
    return 100 * float((robust == other).mean())


def timing(flags: argparse.Namespace) -> list[dict]:
    """The whole suite on a PreActResNet-18 (32x32), one implementation after the other.

    Wall time and processor time; on a machine that does other work too, compare the latter, with one thread.
    """
    epsilon, images = 4 / 255, data(flags, 32)
    model, coarse = preact_resnets(flags, images, epsilon)
    x, y = images["test_x"][: flags.time_examples], images["test_y"][: flags.time_examples]
    weights = {"/".join(v.path.split("/")[-2:]): v.numpy() for v in model.variables}
    log, options = str(flags.work / "time.log"), {"norm": "linf", "epsilon": epsilon, "seed": 0}
    options |= {"network": "preact_resnet18", "batch_size": flags.time_batch, "log": log}
    other = ask_official(flags, "suite", weights, {"images": x, "labels": y}, **options)
    official = {"run": "official", "seconds": float(other["seconds"]), "busy": float(other["busy"])}
    rows = [{**official, "after": official_log(log)}]
    print(rows, flush=True)
    attack, key = attacks.get("autoattack")(epsilon=epsilon), rng.key(0, "time")
    for name, search in {"float32": None, "bfloat16 search": coarse}.items():
        began, busy = time.monotonic(), time.process_time()
        result = attack.run(model_logits(model), x, y, key, batch_size=flags.time_batch, search_fn=search)
        row = {"run": name, "seconds": time.monotonic() - began, "busy": time.process_time() - busy}
        row |= {"after": result.after, "by attack": result.seconds}
        row["equal flags"] = 100 * float((result.robust == other["robust"]).mean())
        row |= {f"{kind} / official": row[kind] / official[kind] for kind in ("seconds", "busy")}
        rows.append(row)
        print(row, flush=True)
    return rows


def passes(flags: argparse.Namespace) -> list[dict]:
    """Processor time of what the suite is made of, a gradient step and a query, at the full width of 64."""
    make, x = networks.get("preact_resnet18"), data(flags, 32)["test_x"][: flags.time_batch]
    y, model = np.zeros(len(x), np.int32), make(num_classes=10)
    keras.config.set_dtype_policy("mixed_bfloat16")
    coarse = make(num_classes=10)
    keras.config.set_dtype_policy("float32")
    weights = {"/".join(v.path.split("/")[-2:]): v.numpy() for v in model.variables}
    options = {"network": "preact_resnet18", "repetitions": 5}
    other = ask_official(flags, "passes", weights, {"images": x, "labels": y}, **options)
    rows = [{"run": "PyTorch", **{name: float(value) for name, value in other.items()}}]
    for name, network in {"float32": model_logits(model), "bfloat16": model_logits(coarse)}.items():
        gradient = _least_time(_graph(_gradient_of(network, tf.constant(x), tf.constant(y))))
        query = _least_time(_graph(lambda f=network: f(tf.constant(x))))
        rows.append({"run": name, "gradient": gradient, "fab gradient": gradient, "query": query})
        # What withstands everything meets 1,010 gradients of APGD, 900 of FAB, and 5,900 queries.
        whole = [
            1010 * r["gradient"] + 900 * r["fab gradient"] + 5900 * r["query"] for r in (rows[-1], rows[0])
        ]
        rows[-1]["whole suite / official"] = whole[0] / whole[1]
    print(rows, flush=True)
    return rows


def _graph(function: Any) -> Any:
    return tf.function(function, autograph=False)


def _gradient_of(network: Any, x: tf.Tensor, y: tf.Tensor) -> Any:
    return lambda: loss_and_gradient(network, objectives.get("cross_entropy"), x, y)


def _least_time(call: Any) -> float:
    taken = []
    for _ in range(6):
        began = time.process_time()
        call()
        taken.append(time.process_time() - began)
    return min(taken)


def model_logits(model: keras.Model) -> Any:
    """Returns images -> logits of the model, prepared once as evaluation does it (`networks.folding`)."""
    return folding.prepared(model)


def preact_resnets(flags: argparse.Namespace, images: dict, epsilon: float) -> tuple[keras.Model, Any]:
    """Returns an adversarially trained network, kept after the first call, and its bfloat16 logits."""
    make = networks.get("preact_resnet18")
    model = make(num_classes=10, width=flags.width)
    kept = flags.work / f"preact_resnet18_{flags.width}.weights.h5"
    if kept.exists():
        model.load_weights(kept)
    else:
        for radius, steps in ((0.0, 250), (epsilon, 100)):
            given = (images["train_x"], images["train_y"], radius, steps)
            train(lambda x, training: model(x, training=training), model.trainable_variables, *given)
        model.save_weights(kept)
    keras.config.set_dtype_policy("mixed_bfloat16")
    coarse = make(num_classes=10, width=flags.width)
    keras.config.set_dtype_policy("float32")
    coarse.set_weights(model.get_weights())
    return model, model_logits(coarse)


def official_log(path: str) -> dict[str, float]:
    """Returns the accuracy after each attack, in per cent, from the official suite's log."""
    text = Path(path).read_text()
    pairs = re.findall(r"robust accuracy after ([A-Z-]+): ([0-9.]+)%", text)
    return {name.lower(): float(value) for name, value in pairs}
