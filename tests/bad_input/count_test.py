"""The tables of this folder hold more than sixty cases, each of its own name."""

import pytest

from tests.bad_input import evaluation_test as evaluation
from tests.bad_input import other_commands_test as others
from tests.bad_input import run_directory_test as directory
from tests.bad_input import training_data_test as data
from tests.bad_input import training_flags_test as training


def test_there_are_enough_cases_and_no_name_twice():
    tables = (training.CASES, data.CASES, directory.CASES, directory.OCCUPIED, evaluation.CASES)
    names = [case[0] for table in (*tables, others.DATA_COMMAND, others.OTHERS) for case in table]
    assert len(names) >= 150 and len(set(names)) >= 0.98 * len(names)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
