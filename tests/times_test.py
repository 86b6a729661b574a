"""`times.csv`: the epochs' steps and times, the traced first step and the pauses between epochs left out."""

import csv

import pytest

from fairat_tf.callbacks import times
from fairat_tf.run_directory import RunDirectory


@pytest.fixture
def clock(monkeypatch):
    """Returns a clock that the test moves: [seconds, processor seconds]."""
    now = [0.0, 0.0]
    monkeypatch.setattr(times, "_now", lambda: tuple(now))
    return now


def epoch(callback, clock, number, steps):
    """Plays an epoch: a step takes its own time and twice that of the processor; validation takes 50."""
    callback.on_epoch_begin(number)
    for step, seconds in enumerate(steps):
        clock[0] += seconds
        clock[1] += 2 * seconds
        callback.on_train_batch_end(step)
    clock[0] += 50.0
    callback.on_epoch_end(number)


def rows(path):
    with open(path) as file:
        return [tuple(float(value) for value in row.values()) for row in csv.DictReader(file)]


def test_the_first_step_of_a_process_and_validation_are_not_timed(tmp_path, clock):
    with RunDirectory(tmp_path / "run") as run:
        callback = times.EpochTimes(run)
        epoch(callback, clock, 0, [30.0, 1.0, 2.0])
        epoch(callback, clock, 1, [1.5, 1.0, 2.0])
        assert rows(run / "times.csv") == [(0, 2, 3.0, 6.0), (1, 3, 4.5, 9.0)]


def test_what_an_earlier_process_measured_stays(tmp_path, clock):
    with RunDirectory(tmp_path / "run") as run:
        epoch(times.EpochTimes(run), clock, 0, [30.0, 1.0])
        resumed = times.EpochTimes(run)
        epoch(resumed, clock, 1, [20.0])  # its only step traced the graph
        epoch(resumed, clock, 2, [4.0])
        assert rows(run / "times.csv") == [(0, 1, 1.0, 2.0), (1, 0, 0.0, 0.0), (2, 1, 4.0, 8.0)]


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
