"""The configuration: JSON round trip, ranges, recipes, differences, flags files."""

import dataclasses

import pytest

from fairat_tf.config import Attack, Config, Data, Optimization, Run, interval, option


def test_json_round_trip():
    config = Config(
        data=Data(dataset="cifar10", limit_train=100), attack=Attack(steps=3), options={"hard_fraction": 0.25}
    )
    assert Config.from_json(config.to_json()) == config


@pytest.mark.parametrize("text", ["{}", "[]", "not json", '{"data": {"unknown": 1}}'])
def test_other_json_is_refused(text):
    with pytest.raises(ValueError):
        Config.from_json(text)


@pytest.mark.parametrize(
    ("section", "told"),
    [
        (lambda: Config(data=Data(batch_size=0)), r"batch_size must be in \[1, inf\); received 0"),
        (lambda: Config(data=Data(validation_fraction=0.0)), r"validation_fraction must be in \(0, 0.9\]"),
        (lambda: Config(attack=Attack(epsilon=-0.1)), "epsilon must be in"),
        (lambda: Config(attack=Attack(norm="l1")), "norm must be one of linf, l2; received 'l1'"),
        (lambda: Config(attack=Attack(steps=0)), "attack_steps must be in"),
        (lambda: Config(optimization=Optimization(epochs=0)), "epochs must be in"),
        (lambda: Config(optimization=Optimization(momentum=1.0)), r"momentum must be in \[0, 1\)"),
        (lambda: Config(optimization=Optimization(learning_rate=0.0)), "learning_rate must be in"),
        (lambda: Config(optimization=Optimization(learning_rate=float("nan"))), "learning_rate must be in"),
        (lambda: Config(run=Run(precision="float16")), "precision must be one of float32, bfloat16"),
    ],
)
def test_values_out_of_range_are_named(section, told):
    with pytest.raises(ValueError, match=told):
        section()


def test_only_open_fields_are_filled_from_the_recipe():
    config = Config(optimization=Optimization(epochs=5)).filled({"epochs": 110, "learning_rate": 0.01})
    assert (config.optimization.epochs, config.optimization.learning_rate) == (5, 0.01)


def test_difference_leaves_out_what_is_not_the_experiment():
    one = Config()
    same = dataclasses.replace(
        one, run=Run(run_dir="x", evaluate=""), data=Data(data_dir="y", download=False)
    )
    assert one.difference(same) == {}
    assert one.difference(Config(run=Run(seed=1), method="pgd_at")) == {
        "method": ("fairat", "pgd_at"),
        "seed": (0, 1),
    }


def test_interval_in_words():
    field = option(0.5, "x", low=0.0, high=1.0, open_low=True)
    assert interval(field.metadata) == "(0, 1]"


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
