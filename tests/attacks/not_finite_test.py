"""Holds: NaN and infinity in networks and gradients neither stop an attack nor count as protection."""

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import attacks, rng
from fairat_tf.attacks import autoattack, cascade_state, threat, verification
from fairat_tf.attacks.pgd import loss_and_gradient, misclassified
from fairat_tf.evaluation.attacking import Bench
from fairat_tf.objectives import losses

SEED = tf.constant([3, 4])


def _with_a_hole(network):
    """The same logits, with a gradient of NaN at one pixel: the root's slope at 0 times 0."""

    def logits_fn(images):
        zero = tf.sqrt(tf.square(images[:, :1, 0, 0] * 0.0))
        return network(images) + tf.pad(zero, [[0, 0], [0, 9]])

    return logits_fn


def _silent_beyond(network, limit):
    """Answers NaN where the first pixel is above the limit."""

    def logits_fn(images):
        loud = images[:, :1, 0, 0] > limit
        return tf.where(loud, tf.constant(np.nan), network(images))

    return logits_fn


def test_normal_draws_are_finite_at_both_ends_of_the_integers():
    ends = rng._inverted(tf.constant([0.0, 0.5 - 2.0**-24, 0.5, 1.0 - 2.0**-24])).numpy()
    assert np.isfinite(ends).all() and ends[0] < -5 and ends[3] > 5
    assert abs(ends[1]) < 1e-6 and abs(ends[2]) < 1e-6


def test_a_gradient_that_is_not_finite_is_0_and_the_others_stay(network, images):
    points, labels = tf.constant(images), tf.zeros(24, tf.int32)
    _, whole, _ = loss_and_gradient(network, losses.cross_entropy, points, labels)
    _, holed, _ = loss_and_gradient(_with_a_hole(network), losses.cross_entropy, points, labels)
    with tf.GradientTape() as tape:
        tape.watch(points)
        value = losses.cross_entropy(_with_a_hole(network)(points), labels)
    assert np.isnan(tape.gradient(value, points).numpy()[:, 0, 0, 0]).all()  # the hole is there
    expected = whole.numpy()
    expected[:, 0, 0, 0] = 0.0
    np.testing.assert_allclose(holed, expected, rtol=1e-5, atol=1e-6)


def test_square_takes_a_proposal_that_gets_no_answer():
    """The first pixel's row of signs leaves most images answered; one window later none is."""

    def network(images):
        loud = images[:, :1, 0, 0] > 0.515
        return tf.where(loud, tf.constant(np.nan), tf.constant([[2.0, 0.0]]))

    images, labels = tf.fill([16, 6, 6, 1], 0.5), tf.zeros(16, tf.int32)
    found = attacks.get("square")(epsilon=0.03, queries=300)(network, images, labels, SEED)
    assert np.isnan(network(found).numpy()[:, 0]).all()
    assert np.abs(found - images).max() <= 0.03 + 1e-6


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["pgd", "cw", "fgsm", "mi-fgsm", "mt-pgd", "apgd-ce", "apgd-t", "fab-t"])
def test_every_attack_walks_around_the_hole(name, norm, network, images, labelled):
    """It fells about as many as without the hole, and its images are finite."""
    labels, fallen = tf.constant(labelled(network, images)), []
    small = {"steps": 10} if name != "fgsm" else {}
    attack = attacks.get(name)(epsilon={"linf": 0.03, "l2": 0.4}[norm], norm=norm, **small)
    for logits_fn in (network, _with_a_hole(network)):
        found = attack(logits_fn, tf.constant(images), labels, SEED).numpy()
        assert np.isfinite(found).all()
        fallen.append(int((network(found).numpy().argmax(1) != labels.numpy()).sum()))
    assert fallen[1] >= fallen[0] - 2 and fallen[1] > 4  # every sixth is wrong from the start


def test_no_answer_is_no_right_answer_whatever_the_class():
    logits = tf.constant([[np.nan, 1.0], [1.0, np.nan], [np.inf, 0.0], [2.0, 1.0], [2.0, 1.0]])
    assert misclassified(logits, tf.constant([0, 0, 0, 0, 1])).numpy().tolist() == [True] * 3 + [False, True]


def test_networks_that_fall_silent_inside_the_ball_are_fooled_in_every_class(network, images):
    images = np.full_like(images, 0.5)
    labels = np.repeat(network(images).numpy().argmax(1)[:1], 24).astype(np.int32)
    moved = images + np.float32(0.02)
    checked = verification.verify(_silent_beyond(network, 0.51), images, moved, labels, 0.03)
    assert checked.fooled.all() and checked.finite.all() and (checked.answers == -1).all()
    first = verification.verify(lambda x: _silent_beyond(network, 0.51)(x), images, moved, labels * 0, 0.03)
    assert first.fooled.all()


def test_an_evaluation_believes_no_attack(network, images):
    labels = network(images).numpy().argmax(1)
    bench = Bench(network, images, labels, epsilon=0.01, batch_size=10, keep=True)

    def broken(_, points, __, ___):
        far = points + 0.5
        return tf.where(tf.range(tf.shape(points)[0])[:, None, None, None] == 0, np.nan, far)

    outcome = bench.run("broken", broken, np.arange(24))
    assert np.abs(outcome.adversarial - images).max() <= 0.01 + 1e-7
    assert outcome.adversarial.min() >= 0 and outcome.adversarial.max() <= 1
    np.testing.assert_array_equal(outcome.adversarial[[0, 10, 20]], images[[0, 10, 20]])
    assert outcome.correct[[0, 10, 20]].all()
    assert outcome.note.startswith("3 images came back with NaN")
    assert bench.run("clean", lambda f, x, y, s: x, np.arange(24)).note == ""


def test_silence_is_wrong_in_an_evaluation_and_no_class_of_the_confusion(network, images):
    from fairat_tf.evaluation import summary

    labels = network(images).numpy().argmax(1)
    bench = Bench(_silent_beyond(network, -1.0), images, labels)
    clean = bench.clean()
    assert not clean.correct.any() and (clean.predictions == -1).all()
    result = summary.summarise([clean], labels, [str(c) for c in range(10)], 0.01, "linf", 0)
    assert np.sum(result["attacks"]["clean"]["confusion"]) == 0


@pytest.mark.parametrize("size", [1e-23, 1e-30, 1.0, 1e20])
def test_an_l2_step_has_its_length_however_small_the_gradient(size, images):
    gradient = np.random.default_rng(0).normal(size=images.shape)
    ball = threat.get("l2")(tf.constant(images), 1.0)
    found = ball.direction(tf.constant((gradient * size).astype(np.float32))).numpy()
    flat = gradient.reshape(24, -1)
    expected = (flat / np.sqrt((flat**2).sum(1, keepdims=True))).reshape(images.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert not ball.direction(tf.zeros_like(ball.images)).numpy().any()


def test_fgsm_goes_as_far_as_the_radius_of_the_call(network, images, labelled):
    labels = tf.constant(labelled(network, images))
    attack = attacks.get("fgsm")(0.01)
    doubled = attack(network, tf.constant(images), labels, SEED, epsilon=0.02)
    itself = attacks.get("fgsm")(0.02)(network, tf.constant(images), labels, SEED)
    np.testing.assert_allclose(doubled, itself, atol=1e-7)


def test_a_step_of_a_quarter_is_that_of_the_radius_of_the_call(network, images, labelled):
    labels = tf.constant(labelled(network, images))
    found = attacks.get("pgd")(0.01, steps=8)(network, tf.constant(images), labels, SEED, epsilon=0.04)
    itself = attacks.get("pgd")(0.04, steps=8)(network, tf.constant(images), labels, SEED)
    np.testing.assert_allclose(found, itself, atol=1e-6)


def test_attacks_without_a_round_are_refused():
    for make in (
        lambda: attacks.get("mt-pgd")(restarts=0),
        lambda: attacks.get("noise")(epsilon=-0.1),
        lambda: attacks.get("noise")(draws=0),
    ):
        with pytest.raises(ValueError, match="must be at least"):
            make()


def test_a_walk_takes_soft_labels(network, images):
    attack = attacks.get("pgd")(0.02, steps=3, objective="cross_entropy")
    soft = tf.one_hot(tf.argmax(network(images), -1), 10)
    points, survived = attack.walk(network, tf.constant(images), tf.constant(images), soft, 0)
    assert survived.shape == (24,) and points.shape == images.shape


def test_keep_best_costs_one_pass_more(network, images, labelled):
    calls = []

    def counted(points):
        calls.append(len(points))
        return network(points)

    attack = attacks.get("pgd")(0.02, steps=5, keep_best=True)
    attack(counted, tf.constant(images), tf.constant(labelled(network, images)), SEED)
    assert len(calls) == 5 + 1


def test_a_state_goes_on_where_the_network_repeats_itself_only_at_times(network, images, tmp_path):
    labels = network(images).numpy().argmax(1)
    attack, path = autoattack.AutoAttack(epsilon=0.01, steps=4, queries=20), tmp_path / "state.npz"
    first = attack.run(network, images, labels, SEED, batch_size=8, state_path=path)
    assert set(first.seconds) == {"apgd-ce", "apgd-t", "fab-t", "square"} and min(first.seconds.values()) > 0
    arrays, header = cascade_state.load(path)
    cascade_state.save(path, {**arrays, "probe": arrays["probe"][:0]}, header)
    again = attack.run(network, images, labels, SEED, batch_size=8, state_path=path)
    np.testing.assert_array_equal(again.robust, first.robust)
    np.testing.assert_array_equal(again.answers, first.answers)
    assert again.seconds == first.seconds
    assert ((first.answers == first.labels) == first.robust).all()


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
