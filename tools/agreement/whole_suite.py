"""The stages that run the whole suite on both sides: agreement of the flags, and time."""

import argparse
import re
import time
from pathlib import Path

import keras
import numpy as np
from agreement.networks import cnn_weights, data, tf_cnn, train
from agreement.stages import ask_official, asked

from fairat_tf import attacks, networks, rng


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
    """The whole suite on a PreActResNet-18 (32x32, narrow), one implementation after the other.

    Wall time and processor time of both cores: on a machine that does other work too, compare the latter.
    """

    images = data(flags, 32)
    model = networks.get("preact_resnet18")(num_classes=10, width=flags.width)
    epsilon = 4 / 255
    kept = flags.work / f"preact_resnet18_{flags.width}.weights.h5"
    if kept.exists():
        model.load_weights(kept)
    else:
        train(
            lambda x, training: model(x, training=training),
            model.trainable_variables,
            images["train_x"],
            images["train_y"],
            0.0,
            250,
        )
        train(
            lambda x, training: model(x, training=training),
            model.trainable_variables,
            images["train_x"],
            images["train_y"],
            epsilon,
            100,
        )
        model.save_weights(kept)
    keras.config.set_dtype_policy("mixed_bfloat16")
    half = networks.get("preact_resnet18")(num_classes=10, width=flags.width)
    keras.config.set_dtype_policy("float32")
    half.set_weights(model.get_weights())
    x, y = images["test_x"][: flags.time_examples], images["test_y"][: flags.time_examples]
    weights = {"/".join(v.path.split("/")[-2:]): v.numpy() for v in model.variables}
    searches = {"float32": None, "bfloat16 search": lambda z: half(z, training=False)}
    runs, flags_of = [], {}
    attack = attacks.get("autoattack")(epsilon=epsilon)
    for name, search in searches.items():
        began, busy = time.monotonic(), time.process_time()
        result = attack.run(
            lambda z: model(z, training=False),
            x,
            y,
            rng.key(0, "time"),
            batch_size=flags.time_batch,
            search_fn=search,
        )
        runs.append({"run": name, "seconds": time.monotonic() - began, "busy": time.process_time() - busy})
        runs[-1] |= {"after": result.after, "by attack": result.seconds}
        flags_of[name] = result.robust
        print(runs[-1], flush=True)
    log = str(flags.work / "time.log")
    other = ask_official(
        flags,
        "suite",
        weights,
        {"images": x, "labels": y},
        network="preact_resnet18",
        norm="linf",
        epsilon=epsilon,
        seed=0,
        batch_size=flags.time_batch,
        log=log,
    )
    for row in runs:
        row["equal flags"] = 100 * float((flags_of[row["run"]] == other["robust"]).mean())
        row["of the official processor time"] = row["busy"] / float(other["busy"])
        row["of the official wall time"] = row["seconds"] / float(other["seconds"])
    runs.append(
        {
            "run": "official",
            "seconds": float(other["seconds"]),
            "busy": float(other["busy"]),
            "after": official_log(log),
        }
    )
    print(runs, flush=True)
    return runs


def official_log(path: str) -> dict[str, float]:
    """Returns the accuracy after each attack, in per cent, from the official suite's log."""
    text = Path(path).read_text()
    pairs = re.findall(r"robust accuracy after ([A-Z-]+): ([0-9.]+)%", text)
    return {name.lower(): float(value) for name, value in pairs}
