"""Holds: the evaluation at the end of a run replaces what training made, and nobody else's results."""

import pytest

from fairat_tf import final_evaluation


def test_a_folder_of_somebody_else_is_moved_aside(tmp_path):
    folder = tmp_path / "evaluation"
    folder.mkdir()
    (folder / "evaluation.json").write_text("ten hours of AutoAttack")
    (tmp_path / "evaluation-2").mkdir()
    final_evaluation._make_own(folder)
    assert (tmp_path / "evaluation-3/evaluation.json").read_text() == "ten hours of AutoAttack"
    (folder / "evaluation.json").write_text("own")
    final_evaluation._make_own(folder)
    assert (folder / "evaluation.json").read_text() == "own" and not (tmp_path / "evaluation-4").exists()


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
