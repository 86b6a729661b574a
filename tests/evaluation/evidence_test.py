"""Holds: saved evidence verifies, and every kind of tampering is found."""

import numpy as np
import pytest

from fairat_tf import errors, eval_lib, verify
from fairat_tf.evaluation import evidence
from fairat_tf.reporting import files


@pytest.fixture
def folder(small, tmp_path):
    result = eval_lib.evaluate(
        small.logits_fn,
        small.images,
        small.labels,
        small.names,
        attacks=("fgsm",),
        checks="none",
        keep_adversarial=True,
    )
    files.write(result, tmp_path)
    evidence.save(result, small.images, tmp_path)
    return tmp_path


def _tamper(folder, **changed):
    path = folder / "evidence" / "fgsm.npz"
    with np.load(path) as stored:
        data = dict(stored)
    np.savez(path, **data | {key: change(data[key].copy()) for key, change in changed.items()})


def _set(place, value):
    def change(array):
        array[place] = value
        return array

    return change


def test_evidence_holds(small, folder):
    rows = evidence.verify(folder, small.logits_fn)
    assert [(row["attack"], row["examples"], row["problems"]) for row in rows] == [("fgsm", 80, [])]
    assert rows[0]["largest"] == pytest.approx(8 / 255, abs=1e-6)
    assert verify.run(["verify", str(folder)]) == 0


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"adversarial": lambda a: a + 0.01}, "outside the linf ball"),
        ({"adversarial": _set((0, 0, 0, 0), 1.5)}, "leave"),
        ({"adversarial": _set((0, 0, 0, 0), np.nan)}, "NaN"),
        ({"correct": lambda a: 1 - a}, "flags differ"),
        ({"predictions": lambda a: (a + 1) % 4}, "flags differ"),
        ({"labels": lambda a: (a + 1) % 4}, "flags differ"),
    ],
)
def test_tampering_is_found(folder, changed, problem):
    _tamper(folder, **changed)
    assert any(problem in text for text in evidence.verify(folder)[0]["problems"])
    assert verify.run(["verify", str(folder)]) == errors.DataError.exit_code


def test_another_model_is_found(small, folder):
    for other in (lambda images: -small.logits_fn(images), lambda images: small.logits_fn(images) * np.nan):
        assert any("predictions differ" in text for text in evidence.verify(folder, other)[0]["problems"])


def test_a_class_that_wins_but_for_rounding_stands():
    logits = np.array(
        [[1.0, 1.00001, 0.0], [1.0, 1.01, 0.0], [np.nan, 1.0, 0.0], [0.0, 0.0, 3.0]], np.float32
    )
    assert evidence._otherwise(logits, np.array([0, 1, -1, 2])) == 0
    assert evidence._otherwise(logits, np.array([2, 0, 1, -1])) == 4


def test_missing_or_pickled_evidence_is_refused(folder, tmp_path):
    np.savez(folder / "evidence" / "fgsm.npz", natural=np.array([{"a": 1}], dtype=object))
    with pytest.raises(errors.DataError, match="cannot be read"):
        evidence.verify(folder)
    (folder / "evidence" / "fgsm.npz").unlink()
    with pytest.raises(errors.DataError, match="--save_examples"):
        evidence.verify(folder)
    assert verify.run(["verify"]) == errors.UsageError.exit_code


def test_evidence_of_an_attack_that_is_no_longer_there(small, folder):
    """A second evaluation with other attacks leaves none of the former ones' images behind."""
    (folder / "evidence" / "fgsm.npz").rename(folder / "evidence" / "pgd5.npz")
    assert evidence.verify(folder)[0]["problems"] == ["the result beside it holds no attack pgd5"]
    result = files.read(folder, arrays=True)
    evidence.save(result, small.images, folder)
    assert not list((folder / "evidence").glob("pgd5*"))


def test_euclidean_distance():
    natural, moved = np.zeros((1, 2, 2, 1), np.float32), np.full((1, 2, 2, 1), 0.5, np.float32)
    assert evidence.distance(natural, moved, "l2")[0] == pytest.approx(1.0)
    assert evidence.distance(natural, moved, "linf")[0] == pytest.approx(0.5)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
