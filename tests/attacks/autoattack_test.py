"""The cascade: joint flags against the attacks run one by one, batch sizes, resuming, refusals, formats."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import attacks, rng
from fairat_tf.attacks import autoattack, cascade, cascade_state, evaluation
from fairat_tf.attacks.progress import print_progress

SMALL = {"epsilon": 0.01, "steps": 6, "queries": 40}
SEED = tf.constant([5, 6])


def run(network, images, labels, **options):
    attack = autoattack.AutoAttack(**{**SMALL, **options.pop("attack", {})})
    return attack.run(network, images, labels, SEED, **{"batch_size": 8, **options})


@pytest.fixture(scope="module")
def evaluated(networks):
    """One result on 24 images that several tests look at."""
    network = networks()
    images = np.random.default_rng(1).uniform(size=(24, 8, 8, 3)).astype(np.float32)
    labels = network(images).numpy().argmax(1).astype(np.int32)
    labels[::6] = (labels[::6] + 1) % 10
    seen = []
    return network, images, labels, run(network, images, labels, progress=seen.append), seen


def test_versions_are_those_of_the_authors():
    standard = autoattack.AutoAttack(epsilon=8 / 255).attacks()
    assert list(standard) == ["apgd-ce", "apgd-t", "fab-t", "square"]
    assert [standard[n].steps for n in ("apgd-ce", "apgd-t", "fab-t")] == [100, 100, 100]
    assert [standard[n].rounds(10) for n in ("apgd-ce", "apgd-t", "fab-t")] == [1, 9, 9]
    square = standard["square"]
    assert (square.queries, square.share, square.rescale, square.restarts) == (5000, 0.8, False, 1)
    plus = autoattack.AutoAttack(version="plus").attacks()
    assert list(plus) == ["apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"]
    assert [plus[n].restarts for n in plus if n != "square"] == [5, 5, 5, 1, 1] and plus["fab"].targets == 0
    rand = autoattack.AutoAttack(version="rand").attacks()
    assert [a.gradient_draws for a in rand.values()] == [20, 20] and list(rand) == ["apgd-ce", "apgd-dlr"]
    profile = autoattack.AutoAttack(version="torchattacks").attacks()
    assert [profile[n].steps for n in ("apgd-ce", "apgd-t", "fab-t")] == [10, 10, 10]
    assert profile["square"].rescale
    with pytest.raises(ValueError, match="known: standard, plus"):
        autoattack.AutoAttack(version="fast")


def test_flags_are_those_of_the_returned_images(evaluated):
    network, images, labels, result, _ = evaluated
    right = network(images).numpy().argmax(1) == labels
    still = network(result.adversarial).numpy().argmax(1) == labels
    assert np.array_equal(result.robust_after["clean"], right) and np.array_equal(result.robust, still)
    assert 0 < result.robust.sum() < right.sum()
    untouched = ~right | result.robust
    assert np.array_equal(result.adversarial[untouched], images[untouched])
    assert np.abs(result.adversarial - images).max() <= SMALL["epsilon"] + 1e-7


def test_every_attack_leaves_a_subset_and_the_last_is_the_result(evaluated):
    *_, labels, result, _ = evaluated
    flags = list(result.robust_after.values())
    assert list(result.after) == ["clean", "apgd-ce", "apgd-t", "fab-t", "square"]
    assert all((later <= earlier).all() for earlier, later in zip(flags, flags[1:], strict=False))
    assert np.array_equal(flags[-1], result.robust) and result.after["square"] == result.robust.mean()
    for c, accuracy in enumerate(result.after_by_class(10)["apgd-ce"]):
        members = [bool(result.robust_after["apgd-ce"][n]) for n in range(24) if labels[n] == c]
        assert accuracy == sum(members) / len(members) if members else np.isnan(accuracy)


def test_joint_result_is_the_minimum_of_the_attacks_alone(evaluated):
    """From the same draws, on all examples and not only on those that stand."""
    network, images, labels, result, _ = evaluated
    left = network(images).numpy().argmax(1) == labels
    for name, attack in autoattack.AutoAttack(**SMALL).attacks().items():
        rows = rng.Rows(rng.fold(SEED, name), tf.range(24), 256)
        alone = attack(network, tf.constant(images), tf.constant(labels), rows)
        left &= network(alone).numpy().argmax(1) == labels
        assert (left != result.robust_after[name]).sum() <= 1


def test_batch_size_padding_and_order_do_not_change_the_flags(evaluated):
    network, images, labels, result, _ = evaluated
    for options in ({"batch_size": 24}, {"batch_size": 5}, {"batch_size": 7, "jit_compile": True}):
        other = run(network, images, labels, **options)
        assert (other.robust != result.robust).sum() <= 1
    # The places of the draws repeat after 256 examples; within them the order is part of the seed, so
    # only what draws nothing is compared under a permutation.
    order = np.random.default_rng(0).permutation(24)
    fab = {"fab-t": attacks.get("fab-t")(0.01, steps=6)}
    both = [
        cascade.run(
            fab,
            "linf",
            evaluation.Networks(network),
            evaluation.examples(images[o], labels[o], 0.01),
            SEED,
            evaluation.Options(8),
        )
        for o in (np.arange(24), order)
    ]
    assert np.array_equal(both[0].robust[order], both[1].robust)


def test_progress_tells_where_it_is(evaluated, capsys):
    network, images, labels, result, seen = evaluated
    assert [p.attack for p in seen] == sorted((p.attack for p in seen), key=list(result.after).index)
    assert seen[-1].robust_accuracy == result.robust.mean() and seen[-1].seconds_left == 0
    assert all(p.seconds_left > 0 for p in seen[:-1]) and all(p.done <= p.total for p in seen)
    accuracies = [p.robust_accuracy for p in seen]
    assert accuracies == sorted(accuracies, reverse=True)
    print_progress(seen[0])
    assert "apgd-ce 1/1" in capsys.readouterr().err


class _StoppedError(Exception):
    pass


@pytest.mark.parametrize("after", [1, 6, 14])
def test_a_stopped_run_goes_on_and_ends_with_the_same_flags(after, evaluated, tmp_path):
    network, images, labels, result, _ = evaluated
    path, calls = tmp_path / "state.npz", []

    def stop(now):
        calls.append(now)
        if len(calls) == after:
            raise _StoppedError

    with pytest.raises(_StoppedError):
        run(network, images, labels, progress=stop, state_path=path)
    again = []
    resumed = run(network, images, labels, progress=again.append, state_path=path)
    assert np.array_equal(resumed.robust, result.robust)
    assert np.abs(resumed.adversarial - result.adversarial).max() < 1e-5
    for name, flags in result.robust_after.items():
        assert np.array_equal(resumed.robust_after[name], flags)
    assert len(again) + after < 60 and again and not list(tmp_path.glob("*.tmp"))
    finished = []
    run(network, images, labels, progress=finished.append, state_path=path)
    assert finished == []


SCRIPT = """
import os, signal, sys
import numpy as np
import tensorflow as tf
from fairat_tf.attacks import autoattack

random = np.random.default_rng(1)
images = random.uniform(size=(12, 4, 4, 3)).astype(np.float32)
W = tf.constant(random.normal(size=(48, 5)), tf.float32)
network = lambda x: tf.reshape(x - 0.5, [-1, 48]) @ W
labels = network(images).numpy().argmax(1)
seen = []

def report(now):
    seen.append(now)
    if len(seen) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

attack = autoattack.AutoAttack(0.03, steps=6, queries=40)
state = {"state_path": sys.argv[1], "save_every": 0.0} if sys.argv[1] else {}
result = attack.run(network, images, labels, tf.constant([5, 6]), batch_size=4, progress=report, **state)
print(len(seen), "".join(str(int(flag)) for flags in result.robust_after.values() for flag in flags))
"""


def test_after_kill_9_the_same_command_ends_with_the_same_flags(tmp_path):
    def command(path, killed_after):
        arguments = [sys.executable, "-c", SCRIPT, str(path), str(killed_after)]
        environment = {
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "CUDA_VISIBLE_DEVICES": "-1",
        }
        return subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)

    whole = command("", 0)
    assert command(tmp_path / "state", 7).returncode == -signal.SIGKILL
    resumed = command(tmp_path / "state", 0)
    calls, flags = whole.stdout.split()
    assert resumed.returncode == 0 and resumed.stdout.split()[1] == flags and set(flags) == {"0", "1"}
    # The batch whose report killed the process had not been saved yet: it is done again.
    assert int(resumed.stdout.split()[0]) == int(calls) - 6


def test_a_state_of_another_evaluation_is_refused(evaluated, networks, tmp_path):
    network, images, labels, _, _ = evaluated
    path = tmp_path / "state.npz"
    run(network, images[:4], labels[:4], state_path=path)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    others = [
        (network, images[4:8], labels[:4], {}),
        (network, images[:4], (labels[:4] + 1) % 10, {}),
        (network, images[:4], labels[:4], {"attack": {"epsilon": 0.02}}),
        (networks(scale=2.0), images[:4], labels[:4], {}),
    ]
    for *given, options in others:
        with pytest.raises(ValueError, match="another evaluation"):
            run(*given, state_path=path, **options)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


def test_a_broken_state_is_refused(evaluated, tmp_path):
    network, images, labels, _, _ = evaluated
    path = tmp_path / "state.npz"
    path.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(ValueError, match="not the state"):
        run(network, images[:4], labels[:4], state_path=path)


def test_state_is_replaced_as_a_whole(tmp_path, monkeypatch):
    path = tmp_path / "state.npz"
    cascade_state.save(path, {"a": np.arange(3)}, {"n": 1})
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        cascade_state.save(path, {"a": np.arange(9)}, {"n": 2})
    arrays, header = cascade_state.load(path)
    assert arrays["a"].tolist() == [0, 1, 2] and header == {"n": 1} and list(tmp_path.iterdir()) == [path]


def test_low_precision_is_refused_unless_only_for_the_search(evaluated):
    network, images, labels, result, _ = evaluated
    for dtype in (tf.float16, tf.bfloat16):
        low = lambda x, dtype=dtype: tf.cast(tf.cast(network(x), dtype), tf.float32)  # noqa: E731
        with pytest.raises(ValueError, match=dtype.name):
            run(low, images, labels)
    half = lambda x: tf.cast(network(tf.cast(tf.cast(x, tf.float16), tf.float32)), tf.float32)  # noqa: E731
    with pytest.raises(ValueError, match="float16"):
        run(network, images, labels, search_fn=half)
    coarse = lambda x: tf.cast(tf.cast(network(x), tf.bfloat16), tf.float32)  # noqa: E731
    searched = run(network, images, labels, search_fn=coarse)
    still = network(searched.adversarial).numpy().argmax(1) == labels
    assert np.array_equal(searched.robust, still)
    assert (searched.robust != result.robust).sum() <= 2


def test_what_a_search_claims_falsely_is_tried_again_in_float32(evaluated):
    network, images, labels, result, _ = evaluated

    def lies(x):
        """Tells every attack at once that it has succeeded."""
        return tf.roll(network(x), 1, axis=1)

    searched = run(network, images, labels, search_fn=lies)
    assert (searched.robust != result.robust).sum() <= 1


def test_a_live_model_a_keras_file_and_a_saved_model_have_equal_flags(images, tmp_path):
    import keras

    model = keras.Sequential(
        [
            keras.Input((8, 8, 3), name="image"),
            keras.layers.Conv2D(4, 3, 2, kernel_initializer=keras.initializers.HeNormal(seed=1)),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Flatten(),
            keras.layers.Dense(10, kernel_initializer=keras.initializers.HeNormal(seed=2)),
        ]
    )
    model.save(tmp_path / "model.keras")
    model.export(tmp_path / "export", verbose=False)
    saved, exported = (
        keras.models.load_model(tmp_path / "model.keras"),
        tf.saved_model.load(tmp_path / "export"),
    )
    labels = model(images, training=False).numpy().argmax(1)
    forms = [lambda x: model(x, training=False), lambda x: saved(x, training=False), exported.serve]
    flags = [
        run(form, images, labels, attack={"epsilon": 0.02, "steps": 4, "queries": 20}).robust
        for form in forms
    ]
    assert np.array_equal(flags[0], flags[1]) and np.array_equal(flags[0], flags[2])
    assert 0 < flags[0].sum() < len(images)


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes(classes, networks, images):
    network = networks(classes)
    labels = network(images).numpy().argmax(1)
    result = run(network, images, labels, attack={"epsilon": 0.03})
    assert 0 <= result.robust.sum() < len(images) and result.after["clean"] == 1.0


def test_one_graph_for_each_attack(images, labelled, network):
    traced = []

    def counting(x):
        traced.append(x.shape)
        return network(x)

    labels = labelled(network, images)
    first = run(counting, images[:8], labels[:8], batch_size=8)
    once = len(traced)
    traced.clear()
    run(counting, np.tile(images, (3, 1, 1, 1)), np.tile(labels, 3), batch_size=8)
    assert len(traced) == once and first.robust.shape == (8,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((4, 8, 8))}, "N, H, W, C"),
        ({"images": np.zeros((4, 8, 8, 3), np.uint8)}, "float"),
        ({"images": np.full((4, 8, 8, 3), 1.5, np.float32)}, r"\[0, 1\]"),
        ({"labels": np.zeros(3, int)}, "labels"),
        ({"labels": np.full(4, 10)}, "0 ... 9"),
        ({"epsilon": -1.0}, "epsilon"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_wrong_arguments_are_named(change, message, network, images):
    given = {"images": images[:4], "labels": np.zeros(4, int), **change}
    with pytest.raises(ValueError, match=message):
        run(network, given.pop("images"), given.pop("labels"), **given)


def test_larger_epsilon_never_helps_the_network(evaluated):
    network, images, labels, result, _ = evaluated
    larger = run(network, images, labels, attack={"epsilon": 0.02})
    assert larger.robust.sum() <= result.robust.sum()
    zero = run(network, images, labels, attack={"epsilon": 0.0})
    assert np.array_equal(zero.robust, zero.robust_after["clean"]) and np.array_equal(
        zero.adversarial, images
    )


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
