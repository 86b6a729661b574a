"""The stages that run the whole suite on both sides: agreement of the flags, and time."""

import argparse
import re
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from agreement.networks import cnn_weights, data, tf_cnn, train
from agreement.stages import ask_official, asked

from fairat_tf import attacks, networks, objectives, rng
from fairat_tf.attacks.pgd import loss_and_gradient


def suite(flags: argparse.Namespace) -> list[dict]:
    """The whole suite in float32: joint flags, average and worst class, on 1,000 examples."""

    rows = []
    for name, radii in asked(flags):
        weights, images = cnn_weights(flags, name), data(flags)
        x, y = images["test_x"][: flags.suite_examples], images["test_y"][: flags.suite_examples]
        for norm in flags.norms.split(","):
            epsilon = radii[norm]
            began = time.monotonic()
            result = attacks.get("autoattack")(epsilon=epsilon, norm=norm).run(
                tf_cnn(weights), x, y, rng.key(0, "agreement"), batch_size=250
            )
            seconds = time.monotonic() - began
            log = str(flags.work / "suite.log")
            other = ask_official(
                flags,
                "suite",
                weights,
                {"images": x, "labels": y},
                norm=norm,
                epsilon=epsilon,
                seed=0,
                batch_size=250,
                log=log,
            )
            itself = None
            if flags.repeat:
                again = ask_official(
                    flags,
                    "suite",
                    weights,
                    {"images": x, "labels": y},
                    norm=norm,
                    epsilon=epsilon,
                    seed=1,
                    batch_size=250,
                    log=log + ".again",
                )
                itself = 100 * float((again["robust"] == other["robust"]).mean())
            classes = [
                np.array([f[y == c].mean() for c in range(10)]) for f in (result.robust, other["robust"])
            ]
            rows.append(
                {
                    "network": name,
                    "norm": norm,
                    "epsilon": epsilon,
                    "examples": len(y),
                    "after": {k: round(100 * v, 2) for k, v in result.after.items()},
                    "official after": official_log(log),
                    "robust": 100 * float(result.robust.mean()),
                    "official robust": 100 * float(other["robust"].mean()),
                    "equal flags": 100 * float((result.robust == other["robust"]).mean()),
                    "official against itself, other seed": itself,
                    "worst class": 100 * float(classes[0].min()),
                    "official worst class": 100 * float(classes[1].min()),
                    "seconds": seconds,
                    "official seconds": float(other["seconds"]),
                }
            )
            print(rows[-1], flush=True)
    return rows


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
        gradient = _least_time(tf.function(_gradient_of(network, tf.constant(x), tf.constant(y))))
        query = _least_time(tf.function(lambda f=network: f(tf.constant(x))))
        rows.append({"run": name, "gradient": gradient, "fab gradient": gradient, "query": query})
        # What withstands everything meets 1,010 gradients of APGD, 900 of FAB, and 5,900 queries.
        whole = [
            1010 * r["gradient"] + 900 * r["fab gradient"] + 5900 * r["query"] for r in (rows[-1], rows[0])
        ]
        rows[-1]["whole suite / official"] = whole[0] / whole[1]
    print(rows, flush=True)
    return rows


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
    """Returns images -> logits of the model in inference mode."""
    return lambda images: model(images, training=False)


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
