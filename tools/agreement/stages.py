"""What `compare_with_official.py` compares, stage by stage; each returns rows of figures."""

import argparse
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from agreement.networks import NETWORKS, SIZE, cnn_weights, data, tf_cnn

from fairat_tf import objectives, rng
from fairat_tf.attacks import apgd, square_windows, threat
from fairat_tf.attacks.fab import fab_t
from fairat_tf.attacks.search import ranked_class
from fairat_tf.attacks.square import Square
from fairat_tf.objectives import losses

ROOT = Path(__file__).resolve().parents[2]
TRACE_STEPS, SQUARE_QUERIES = 100, 500


def ask_official(flags: argparse.Namespace, task: str, weights: dict, arrays: dict, **options: Any) -> dict:
    """Returns what the official suite makes of a task (a name for the files, arrays, and options)."""
    options = {"network": "cnn", "double": False, "threads": flags.threads, **options}
    named = {f"w:{name}": value for name, value in weights.items()}
    np.savez(flags.work / f"{task}.npz", options=np.array(json.dumps(options)), **named, **arrays)
    command = [flags.torch_python, Path(__file__).with_name("official_side.py"), task, flags.work]
    environment = {**os.environ, "PYTHONPATH": str(flags.official)}
    subprocess.run([str(part) for part in command], check=True, env=environment, stdout=subprocess.DEVNULL)
    return dict(np.load(flags.work / f"{task}.out.npz"))


def correct_test_images(
    flags: argparse.Namespace, weights: dict, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first `count` test images that the network classifies correctly."""
    images = data(flags)
    right = np.argmax(tf_cnn(weights)(images["test_x"]).numpy(), -1) == images["test_y"]
    rows = np.flatnonzero(right)[:count]
    return images["test_x"][rows], images["test_y"][rows]


def _asked(flags: argparse.Namespace) -> list[tuple[str, dict[str, float]]]:
    return [(name, radii) for name, radii in NETWORKS.items() if name in flags.networks.split(",")]


def asked(flags: argparse.Namespace) -> list[tuple[str, dict[str, float]]]:
    """Returns the networks that --networks names, each with its radii."""
    return [(name, NETWORKS[name]) for name in flags.networks.split(",")]


def traces(flags: argparse.Namespace) -> list[dict]:
    """APGD in float64 from the same starts: every example's loss at every one of 101 points."""

    rows = []
    for name, radii in asked(flags):
        weights = cnn_weights(flags, name)
        network = tf_cnn(weights, "float64")
        images, labels = correct_test_images(flags, weights, flags.examples)
        images = images.astype(np.float64)
        for norm, epsilon in radii.items():
            ball = threat.get(norm)(tf.constant(images), epsilon)
            for objective in ("cross_entropy", "dlr", "targeted_dlr"):
                attack = apgd.APGD(epsilon, norm, TRACE_STEPS, objective=objective)
                start, seen = ball.boundary_start(rng.key(0, "start")), []

                def watched(points: Any, network: Any = network, seen: list = seen) -> Any:
                    logits = network(points)
                    seen.append(logits.numpy())
                    return logits

                loss = attack.loss(network, ball.images, 0)
                evaluate = apgd.averaged(watched, loss, tf.constant(labels), 1)
                end = apgd.climb(evaluate, ball, tf.constant(labels), start, TRACE_STEPS)
                targets = ranked_class(network(ball.images), 1).numpy()
                arrays = {"images": images, "labels": labels, "start": start.numpy(), "targets": targets}
                other = ask_official(
                    flags,
                    "trace",
                    weights,
                    arrays,
                    norm=norm,
                    epsilon=epsilon,
                    objective=objective,
                    steps=TRACE_STEPS,
                    double=True,
                )
                mine = np.stack([loss(tf.constant(z), tf.constant(labels)).numpy() for z in seen])
                theirs = np.stack(
                    [loss(tf.constant(z), tf.constant(labels)).numpy() for z in other["logits"]]
                )
                apart = np.abs(mine - theirs).max(0) / np.maximum(1.0, np.abs(theirs).max(0))
                rows.append(
                    {
                        "network": name,
                        "norm": norm,
                        "objective": objective,
                        "examples": len(labels),
                        "largest difference of a loss": float(apart.max()),
                        "traces within 1e-6": float((apart <= 1e-6).mean()),
                        "equal success": float((end.fooled.numpy() == (other["stands"] == 0)).mean()),
                        "survive": float(1 - end.fooled.numpy().mean()),
                    }
                )
                print(rows[-1], flush=True)
    return rows


def fab(flags: argparse.Namespace) -> list[dict]:
    """FAB-T in float64 towards each of nine targets: the norms of the perturbations."""

    rows = []
    for name, radii in asked(flags):
        weights = cnn_weights(flags, name)
        images, labels = correct_test_images(flags, weights, flags.examples)
        images, network = images.astype(np.float64), tf_cnn(weights, "float64")
        for norm, epsilon in radii.items():
            attack = fab_t(epsilon, norm=norm)
            nearest = tf.function(
                lambda x, y, n, a=attack, f=network: a.nearest(f, x, y, rng.key(0, "fab"), n)[1]
            )
            mine = np.stack([nearest(images, labels, tf.constant(n)).numpy() for n in range(9)])
            arrays = {"images": images, "labels": labels}
            other = ask_official(flags, "fab", weights, arrays, norm=norm, epsilon=epsilon, double=True)
            theirs = np.where(other["distance"] == 0, np.inf, other["distance"])
            both = np.isfinite(mine) & np.isfinite(theirs)
            apart = np.abs(mine[both] / theirs[both] - 1)
            rows.append(
                {
                    "network": name,
                    "norm": norm,
                    "runs": mine.size,
                    "found by both or neither": float((np.isfinite(mine) == np.isfinite(theirs)).mean()),
                    "median relative difference": float(np.median(apart)),
                    "99th percentile": float(np.quantile(apart, 0.99)),
                    "median of the nearest": float(np.median(np.abs(mine.min(0) / theirs.min(0) - 1))),
                    "equal verdict at epsilon": float(
                        ((mine.min(0) <= epsilon) == (theirs.min(0) <= epsilon)).mean()
                    ),
                }
            )
            print(rows[-1], flush=True)
    return rows


def square(flags: argparse.Namespace) -> list[dict]:
    """Square in float64, fed the same random numbers: the same decisions leave the same image."""

    rows = []
    for name, radii in asked(flags):
        weights = cnn_weights(flags, name)
        images, labels = correct_test_images(flags, weights, 12)
        images = images.astype(np.float64)
        for norm, epsilon in radii.items():
            random, attack = np.random.default_rng(0), Square(epsilon, norm, queries=SQUARE_QUERIES)
            tiles = int(square_windows.grid(SIZE, SIZE)[0].max()) + 1
            start = (len(images), 1, SIZE, 3) if norm == "linf" else (len(images), tiles, 3)
            tables = {
                "shared": random.random((SQUARE_QUERIES, 5)),
                "start_shared": random.random(tiles),
                "start_signs": random.choice([-1.0, 1.0], start),
                "signs": random.choice([-1.0, 1.0], (SQUARE_QUERIES, len(images), 3)),
            }
            draws, ball = _Recorded(tables), threat.get(norm)(tf.constant(images), epsilon)
            first = attack.start(ball, draws)
            points = attack.search(
                tf_cnn(weights, "float64"), ball, tf.constant(labels), draws, first, 0, SQUARE_QUERIES
            ).numpy()
            arrays = {"images": images, "labels": labels, **tables}
            other = ask_official(flags, "square", weights, arrays, norm=norm, epsilon=epsilon, double=True)
            apart = np.abs(points - other["points"]).max((1, 2, 3))
            rows.append(
                {
                    "network": name,
                    "norm": norm,
                    "examples": len(labels),
                    "equal decisions": float((apart < 1e-9).mean()),
                    "changed from the start": float(
                        (np.abs(points - first.numpy()).max((1, 2, 3)) > 0).mean()
                    ),
                    "largest difference of a pixel": float(apart.max()),
                }
            )
            print(rows[-1], flush=True)
    return rows


class _Recorded:
    def __init__(self, tables: dict[str, np.ndarray]):
        self.tables = tables

    def shared(self, query: Any, count: int) -> Any:

        if isinstance(query, int):
            return tf.constant(self.tables["start_shared"])
        return tf.constant(self.tables["shared"])[query, :count]

    def signs(self, query: Any, shape: Any) -> Any:

        return tf.constant(self.tables["start_signs" if isinstance(query, int) else "signs"])[
            ... if isinstance(query, int) else query
        ]


def freeze(flags: argparse.Namespace) -> list[dict]:
    """Writes tests/attacks/data/official.json: what the official suite gets on a problem made from a seed."""
    given = {"seed": 11, "epsilon": {"linf": 0.014, "l2": 0.14}}
    frozen: dict[str, Any] = {"made by": "tools/compare_with_official.py --stages=freeze", "network": given}
    frozen |= {"apgd": [], "fab": []}
    random = np.random.default_rng(given["seed"])
    kernel, linear = random.normal(size=(3, 3, 3, 6)) * 0.4, random.normal(size=(96, 5)) * 0.5
    images = random.uniform(size=(8, 8, 8, 3))
    noise = random.uniform(-1, 1, images.shape)
    # One convolution: the second one of the small network is left out.
    weights = {
        "conv1": kernel,
        "bias1": np.zeros(6),
        "linear": linear,
        "bias3": np.zeros(5),
        "scale": np.ones([]),
    }
    logits = tf_cnn(weights, "float64")(images).numpy()
    arrays = {"images": images, "labels": logits.argmax(1), "targets": np.argsort(-logits, 1)[:, 1]}
    for norm, epsilon in given["epsilon"].items():
        size = np.abs(noise).max((1, 2, 3)) if norm == "linf" else np.sqrt((noise**2).sum((1, 2, 3)))
        start = np.clip(images + epsilon * noise / size[:, None, None, None], 0, 1)
        options = {"norm": norm, "epsilon": epsilon, "double": True}
        for objective in ("cross_entropy", "dlr", "targeted_dlr"):
            other = ask_official(
                flags,
                "trace",
                weights,
                {**arrays, "start": start},
                objective=objective,
                steps=TRACE_STEPS,
                **options,
            )
            last = _loss(objective, other["logits"][-1], arrays)
            case = {
                "norm": norm,
                "objective": objective,
                "best": other["best"].tolist(),
                "last": last.tolist(),
            }
            frozen["apgd"].append({**case, "stands": other["stands"].astype(bool).tolist()})
        other = ask_official(flags, "fab", weights, arrays, ranks=4, **options)
        frozen["fab"].append({"norm": norm, "distance": other["distance"].tolist()})
    kept = ROOT / "tests" / "attacks" / "data" / "official.json"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(json.dumps(frozen))
    return []


def _loss(objective: str, logits: np.ndarray, arrays: dict[str, np.ndarray]) -> np.ndarray:

    labels, logits = tf.constant(arrays["labels"], tf.int32), tf.constant(logits)
    if objective == "targeted_dlr":
        return losses.targeted_dlr(logits, labels, arrays["targets"]).numpy()
    return objectives.get(objective)(logits, labels).numpy()
