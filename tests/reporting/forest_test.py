"""Holds: the figure of a comparison has every model and class, whatever they are called."""

import io

import numpy as np
import pytest
from PIL import Image

from fairat_tf.reporting import forest


def _found(models, classes=("cat", "$dog_1$"), undefined=False):
    def row(value, **more):
        return {
            "value": value,
            "ci95": [value - 0.02, value + 0.02],
            "beyond_chance": abs(value) > 0.02,
            **more,
        }

    def difference(i):
        return {"average": row(0.01 * i), "worst_class": row(-0.03 * i, t95=[-0.1, 0.05])}

    accuracies = {name: {"per_class": dict.fromkeys(classes, None if undefined else 0.4)} for name in models}
    return {
        "reference": models[0],
        "class_names": list(classes),
        "models": [{"name": name} for name in models],
        "attacks": {"pgd20": {
            "models": accuracies,
            "differences": {name: difference(i) for i, name in enumerate(models) if i},
        }},
    }  # fmt: skip


def _pixels(found):
    return np.asarray(Image.open(io.BytesIO(forest.comparison_png(found))).convert("RGB"))


@pytest.mark.parametrize("names", [("a", "b"), ("_a", "$b"), tuple("abcdef")])
def test_a_few_models_have_a_panel_of_classes(names):
    few, many = _pixels(_found(names)), _pixels(_found(tuple("abcdefgh")))
    assert few.shape[1] > 1.3 * many.shape[1]
    assert few.std() > 10


def test_what_is_beyond_chance_is_red_and_nothing_else():
    red = np.array([192, 57, 43])
    calm = _found(tuple("abcdefg"))
    assert np.all(np.abs(_pixels(calm).astype(int) - red) < 3, axis=-1).any()
    for row in calm["attacks"]["pgd20"]["differences"].values():
        for own in row.values():
            own["beyond_chance"] = False
    assert not np.all(np.abs(_pixels(calm).astype(int) - red) < 3, axis=-1).any()


def test_classes_without_examples_have_no_mark():
    assert _pixels(_found(("a", "b"), undefined=True)).std() > 0


def test_the_same_comparison_gives_the_same_bytes():
    assert forest.comparison_png(_found(("a", "b"))) == forest.comparison_png(_found(("a", "b")))


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
