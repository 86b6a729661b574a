"""A study file and training that takes no time."""

import pytest

from tests.studies.small_study import TEXT, Trainer, study_run


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(TEXT.replace('"clean", "pgd20"', '"clean"'))
    return path


@pytest.fixture
def trainer(monkeypatch):
    stand_in = Trainer()
    monkeypatch.setattr(study_run.children, "run", stand_in)
    return stand_in
