"""Measures what a checkpoint costs: seconds for one, and its share of the training between two of them.

    ./tools/checkpoint_cost --flagfile=flags/quick.flags

The flags are those of `fairat_tf.train`. Some training steps and some saves are timed, in turn. A checkpoint
is due every `--checkpoint_minutes` and at each epoch's end, so the time between two is the shorter of both.
COST_STEPS and COST_SAVES in the environment set how many (20 and 10), COST_FOLDER where to write.
"""

import os
import pathlib
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def seconds_of(action) -> float:
    """Returns how long `action` takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def main() -> None:
    """Measures and prints one line of the table of docs/results/reliability.md."""
    from fairat_tf import flags_lib, quiet

    command = flags_lib.training_command(["train", *sys.argv[1:]])
    command.flags(["train", *sys.argv[1:]])
    config = flags_lib.config_from(command.flags)
    quiet.import_tensorflow()
    from fairat_tf import train_lib
    from fairat_tf.checkpointing import Checkpoints
    from fairat_tf.training_loop import Loop, Position

    steps, saves = (
        int(os.environ.get(name, default)) for name, default in (("COST_STEPS", 20), ("COST_SAVES", 10))
    )
    parts = train_lib._prepared(config)
    loop = Loop(parts.method, parts.strategy)
    batches = iter(parts.training(Position()).repeat())
    loop._train_step(next(batches))  # tracing

    def train() -> None:
        for _ in range(max(1, steps // saves)):
            loop._train_step(next(batches))
        parts.method.optimizer.iterations.numpy()  # waits for the device

    with tempfile.TemporaryDirectory(dir=os.environ.get("COST_FOLDER")) as folder:
        checkpoints = Checkpoints(pathlib.Path(folder), parts.method.state)
        trained, saved = [], []
        for number in range(saves):
            trained.append(seconds_of(train) / max(1, steps // saves))
            saved.append(seconds_of(lambda number=number: checkpoints.save({}, number)))
        size = sum(file.stat().st_size for file in checkpoints.generations()[0].iterdir())
    step, save = statistics.median(trained), statistics.median(saved)
    epoch = step * parts.steps
    between = min(epoch, 60 * parts.config.run.checkpoint_minutes)
    print("| network | checkpoint | one save | step | epoch | time between two | share |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    network = parts.config.network.network
    print(
        f"| {network} | {size / 1e6:.1f} MB | {1000 * save:.0f} ms | {1000 * step:.0f} ms | {epoch:.0f} s "
        f"| {between:.0f} s | {100 * save / between:.2f} % |"
    )


if __name__ == "__main__":
    main()
