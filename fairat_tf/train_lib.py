"""One run from a configuration to a directory with everything in it.

    train(Config(data=Data(dataset="street_digits")))

data -> parts (`assembly`) -> loop with callbacks and checkpoints -> best network -> SavedModel ->
evaluation of the test split -> the class-wise table. `fairat_tf.train` is this behind flags.
"""

import contextlib
import dataclasses
import errno
import json
import os
import time
import zlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from fairat_tf import (
    assembly,
    attacks,
    devices,
    errors,
    exporting,
    final_evaluation,
    methods,
    model_files,
    summary_text,
)
from fairat_tf.assembly import Parts
from fairat_tf.callbacks.best_checkpoint import BestCheckpoint, selection_names
from fairat_tf.callbacks.board import Board, shown
from fairat_tf.callbacks.classwise_history import ClasswiseHistory
from fairat_tf.callbacks.hard_gallery import HardGallery
from fairat_tf.callbacks.last_networks import LastNetworks
from fairat_tf.callbacks.pictures import curves_png
from fairat_tf.callbacks.progress import Progress
from fairat_tf.callbacks.run_log import RunLog
from fairat_tf.callbacks.times import EpochTimes
from fairat_tf.callbacks.zero_gradients import ZeroGradients
from fairat_tf.checkpointing import Checkpoints
from fairat_tf.config import Config
from fairat_tf.evaluation import suite
from fairat_tf.methods.hooks import MethodHooks
from fairat_tf.model_card import model_card
from fairat_tf.reporting import console
from fairat_tf.run_directory import RunDirectory, default_path, write_atomically
from fairat_tf.signals import StopSignals
from fairat_tf.training_loop import Loop, Position
from fairat_tf.workers import Cluster, Team

_DIAGNOSIS_SECONDS = 10.0
_DISK_REFUSES = tuple(
    os.strerror(code)
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
)


def train(config: Config, dry_run: bool = False) -> str:
    """Trains, exports and evaluates; returns the path of the run directory.

    Args:
      config: the run; fields that are None come from the data set's recipe.
      dry_run: print configuration and estimated time, and stop there.

    Raises:
      errors.CommandError: each kind with the exit code of `fairat_tf.errors`.
    """
    with StopSignals() as stop:
        team = _team(config, stop)
        if team.count == 1:  # several workers stop together, once they train
            stop.raise_from_now_on("nothing was trained by this command; start it again")
        parts = _prepared(config)
        path = config.run.run_dir or default_path(config)
        if not team.chief:
            if dry_run:
                team.part()
            else:
                _help(parts, team, stop, path)
            return path
        print(summary_text.recipe(parts.config, parts))
        print(summary_text.estimate(parts), flush=True)
        if dry_run:
            team.part()
            return path
        with _disk_errors_told(path), _claimed(parts, path, team) as run:
            best = _trained(parts, run, stop, team)
            _finish(parts, run, best, stop)
    return path


def _cluster(config: Config) -> Cluster | None:
    """Returns the workers of TF_CONFIG, or None where this process trains alone."""
    try:
        cluster = Cluster.from_environment()
    except ValueError as error:
        raise errors.UsageError(str(error)) from error
    if cluster and not config.run.run_dir:
        raise errors.UsageError(
            "several workers need --run_dir, the same directory for all, which all can read"
        )
    return cluster


def _team(config: Config, stop: StopSignals) -> Team:
    """Returns the workers of the run, all of them there; before TensorFlow computes anything."""
    cluster = _cluster(config)
    watch = cluster.gather(config.run.worker_timeout, stop.reason) if cluster else None
    try:
        if config.run.cpu_devices:
            devices.split_cpu(config.run.cpu_devices)
        team = Team(devices.strategy(config.run.devices), cluster, watch)
    except ValueError as error:
        raise errors.UsageError(str(error)) from error
    team.agree()
    stop.listen_again()
    return team


@contextlib.contextmanager
def _claimed(parts: Parts, path: str, team: Team) -> Iterator[RunDirectory]:
    """Gives the chief its run directory; where that is refused, the other workers learn of it, too."""
    with contextlib.ExitStack() as stack:
        try:
            run = stack.enter_context(RunDirectory(path))
            run.claim(parts.config, methods.with_defaults(parts.config.method, {}))
            teacher = assembly.teacher_digest(parts.config)
            run.claim_data(parts.dataset.train, teacher, parts.config.data.dataset)
        except Exception:
            team.total([1])
            raise
        team.total([0])
        yield run


def _help(parts: Parts, team: Team, stop: StopSignals, path: str) -> None:
    """Trains as a worker that is not the chief: it takes part in everything and writes nothing."""
    print(
        f"Worker {team.index} of {team.count}; worker 0 writes {path} and tells how training goes.",
        flush=True,
    )
    if team.total([0])[0]:
        raise errors.StorageError(f"worker 0 refused {path}; its message says why")
    _trained(parts, RunDirectory(path), stop, team)


@contextlib.contextmanager
def _disk_errors_told(path: str) -> Iterator[None]:
    """Makes what the disk refuses one line: Python, HDF5 and TensorFlow each have errors of their own."""
    try:
        yield
    except errors.CommandError:
        raise
    except Exception as error:
        reason = next((text for text in _DISK_REFUSES if text in str(error)), None)
        if reason is None:
            raise
        raise errors.StorageError(
            f"{path} cannot be written: {reason}; what is complete is kept, and the same command goes on"
        ) from error


def _prepared(config: Config) -> Parts:
    try:
        keras.utils.set_random_seed(config.run.seed)
        if config.run.deterministic:
            devices.make_deterministic()
        options = methods.with_defaults(config.method, config.options)
        parts = assembly.assemble(dataclasses.replace(config, options=options), assembly.load(config))
        selection_names(config.run.select, parts.method.results(parts.method.validation_metrics))
        for name in final_evaluation.attack_names(config):
            attacks.get(name)(epsilon=config.attack.epsilon, norm=config.attack.norm)
        suite.check_names(final_evaluation.attack_names(config))
        return parts
    except errors.CommandError:
        raise
    except ValueError as error:
        raise errors.UsageError(str(error)) from error


def _write_facts(run: RunDirectory, parts: Parts, ended: bool) -> None:
    run.write("flags.txt", parts.config.to_flags())
    file = run / "environment.json"
    if not (ended and file.exists()):
        run.write(file.name, summary_text.environment(file.read_text() if file.exists() else ""))


def _trained(parts: Parts, run: RunDirectory, stop: StopSignals, team: Team) -> dict[str, Any]:
    """Trains to the end and returns the best epoch's facts."""
    stop.note_from_now_on()
    config, method = parts.config, parts.method
    best = BestCheckpoint(run / "best/model.keras", config.run.select, writes=team.chief)
    history = ClasswiseHistory(parts.dataset.class_names)
    progress = Progress(history)
    callbacks: list[Any] = [history, MethodHooks(), best]
    if team.chief:
        callbacks += [progress, ZeroGradients(history), RunLog(run, history), EpochTimes(run)]
        callbacks.append(LastNetworks(run / "last", config.run.keep_last))
    if team.chief and config.run.tensorboard:
        board = _board(parts, run, history)
        callbacks += [board, HardGallery(board, _sample_batch(parts))]
    checkpoints = Checkpoints(run / "checkpoints", method.state, team)
    if checkpoints.generations() and not config.run.resume:
        raise errors.StorageError(f"{run.path} holds a run already; with --noresume choose another --run_dir")
    if not checkpoints.generations() and _was_trained(run):
        raise errors.StorageError(
            f"{run.path} holds a trained run whose checkpoints are gone; choose another --run_dir"
        )
    loop = Loop(
        method,
        parts.strategy,
        callbacks=callbacks,
        checkpoints=checkpoints,
        checkpoint_seconds=60 * config.run.checkpoint_minutes,
        jit_compile=config.run.jit_compile,
        stopping=stop.reason,
        go_on=f"go on with the same flags and --run_dir={run.path}",
        on_divergence=config.run.on_divergence,
        team=team,
    )
    start = _restored(loop, run) if config.run.resume else Position()
    _check_equal(team, parts, start)
    ended = start.epoch >= config.optimization.epochs
    if team.chief:
        _write_facts(run, parts, ended)
    if ended:
        print(f"{run.path} is trained to its end.")
    elif start != Position():
        print(f"Going on in {run.path} at epoch {start.epoch + 1}, step {start.step}.")
        progress.first_step = start.step
    with _parting(team), _nondeterminism_told(config), contextlib.closing(progress):
        loop.run(start, config.optimization.epochs, parts.training, parts.steps, parts.validation())
    return best.best


def _was_trained(run: RunDirectory) -> bool:
    """Returns whether training got past its first epoch, before which it may have had no checkpoint."""
    log = run / "metrics.jsonl"
    return (run / "MODEL_CARD.md").exists() or log.exists() and len(log.read_text().splitlines()) > 1


def _check_equal(team: Team, parts: Parts, start: Position) -> None:
    """Makes sure that all workers train the same from the same point."""
    if team.count == 1:
        return
    experiment = json.dumps(parts.config.experiment(), sort_keys=True, default=str)
    team.same("flags", zlib.crc32(experiment.encode()))
    for name, split in (("training", parts.train), ("validation", parts.validation_split)):
        team.same(f"{name} images", int(split.fingerprint()[:12], 16))
    step = int(keras.ops.convert_to_numpy(parts.method.optimizer.iterations))
    where = "checkpoint: --run_dir must be a directory that all of them see"
    team.same(where, zlib.crc32(repr((start, step)).encode()))


@contextlib.contextmanager
def _nondeterminism_told(config: Config) -> Iterator[None]:
    """Makes an operation that has no deterministic form here one line that names it."""
    try:
        yield
    except (tf.errors.OpError, RuntimeError) as error:
        if not config.run.deterministic or "determinis" not in str(error).lower():
            raise
        name = getattr(getattr(error, "op", None), "type", "") or getattr(error, "node_def", None) or ""
        raise errors.UsageError(
            f"--deterministic: an operation {name} has no deterministic form on this device ({error}); train "
            "without the flag, on another device, or with a method or augmentation that does not need it"
        ) from error


@contextlib.contextmanager
def _parting(team: Team) -> Iterator[None]:
    """Lets all workers leave together where all end at the same step: done, stopped, or diverged."""
    try:
        yield
    except (errors.Interrupted, errors.Diverged):
        team.part()
        raise
    except tf.errors.OpError:
        if team.count > 1:
            time.sleep(_DIAGNOSIS_SECONDS)  # the watch finds the worker that is gone, and ends the process
        raise
    team.part()


def _restored(loop: Loop, run: RunDirectory) -> Position:
    """Returns where to go on; what was trained is never replaced because it could not be read."""
    folder = run / "checkpoints"
    try:
        start = loop.restore()
    except (ValueError, KeyError) as error:
        raise errors.StorageError(
            f"{folder} does not fit this run ({error}); has the data changed? Choose another --run_dir"
        ) from error
    if start == Position() and loop.checkpoints and loop.checkpoints.generations():
        raise errors.StorageError(f"{folder} holds damaged checkpoints only; choose another --run_dir")
    return start


def _sample_batch(parts: Parts) -> dict[str, tf.Tensor]:
    return next(iter(parts.training(Position()).take(1)))


def _board(parts: Parts, run: RunDirectory, history: ClasswiseHistory) -> Board:
    facts = {"method": parts.config.method, **parts.config.options}
    for section in parts.config.sections().values():
        facts |= dataclasses.asdict(section)
    return Board(run / "tensorboard", history, parts.config.to_json(), shown(facts))


def _finish(parts: Parts, run: RunDirectory, best: dict[str, Any], stop: StopSignals) -> None:
    try:
        network = keras.models.load_model(run / "best/model.keras")
    except (ValueError, KeyError, *errors.DAMAGED) as error:
        raise errors.StorageError(
            f"{run / 'best/model.keras'} is gone or damaged, and the best epoch with it "
            f"({str(error).splitlines()[0]}); choose another --run_dir, or take a network of last/"
        ) from error
    exporting.export(model_files.in_float32(network), run / "export")
    print(f"\nBest epoch by validation: {best['epoch'] + 1} ({parts.config.run.select} {best['score']:.4f}).")
    result = final_evaluation.evaluated(parts, run, stop)
    if result is not None:
        print("\n" + console.classwise_table(result))
    if result is not None or not (run / "MODEL_CARD.md").exists():
        environment = (run / "environment.json").read_text()
        run.write("MODEL_CARD.md", model_card(parts, best, result, environment))
    write_atomically(run / "curves.png", curves_png(run / "metrics.jsonl"))
    print("\n" + summary_text.places(run.path))
