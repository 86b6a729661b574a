"""MI-FGSM, multi-targeted PGD and noise: closed forms and what their names promise."""

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import attacks

SEED = tf.constant([1, 2])


def test_mi_fgsm_is_the_recurrence_of_the_paper(networks, images, labelled):
    network, images = networks(dtype="float64"), images[1:3].astype(np.float64)
    labels = tf.constant(network(images).numpy().argmax(1), tf.int32)
    found = attacks.get("mi-fgsm")(0.03, steps=4, decay=0.7)(network, tf.constant(images), labels, SEED)
    for n in range(2):
        point, momentum = images[n], np.zeros_like(images[n])
        for _ in range(4):
            x = tf.constant(point[None])
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels[n : n + 1], network(x))
            gradient = tape.gradient(loss, x).numpy()[0]
            momentum = 0.7 * momentum + gradient / np.abs(gradient).sum()
            point = np.clip(point + 0.03 / 4 * np.sign(momentum), images[n] - 0.03, images[n] + 0.03).clip(
                0, 1
            )
        assert np.abs(found[n] - point).max() < 1e-12


def test_multi_targeted_pgd_finds_the_one_class_that_can_be_reached():
    """Class 1 ranks second but its logit cannot rise; only class 3, which ranks last, can be reached."""

    def network(points):
        z = tf.reduce_mean(points, [1, 2, 3])
        zero = tf.zeros_like(z)
        return tf.stack([zero + 1.0, zero + 0.99, zero + 0.9, 10.0 * (z - 0.5)], 1)

    images, labels = tf.fill([2, 2, 2, 3], 0.52), tf.zeros([2], tf.int32)
    found = attacks.get("mt-pgd")(0.1, steps=10)(network, images, labels, SEED)
    assert np.allclose(found, 0.62, atol=1e-6)
    few = attacks.get("mt-pgd")(0.1, steps=10, targets=2)
    assert few.rounds(4) == 2 and attacks.get("mt-pgd")().rounds(4) == 3
    stands = network(few(network, images, labels, SEED)).numpy().argmax(1) == 0
    assert stands.all(), "without class 3 among the targets there is no gradient at all"


def test_more_noise_draws_are_never_weaker(network, images, labelled):
    labels = labelled(network, images)
    wrong = []
    for draws in (1, 8):
        found = attacks.get("noise")(0.08, draws=draws)(
            network, tf.constant(images), tf.constant(labels), SEED
        )
        wrong.append(network(found).numpy().argmax(1) != labels)
    assert (wrong[1] | ~wrong[0]).all() and wrong[1].sum() > wrong[0].sum()


def test_cleverhans_takes_one_number_only(network, images, labelled):
    labels = tf.constant(labelled(network, images))
    attack = attacks.get("cleverhans-fgsm")(0.01)
    same = attack(network, tf.constant(images), labels, SEED, np.full(24, 0.02))
    assert np.allclose(same, attack(network, tf.constant(images), labels, SEED, tf.constant(0.02)), atol=1e-6)
    with pytest.raises(ValueError, match="outside the graph"):
        tf.function(lambda e: attack(network, tf.constant(images), labels, SEED, e), autograph=False)(
            tf.constant(0.1)
        )


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
