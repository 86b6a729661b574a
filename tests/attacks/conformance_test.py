"""Every registered attack keeps the contract; a name without a case here fails.

Held for each: inside the ball and [0, 1], same dtype, epsilon 0 gives the input bit for bit, a radius for
each example, graph = eager (= XLA for the cheap ones), inputs and network unchanged, the batch's order
does not matter where nothing is drawn, and at least as strong as random noise.
"""

import numpy as np
import pytest
import tensorflow as tf

from fairat_tf import attacks, rng

# Name -> options that make it small here.
CASES = {
    "pgd": {"steps": 10},
    "fgsm": {},
    "cw": {"steps": 10},
    "mi-fgsm": {"steps": 5},
    "mt-pgd": {"steps": 5, "targets": 3},
    "apgd-ce": {"steps": 20},
    "apgd-dlr": {"steps": 20},
    "apgd-t": {"steps": 10, "targets": 3},
    "fab": {"steps": 5, "restarts": 2},
    "fab-t": {"steps": 15, "targets": 3},
    "square": {"queries": 60, "segment": 25},
    "autoattack": {"steps": 6, "queries": 30},
    "noise": {"draws": 3},
    "cleverhans-fgsm": {},
    "cleverhans-pgd": {"steps": 10},
}
ONE_RADIUS = {"cleverhans-fgsm", "cleverhans-pgd"}
DRAWS_NOTHING = ["fgsm", "mi-fgsm", "fab-t", "cleverhans-fgsm", "cleverhans-pgd"]
COMPILED = ["pgd", "fgsm", "cw", "mi-fgsm", "mt-pgd", "square", "noise", "cleverhans-fgsm"]
# Attacks that decide by comparing losses: rounding may tip a comparison, and the paths part.
SELF_STEERING = {"apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "autoattack"}
NORMS = {"linf": 0.02, "l2": 0.2}
BOTH_NORMS = [(name, norm) for name in CASES for norm in NORMS if (name, norm) != ("autoattack", "l2")]
SEED = (3, 4)


def make(name, norm="linf", **options):
    return attacks.get(name)(epsilon=NORMS[norm], norm=norm, **{**CASES[name], **options})


def graph(attack, network, **compile_options):
    return tf.function(
        lambda x, y: attack(network, x, y, tf.constant(SEED)), autograph=False, **compile_options
    )


def length(change, norm):
    change = np.reshape(change, (len(change), -1)).astype(np.float64)
    return np.abs(change).max(1) if norm == "linf" else np.sqrt((change**2).sum(1))


def test_every_registered_attack_has_a_case_here():
    assert set(attacks.names()) == set(CASES)


@pytest.mark.parametrize(("name", "norm"), BOTH_NORMS)
def test_result_is_in_the_ball_and_beats_noise(name, norm, network, images, labelled):
    labels = labelled(network, images)
    before = images.copy()
    adversarial = graph(make(name, norm), network)(images, labels)
    assert adversarial.dtype == tf.float32 and adversarial.shape == images.shape
    assert np.array_equal(images, before)
    assert np.isfinite(adversarial).all() and np.min(adversarial) >= 0 and np.max(adversarial) <= 1
    assert length(adversarial - images, norm).max() <= NORMS[norm] * (1 + 1e-5)
    accuracy = np.mean(network(adversarial).numpy().argmax(1) == labels)
    noisy = graph(make("noise", norm, draws=1), network)(images, labels)
    floor = np.mean(network(noisy).numpy().argmax(1) == labels)
    assert accuracy <= floor if name in ("noise", "square") else accuracy < floor - 0.2


@pytest.mark.parametrize(("name", "norm"), BOTH_NORMS)
def test_epsilon_0_gives_the_input_bit_for_bit(name, norm, network, images, labelled):
    labels, attack = labelled(network, images), make(name, norm)
    call = tf.function(lambda x, y: attack(network, x, y, tf.constant(SEED), epsilon=0.0), autograph=False)
    adversarial = call(images, labels)
    assert adversarial.numpy().tobytes() == images.tobytes()


@pytest.mark.parametrize("name", sorted(set(CASES) - ONE_RADIUS))
def test_each_example_can_have_its_own_radius(name, network, images, labelled):
    labels, attack = labelled(network, images), make(name)
    radii = np.linspace(0, 0.04, len(images)).astype(np.float32)
    call = tf.function(lambda x, y, e: attack(network, x, y, tf.constant(SEED), epsilon=e), autograph=False)
    change = length(call(images, labels, tf.constant(radii)) - images, "linf")
    assert (change <= radii + 1e-6).all() and change[0] == 0
    assert change.max() > 0.021, "no example uses its radius above the attack's own"


@pytest.mark.parametrize("name", sorted(ONE_RADIUS))
def test_an_attack_that_cannot_says_so(name, network, images, labelled):
    with pytest.raises(ValueError, match="pgd"):
        make(name)(network, images, labelled(network, images), tf.constant(SEED), np.linspace(0, 0.1, 24))


@pytest.mark.parametrize("name", sorted(set(CASES) - {"autoattack", "fab"}))
def test_graph_and_eager_agree(name, network, images, labelled):
    images = images[:6]
    labels, attack = labelled(network, images), make(name)
    eager = attack(network, tf.constant(images), tf.constant(labels), tf.constant(SEED))
    apart = np.abs(eager - graph(attack, network)(images, labels)).max((1, 2, 3))
    assert (apart > 1e-5).sum() <= (name in SELF_STEERING)


@pytest.mark.parametrize("name", COMPILED)
def test_graph_and_xla_agree(name, network, images, labelled):
    labels, attack = labelled(network, images), make(name)
    plain = graph(attack, network)(images, labels)
    compiled = graph(attack, network, jit_compile=True)(images, labels)
    apart = np.abs(plain - compiled).max((1, 2, 3))
    assert (apart > 1e-5).sum() <= 1, "more than one near tie was decided differently"


@pytest.mark.parametrize("name", ["apgd-t", "fab-t"])
def test_self_steering_attacks_compile_and_reach_the_same_accuracy(name, network, images, labelled):
    labels, attack = labelled(network, images), make(name)
    right = [
        network(graph(attack, network, jit_compile=compiled)(images, labels)).numpy().argmax(1) == labels
        for compiled in (False, True)
    ]
    assert (right[0] != right[1]).sum() <= 1


@pytest.mark.parametrize("name", DRAWS_NOTHING)
def test_a_permuted_batch_gives_the_permuted_result(name, network, images, labelled):
    labels, call = labelled(network, images), graph(make(name), network)
    order = np.random.default_rng(0).permutation(len(images))
    straight, permuted = call(images, labels).numpy(), call(images[order], labels[order]).numpy()
    assert np.abs(straight[order] - permuted).max((1, 2, 3)).max() < 1e-5


@pytest.mark.parametrize("name", sorted(set(CASES) - {"pgd", "fgsm", "cw", "mi-fgsm"} - ONE_RADIUS))
def test_already_wrong_examples_come_back_untouched(name, network, images, labelled):
    adversarial = graph(make(name), network)(images, labelled(network, images)).numpy()
    wrong = np.arange(len(images)) % 6 == 0
    assert np.array_equal(adversarial[wrong], images[wrong])
    assert (length(adversarial - images, "linf")[~wrong] > 0).sum() > 5


@pytest.mark.parametrize("name", ["pgd", "apgd-ce", "square", "noise"])
def test_the_seed_decides_what_is_drawn(name, network, images, labelled):
    labels, attack = labelled(network, images), make(name)
    call = tf.function(lambda x, y, s: attack(network, x, y, s), autograph=False)
    first = call(images, labels, tf.constant([3, 4])).numpy()
    assert np.array_equal(first, call(images, labels, tf.constant([3, 4])).numpy())
    assert not np.array_equal(first, call(images, labels, tf.constant([3, 5])).numpy())


@pytest.mark.parametrize("name", ["pgd", "square", "noise"])
def test_rows_of_a_batch_draw_what_they_draw_in_the_batch(name, network, images, labelled):
    labels, attack = labelled(network, images), make(name)
    rows = tf.constant([1, 7, 8, 20])
    part = tf.gather(images, rows), tf.gather(labels, rows)
    call = tf.function(lambda s: attack(network, *part, rng.take(s, rows, len(images))), autograph=False)
    whole = graph(attack, network)(images, labels).numpy()
    assert np.abs(call(tf.constant(SEED)).numpy() - whole[rows]).max() < 1e-6


@pytest.mark.parametrize("name", ["pgd", "apgd-ce", "square"])
def test_two_replicas_draw_what_one_device_does(name, mirrored, network, images, labelled):
    labels, attack = labelled(network, images), make(name)
    one = graph(attack, network)(images, labels).numpy()

    def part(context):
        i = context.replica_id_in_sync_group
        return images[12 * i : 12 * i + 12], labels[12 * i : 12 * i + 12]

    x = mirrored.experimental_distribute_values_from_function(lambda c: tf.constant(part(c)[0]))
    y = mirrored.experimental_distribute_values_from_function(lambda c: tf.constant(part(c)[1]))

    @tf.function(autograph=False)
    def both(x, y):
        return mirrored.run(lambda x, y: attack(network, x, y, tf.constant(SEED)), args=(x, y))

    two = np.concatenate([part.numpy() for part in mirrored.experimental_local_results(both(x, y))])
    assert (np.abs(one - two).max((1, 2, 3)) > 1e-5).sum() <= (name in SELF_STEERING)


def test_batch_statistics_and_weights_do_not_change(images, labelled):
    import keras

    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, 2),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    labels = labelled(lambda x: model(x, training=False), images)
    before = [v.numpy().copy() for v in model.variables]
    for name in ("pgd", "apgd-ce", "fab-t", "square", "cleverhans-pgd"):
        graph(make(name), lambda x: model(x, training=False))(images, labels)
    assert all(np.array_equal(a, v.numpy()) for a, v in zip(before, model.variables, strict=True))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    "name", ["pgd", "mi-fgsm", "mt-pgd", "apgd-ce", "apgd-t", "fab-t", "square", "noise"]
)
def test_float64_images_stay_float64(name, norm, networks, images, labelled):
    network, images = networks(dtype="float64"), images.astype(np.float64)[:6]
    adversarial = graph(make(name, norm), network)(images, labelled(network, images))
    assert adversarial.dtype == tf.float64
    assert length(adversarial - images, norm).max() <= NORMS[norm] * (1 + 1e-11)


@pytest.mark.parametrize("name", CASES)
def test_impossible_options_are_refused(name):
    with pytest.raises(ValueError, match="norm"):
        attacks.get(name)(norm="l7")


def test_names_with_a_number_of_steps_keep_the_best_point():
    attack = attacks.get("pgd20")()
    assert (attack.steps, attack.keep_best) == (20, True)
    with pytest.raises(ValueError, match="known: pgd"):
        attacks.get("pgd0")


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
