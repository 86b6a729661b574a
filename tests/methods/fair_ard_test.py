"""Fair-ARD: survival and class weights by loops, the weighed step of both bases in closed form."""

import numpy as np
import pytest
import tensorflow as tf

from tests.methods import oracle

FAIR = np.array([0.9, 1.7, 2.2])


def survived():
    """Returns how many of the ten points before each step are classified rightly, by loops."""
    count = np.zeros(oracle.SIZE)
    for step in range(10):
        points = oracle.flat(oracle.shifted(0.1 * step / 10))
        for i, y in enumerate(oracle.LABELS):
            z = points[i] @ oracle.KERNEL
            count[i] += list(z).index(max(z)) == y
    return count


def weighed(**options):
    method = oracle.linear_method("fair_ard", **options)
    method.fair_weight.assign(FAIR)
    return method


@pytest.mark.parametrize("temperature, share", [(30.0, 1.0), (2.0, 0.7)])
def test_step_on_ard_equals_closed_form(temperature, share):
    method = weighed(ard_temperature=temperature, ard_share=share)
    w, t = FAIR[oracle.LABELS][:, None], temperature
    x, y = oracle.flat(oracle.IMAGES), oracle.flat(oracle.shifted())
    teacher, student = (oracle.softmax(v / t) for v in (x @ oracle.TEACHER, y @ oracle.KERNEL))
    plain = oracle.softmax(x @ oracle.KERNEL) - oracle.one_hot(oracle.LABELS)
    rows = [(y, share * t * w * (student - teacher)), (x, (1 - share) * w * plain)]
    oracle.check_step(method, rows)


def test_step_on_rslad_equals_closed_form():
    method = weighed(fair_base="rslad")
    oracle.check_step(method, [(x, FAIR[oracle.LABELS][:, None] * g) for x, g in oracle.rslad_rows(5 / 6)])


@pytest.mark.parametrize("power", [2.0, 0.5])
def test_weights_follow_the_survival_of_the_epoch(power):
    method = oracle.linear_method("fair_ard", fair_power=power)
    counts = survived()
    np.testing.assert_array_equal(oracle.examples_of(method).scores, counts)
    method.train_step(oracle.batch())
    by_class = [counts[k == oracle.LABELS].mean() for k in range(3)]
    np.testing.assert_allclose(method.survived.per_class(), by_class)
    kappa = np.array([6.0, 3.0, 1.5])
    method.on_epoch_end(0, {"robust": np.ones(3), "survived_steps": kappa}, {})
    raw = [k**-power for k in kappa]
    expected = [min(max(3 * r / sum(raw), 5 / 6), 5 / 2) for r in raw]
    np.testing.assert_allclose(oracle.value(method.fair_weight), expected, rtol=1e-6)
    assert np.ptp(expected) > 0.3


def test_a_class_without_an_example_survives_as_long_as_the_others_do_on_average():
    method = oracle.linear_method("fair_ard")
    method.on_epoch_end(0, {"robust": np.ones(3), "survived_steps": np.array([6.0, 5.0, np.nan])}, {})
    raw = np.array([6.0, 5.0, 5.5]) ** -2
    expected = np.clip(3 * raw / raw.sum(), 5 / 6, 5 / 2)
    np.testing.assert_allclose(oracle.value(method.fair_weight), expected, rtol=1e-6)
    assert expected[0] < expected[2] < expected[1]


@pytest.mark.parametrize("base", ["ard", "rslad"])
def test_power_zero_weighs_all_classes_alike(base):
    method = oracle.linear_method("fair_ard", fair_base=base, fair_power=0.0)
    method.on_epoch_end(0, {"robust": np.ones(3), "survived_steps": np.array([6.0, np.nan, 0.0])}, {})
    np.testing.assert_allclose(oracle.value(method.fair_weight), np.ones(3))
    if base == "rslad":
        oracle.check_step(method, oracle.rslad_rows(5 / 6))


def test_the_attack_of_each_base():
    def given(base):
        method = oracle.linear_method("fair_ard", fair_base=base)
        return method.attack_loss(tf.constant(np.log(oracle.GUIDE), tf.float32), tf.constant(oracle.LABELS))

    assert given("ard") is None  # the attack's own cross-entropy
    logits = oracle.flat(oracle.shifted()) @ oracle.KERNEL
    found = given("rslad")(tf.constant(logits, tf.float32), None)
    np.testing.assert_allclose(found, oracle.divergence(oracle.GUIDE, oracle.softmax(logits)), rtol=1e-4)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
