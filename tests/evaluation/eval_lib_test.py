"""Holds: the result is what a plain loop over the examples gives, in the format of the contract."""

import json

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import attacks, errors, eval_lib, rng
from fairat_tf.evaluation import attacking, suite
from fairat_tf.evaluation.attacking import Bench
from fairat_tf.evaluation.state import Store
from fairat_tf.reporting import files


@pytest.fixture(scope="module")
def result(small):
    return eval_lib.evaluate(
        small.logits_fn, small.images, small.labels, small.names, attacks=("fgsm", "pgd20"), batch_size=32,
        checks="quick", keep_adversarial=True,
    )  # fmt: skip


def test_clean_accuracy_is_the_networks(small, result):
    predicted = np.argmax(small.network.predict(small.images / np.float32(255), verbose=0), axis=1)
    for c, name in enumerate(small.names):
        own = small.labels == c
        row = result["attacks"]["clean"]["per_class"][name]
        assert (row["correct"], row["total"]) == ((predicted[own] == c).sum(), own.sum())


def test_fgsm_equals_a_plain_loop(small, result):
    images = tf.constant(small.images / np.float32(255))
    adversarial = attacks.get("fgsm")(epsilon=8 / 255)(
        small.logits_fn, images, tf.constant(small.labels), rng.key(0, "x")
    )
    predicted = np.argmax(small.logits_fn(adversarial), axis=1)
    clean = np.argmax(small.logits_fn(images), axis=1)
    expected = (predicted == small.labels) & (clean == small.labels)
    np.testing.assert_array_equal(result["per_example"]["correct/fgsm"], expected)


def test_the_attack_does_something_and_never_helps(result):
    clean, pgd = (result["per_example"][f"correct/{name}"] for name in ("clean", "pgd20"))
    assert 0 < pgd.sum() < clean.sum()
    assert not np.any((pgd == 1) & (clean == 0))


def test_kept_images_are_in_the_ball_and_give_the_flags(small, result):
    adversarial = result["per_example"]["adversarial/pgd20"]
    natural = small.images / np.float32(255)
    assert np.abs(adversarial - natural).max() <= 8 / 255 + 1e-6
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    right = np.argmax(small.logits_fn(adversarial), axis=1) == small.labels
    np.testing.assert_array_equal(right, result["per_example"]["correct/pgd20"])


def test_format_of_the_contract(result, tmp_path):
    files.write(result, tmp_path)
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert {
        "format",
        "model",
        "dataset",
        "threat_model",
        "seed",
        "attacks",
        "fairness",
        "verdict",
        "environment",
    } <= set(written)
    attack = written["attacks"]["pgd20"]
    assert {"accuracy", "ci95", "correct", "total", "worst_class", "per_class", "seconds"} <= set(attack)
    assert set(attack["worst_class"]) == {"name", "accuracy", "ci95"}
    assert set(attack["per_class"]["cross"]) == {"accuracy", "ci95", "correct", "total"}
    assert written["threat_model"] == {"norm": "linf", "epsilon": pytest.approx(8 / 255)}
    assert set(written["dataset"]) >= {"name", "split", "examples", "class_names", "fingerprint"}
    assert attack["accuracy"] == attack["correct"] / attack["total"]
    assert np.sum(attack["confusion"]) == 80 and np.trace(attack["confusion"]) <= attack["correct"] + 1


def test_batch_size_does_not_change_a_deterministic_attack(small):
    flags = [
        eval_lib.evaluate(
            small.logits_fn,
            small.images,
            small.labels,
            small.names,
            attacks=("fgsm",),
            batch_size=size,
            checks="none",
        )["per_example"]["correct/fgsm"]
        for size in (7, 80, 500)
    ]
    np.testing.assert_array_equal(flags[0], flags[1])
    np.testing.assert_array_equal(flags[1], flags[2])


def test_unbalanced_labels_are_counted_as_they_are(small):
    keep = np.flatnonzero((small.labels != 2) | (np.arange(80) < 12))
    found = eval_lib.evaluate(
        small.logits_fn, small.images[keep], small.labels[keep], small.names, attacks=(), checks="none"
    )
    assert [row["total"] for row in found["attacks"]["clean"]["per_class"].values()] == [20, 20, 3, 20]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 4, 4, 3)) + 7.0, [0, 1], r"floats in \[0, 1\]"),
        (np.zeros((2, 4, 4, 3), np.uint8), [0, 4], "4 class names"),
        (np.zeros((2, 4, 4), np.uint8), [0, 1], r"\[N, H, W, C\]"),
        (np.zeros((0, 4, 4, 3), np.uint8), [], "N > 0"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(images, labels, message):
    with pytest.raises(ValueError, match=message):
        eval_lib.evaluate(lambda x: x, images, np.array(labels), list("abcd"))


def test_a_killed_run_goes_on_where_it_was(small, tmp_path, monkeypatch):
    monkeypatch.setattr(attacking, "_SAVE_EVERY", 0.0)
    calls = []

    def counting(stop_at):
        def step(network):
            calls.append(len(network))
            if len(calls) == stop_at:
                raise KeyboardInterrupt

        return step

    def bench(before):
        made = Bench(
            small.logits_fn, small.images, small.labels, batch_size=16, store=Store(tmp_path / "s", {"a": 1})
        )
        compiled = made._compiled

        def observed(function, epsilon):
            step = compiled(function, epsilon)

            def wrapped(images, labels, seed):
                before(images)
                return step(images, labels, seed)

            return wrapped

        made._compiled = observed
        return made

    whole = Bench(small.logits_fn, small.images, small.labels, batch_size=16)
    expected = whole.attack("pgd20", whole.clean())[0]
    first = bench(counting(8))
    with pytest.raises(KeyboardInterrupt):
        first.attack("pgd20", first.clean())
    calls.clear()
    second = bench(counting(-1))
    again = second.attack("pgd20", second.clean())[0]
    np.testing.assert_array_equal(again.correct, expected.correct)
    assert len(calls) < 5  # 5 clean batches and the first of the attack's were kept


def test_state_of_other_settings_is_refused(tmp_path):
    Store(tmp_path, {"epsilon": 0.1, "seed": 0})
    with pytest.raises(OSError, match=r"other settings \(epsilon\)"):
        Store(tmp_path, {"epsilon": 0.2, "seed": 0})


class _StubSuite:
    """Has AutoAttack's interface; breaks every third example by the first part, every fifth by the second."""

    def __init__(self, epsilon=0.1, norm="linf"):
        self.runs = []

    def attacks(self):
        return {"apgd-ce": None, "square": None}

    def run(self, logits_fn, images, labels, seed, *, batch_size, progress, state_path):
        self.runs.append(len(labels))
        right = np.argmax(logits_fn(images), axis=1) == labels
        place = np.round(images[:, 0, 0, 0] * 255).astype(int)
        first = right & (place % 3 != 0)
        joint = first & (place % 5 != 0)
        adversarial = np.where(joint[:, None, None, None], images, 1 - images).astype(np.float32)
        return type(
            "Result",
            (),
            {
                "adversarial": adversarial,
                "robust": joint,
                "robust_after": {"apgd-ce": first, "square": joint},
                "answers": np.argmax(logits_fn(adversarial), axis=1),
                "not_finite": {"apgd-ce": 0, "square": 0},
                "seconds": {"apgd-ce": 2.0, "square": 3.0},
            },
        )()


@pytest.fixture
def numbered():
    """A 'model' that answers the second pixel, and 60 images whose first pixel is their number."""
    images = np.zeros((60, 4, 4, 1), np.uint8)
    labels = (np.arange(60) % 3).astype(np.int32)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = np.arange(60), labels * 100

    def logits_fn(points):
        value = points[:, 0, 1, :] * 2.55
        return -tf.abs(value - tf.constant([[0.0, 1.0, 2.0]]))

    return logits_fn, images, labels


def test_autoattack_gives_its_parts_and_the_joint_result(numbered, monkeypatch):
    logits_fn, images, labels = numbered
    monkeypatch.setattr(suite.attacks, "get", lambda name: _StubSuite)
    found = eval_lib.evaluate(
        logits_fn, images, labels, "abc", attacks=("autoattack",), checks="none", batch_size=20
    )
    assert list(found["attacks"]) == ["clean", "apgd-ce", "square", "autoattack"]
    numbers = np.arange(60)
    assert found["attacks"]["apgd-ce"]["correct"] == (numbers % 3 != 0).sum()
    assert found["attacks"]["autoattack"]["correct"] == ((numbers % 3 != 0) & (numbers % 5 != 0)).sum()


def test_a_damaged_state_of_a_block_is_done_again(numbered, monkeypatch, tmp_path):
    logits_fn, images, labels = numbered
    monkeypatch.setattr(suite.attacks, "get", lambda name: _StubSuite)
    options = {"attacks": ("autoattack",), "checks": "none", "state_dir": str(tmp_path)}
    (tmp_path / "suite-parts.npz").write_bytes(b"PK cut off")
    (tmp_path / "clean.npz").write_bytes(b"")
    assert eval_lib.evaluate(logits_fn, images, labels, "abc", **options)["attacks"]["clean"]["total"] == 60
    assert not (tmp_path / "suite-parts.npz").exists()
    (tmp_path / "identity.json").write_text("")
    with pytest.raises(errors.OtherSettings, match="damaged"):
        eval_lib.evaluate(logits_fn, images, labels, "abc", **options)


def test_a_random_model_has_no_logits_to_be_known_by(numbered, tmp_path):
    _, images, labels = numbered
    noise = np.random.default_rng(0)

    def logits_fn(points):
        return tf.numpy_function(lambda x: noise.random((len(x), 3), np.float32), [points], tf.float32)

    for _ in range(2):
        eval_lib.evaluate(
            logits_fn, images, labels, "abc", attacks=("clean",), checks="none", state_dir=str(tmp_path)
        )


def test_budget_takes_even_blocks_and_says_what_was_left_out(numbered, monkeypatch, tmp_path):
    logits_fn, images, labels = numbered
    monkeypatch.setattr(suite.attacks, "get", lambda name: _StubSuite)
    options = {"attacks": ("autoattack",), "checks": "none", "batch_size": 12, "budget": 1e-9}
    found = eval_lib.evaluate(logits_fn, images, labels, "abc", state_dir=str(tmp_path), **options)
    attack = found["attacks"]["autoattack"]
    assert [row["total"] for row in attack["per_class"].values()] == [4, 4, 4]
    assert attack["note"].startswith("12 of 60 examples")
    assert found["attacks"]["clean"]["total"] == 60
    more = eval_lib.evaluate(
        logits_fn, images, labels, "abc", state_dir=str(tmp_path), **options | {"budget": 1e9}
    )
    first, second = (f["per_example"]["correct/autoattack"] for f in (found, more))
    assert more["attacks"]["autoattack"]["total"] == 60
    np.testing.assert_array_equal(first[first >= 0], second[first >= 0])


def test_the_suites_time_is_that_of_its_parts_where_it_was_interrupted(numbered, monkeypatch):
    logits_fn, images, labels = numbered
    monkeypatch.setattr(suite.attacks, "get", lambda name: _StubSuite)  # says 5 s of which this call saw none
    found = eval_lib.evaluate(logits_fn, images, labels, "abc", attacks=("autoattack",), checks="none")
    assert found["attacks"]["autoattack"]["seconds"] >= 5.0


def test_what_another_version_has_done_is_refused(numbered, monkeypatch, tmp_path):
    logits_fn, images, labels = numbered
    options = {"attacks": ("clean",), "checks": "none", "state_dir": str(tmp_path)}
    eval_lib.evaluate(logits_fn, images, labels, "abc", **options)
    monkeypatch.setattr(eval_lib, "__version__", "9.9")
    with pytest.raises(errors.OtherSettings, match=r"other settings \(version\)"):
        eval_lib.evaluate(logits_fn, images, labels, "abc", **options)


def test_an_unfinished_suite_of_another_attack_is_refused(numbered, monkeypatch, tmp_path):
    class Other(_StubSuite):
        def run(self, *arguments, **options):
            raise suite.cascade_state.OtherStateError("another evaluation")

    logits_fn, images, labels = numbered
    monkeypatch.setattr(suite.attacks, "get", lambda name: Other)
    options = {"attacks": ("autoattack",), "checks": "none", "state_dir": str(tmp_path)}
    with pytest.raises(errors.OtherSettings, match="the model or the attack"):
        eval_lib.evaluate(logits_fn, images, labels, "abc", **options)


@pytest.mark.slow
def test_the_real_autoattack_is_at_least_as_strong_as_pgd(small):
    found = eval_lib.evaluate(
        small.logits_fn,
        small.images[:24],
        small.labels[:24],
        small.names,
        attacks=("pgd20", "autoattack"),
        checks="none",
    )
    suite_parts = ["apgd-ce", "apgd-t", "fab-t", "square", "autoattack"]
    assert list(found["attacks"]) == ["clean", "pgd20", *suite_parts]
    accuracy = [found["attacks"][name]["accuracy"] for name in ("clean", *suite_parts)]
    assert accuracy == sorted(accuracy, reverse=True)
    assert accuracy[-1] <= found["attacks"]["pgd20"]["accuracy"] + 1 / 24


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
