"""The unusable files, and a run that is finished, made once for this folder."""

import pytest

from tests.bad_input import shelf as files
from tests.bad_input.judging import RUN, filled, run_train


@pytest.fixture(scope="session")
def shelf(tmp_path_factory):
    """The directory of `shelf.write`."""
    folder = tmp_path_factory.mktemp("shelf")
    files.write(folder)
    return folder


@pytest.fixture(scope="session")
def finished(shelf, tmp_path_factory):
    """A finished run of one epoch."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        words = [*RUN, "--checkpoint_minutes=0"]
        assert run_train(filled(words, shelf, folder), patch) == 0
    return folder
