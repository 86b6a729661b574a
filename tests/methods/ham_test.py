"""HAM: who is left out by loops, the mean over the others in closed form, a batch without hard examples."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import attacks, rng
from fairat_tf.methods.batches import unpack
from tests import support
from tests.methods import oracle

EPSILON = -3.0  # so far that some examples change their class on the way
LABELS = np.argmax(oracle.flat(oracle.shifted(EPSILON / 5)) @ oracle.KERNEL, 1).astype(np.int32)
LABELS[::3] = 2
TARGETS = oracle.one_hot(LABELS)
BATCH = {**oracle.batch(), "label": tf.constant(LABELS)}


def wrong_after(steps):
    """Returns who is wrong after so many of ten steps of the attack, by loops."""
    wrong = []
    for x, y in zip(oracle.flat(oracle.shifted(EPSILON * steps / 10)), LABELS, strict=True):
        z = [sum(x[i] * oracle.KERNEL[i, k] for i in range(4)) for k in range(oracle.CLASSES)]
        wrong.append(z.index(max(z)) != y)
    return np.array(wrong)


def mining(epsilon=EPSILON, **options):
    method = support.make_method(
        "ham", oracle.linear_network(), attack=oracle.Shift(epsilon), epochs=10, **options
    )
    method.on_epoch_begin(4)
    return method


@pytest.mark.parametrize("step", [0, 3, 9])
def test_step_is_the_mean_over_the_hard_examples(step):
    method = mining(ham_classify_step=step)
    hard = wrong_after(step)
    assert 0 < hard.sum() < oracle.SIZE
    rows = oracle.cross_entropy_rows(oracle.KERNEL, oracle.shifted(EPSILON), TARGETS, hard.astype(float))
    before = oracle.kernel(method).astype(np.float64)
    expected = oracle.after_step(before, oracle.gradient(rows, hard.sum()))
    method.train_step(BATCH)
    np.testing.assert_allclose(oracle.kernel(method), expected, rtol=1e-4, atol=1e-5)
    assert np.abs(expected - before).max() > 1e-3
    np.testing.assert_allclose(float(method.trained_share.result()), hard.mean(), rtol=1e-6)


def test_the_examples_that_are_hard_depend_on_the_step_of_the_test():
    assert not np.array_equal(wrong_after(0), wrong_after(9))


def test_before_its_begin_and_with_all_kept_it_is_pgd_at():
    def trained(name, epoch, **options):
        attack = attacks.get("pgd")(epsilon=0.01, steps=4)
        network = support.tiny_network(batch_norm=True)
        method = support.make_method(name, network, attack=attack, epochs=10, **options)
        method.on_epoch_begin(epoch)
        batch = support.batch_of(support.tiny_split(), 16)
        right = tf.argmax(method.inference(batch["image"]), -1, tf.int32)
        labels = tf.where(batch["index"] % 2 == 0, right, batch["label"])
        method.train_step({**batch, "label": labels})
        return method.network.get_weights()

    plain = trained("pgd_at", 3)
    mined = trained("ham", 4)
    for other in (trained("ham", 3), trained("ham", 4, ham_keep=1.0)):
        for a, b in zip(plain, other, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
    assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(plain, mined, strict=True))


def test_a_share_of_the_easy_is_kept():
    network = support.tiny_network()
    method = support.make_method("ham", network, ham_keep=0.3, ham_begin=0.0)
    network.set_weights([w * 0 for w in network.get_weights()])  # class 0 everywhere
    labels = np.repeat([0, 1], [1800, 200]).astype(np.int32)
    images = np.zeros((2000, *support.SHAPE), np.float32)
    batch = unpack((tf.constant(images), tf.constant(labels)))
    present = method.training_batch(batch, rng.key(0, "test")).present.numpy()
    assert present[1800:].all()
    assert present[:1800].mean() == pytest.approx(0.3, abs=0.04)


def test_a_batch_without_hard_examples_moves_by_weight_decay_alone():
    method = mining(epsilon=0.0)
    easy = np.argmax(oracle.flat(oracle.IMAGES) @ oracle.KERNEL, 1).astype(np.int32)
    before = oracle.kernel(method).astype(np.float64)
    logs = method.train_step({**oracle.batch(), "label": tf.constant(easy)})
    assert float(logs["loss"]) == 0.0
    np.testing.assert_allclose(oracle.kernel(method), oracle.after_step(before, 0.0), rtol=1e-6)


def test_walks_end_where_the_attack_ends_and_count_what_they_pass():
    network = support.tiny_network()
    batch = support.batch_of(support.tiny_split(), 16)
    attack = attacks.get("pgd")(epsilon=0.1, step_size=0.05, steps=5)
    seed = rng.key(0, "test")
    images, labels = batch["image"], batch["label"]
    points, total = attack.start(images, seed), 0.0
    for steps in (0, 3, 1, 1):
        passed = points
        points, right = attack.walk(network, points, images, labels, steps)
        total += right.numpy()
        if steps == 1:
            expected = np.argmax(network(passed).numpy(), 1) == labels.numpy()
            np.testing.assert_array_equal(right, expected)
    np.testing.assert_allclose(points, attack(network, images, labels, seed), atol=1e-6)
    assert total.max() <= 5 and total.max() > total.min()
    for other in ({"restarts": 2}, {"keep_best": True}):
        with pytest.raises(ValueError, match="restarts=1 and keep_best=False"):
            dataclasses.replace(attack, **other).walk(network, points, images, labels, 1)


@pytest.mark.parametrize(("steps", "told"), [(3, 1), (4, 0)])
def test_a_short_attack_classifies_at_its_last_step_and_says_so(steps, told, caplog):
    attack = attacks.get("pgd")(epsilon=0.01, steps=steps)
    support.make_method("ham", attack=attack, ham_classify_step=3)
    assert [f"an attack of {steps} steps classifies after {steps - 1}" in m for m in caplog.messages] == [
        True
    ] * told


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
