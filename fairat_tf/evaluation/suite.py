"""AutoAttack inside an evaluation: whole, or block by block as far as a budget reaches.

    outcomes = suite.run(bench, clean, deadline=1800.0)     # Outcome for apgd-ce, ..., autoattack

A block has the same number of examples of each class as far as there are some, so whatever is reached
when the time is up is a fair sample. A block is either done or not; a killed run repeats one block.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fairat_tf import attacks, errors, rng
from fairat_tf.attacks import cascade_state
from fairat_tf.evaluation.attacking import SUITE, Bench, Outcome, lost_note, to_float
from fairat_tf.evaluation.sampling import round_robin

_SUMS = ("seconds", "not_finite")  # of a block; all else is one value for each example


def run(bench: Bench, clean: Outcome, deadline: float | None = None) -> list[Outcome]:
    """Returns the outcomes of the suite's parts and of "autoattack", the joint result.

    Args:
      bench: model, examples and threat model.
      clean: outcome on the natural examples.
      deadline: seconds that may be spent; None means all examples at once. At least one block is run.
    """
    attack = attacks.get(SUITE)(epsilon=bench.epsilon, norm=bench.norm)
    if deadline is None:
        return _outcomes(_block(bench, attack, np.arange(len(bench.labels)), "suite"), bench, "")
    order = round_robin(bench.labels, int(bench.labels.max()) + 1, bench.seed)
    size = max(bench.batch_size, len(np.unique(bench.labels)))
    done: list[dict[str, Any]] = []
    costs: list[float] = []
    for number, start in enumerate(range(0, len(order), size)):
        if done and sum(costs) + max(costs) > deadline:
            break
        done.append(_block(bench, attack, np.sort(order[start : start + size]), f"suite-{number}"))
        costs.append(float(done[-1]["seconds"]))
    block = _joined(done)
    reached, total = len(block["examples"]), len(order)
    note = "" if reached == total else f"{reached} of {total} examples, as even over the classes as can be"
    return _outcomes(block, bench, note)


def _block(bench: Bench, attack: Any, examples: np.ndarray, name: str) -> dict[str, Any]:
    kept = bench.store.load(name)
    if "not_finite" in kept:
        return kept
    begun, parts = time.monotonic(), bench.store.path(f"{name}-parts.npz")
    _drop_damaged(parts)
    images, labels = to_float(bench.images[examples]), bench.labels[examples]
    try:
        result = attack.run(
            bench.logits_fn,
            images,
            labels,
            rng.key(bench.seed, "evaluate/autoattack", int(examples[0])),
            batch_size=min(bench.batch_size, len(labels)),
            progress=_printer() if bench.progress else None,
            state_path=parts,
        )
    except cascade_state.OtherStateError:
        bench.store.refuse("the model or the attack")
    adversarial = np.asarray(result.adversarial)
    block: dict[str, Any] = {
        "examples": examples,
        "predictions": np.asarray(result.answers, np.int32),
        "seconds": max(time.monotonic() - begun, sum(result.seconds.values())),  # those before a kill, too
        "not_finite": sum(result.not_finite.values()),
        "correct": np.asarray(result.robust, bool),
        **{f"seconds/{part}": spent for part, spent in result.seconds.items()},
        **{
            f"after/{part}": np.asarray(flags, bool)
            for part, flags in result.robust_after.items()
            if part != "clean"
        },
    }
    if bench.keep:
        block["adversarial"] = adversarial
    differ = int(np.sum((bench.predict(adversarial) == labels) != block["correct"]))
    if differ > 0.01 * len(labels) + 1:
        raise errors.Unreliable(
            f"autoattack: {differ} of {len(labels)} images are classified differently when predicted again: "
            "is the model random or dependent on the batch?"
        )
    bench.store.save(name, **block)
    return block


def check_names(names: Sequence[str]) -> None:
    """Checks that no attack is named that the suite runs itself: there is one result for each name.

    Raises:
      UsageError: which one to leave out.
    """
    twice = [name for name in names if SUITE in names and name in attacks.get(SUITE)().attacks()]
    if twice:
        raise errors.UsageError(
            f"{SUITE} runs {', '.join(twice)} itself, on what the attacks before left; leave one of them out"
        )


def _drop_damaged(path: str | None) -> None:
    """Removes a state that cannot be read: its block is done again."""
    if path is None:
        return
    try:
        cascade_state.load(path)
    except ValueError:
        Path(path).unlink()


def _printer() -> Any:
    from fairat_tf.attacks.progress import print_progress

    return print_progress


def _joined(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    sums = {key: sum(float(b[key]) for b in blocks) for key in blocks[0] if key.startswith(_SUMS)}
    joined = {key: np.concatenate([b[key] for b in blocks]) for key in blocks[0] if key not in sums}
    order = np.argsort(joined["examples"])
    return {key: value[order] for key, value in joined.items()} | sums


def _outcomes(block: dict[str, Any], bench: Bench, note: str) -> list[Outcome]:
    examples, seconds = block["examples"], float(block["seconds"])
    parts = {key.split("/")[1]: value for key, value in block.items() if key.startswith("after/")}
    inner = [
        Outcome(name, examples, flags, None, float(block[f"seconds/{name}"]), None, note)
        for name, flags in parts.items()
    ]
    note = "; ".join(filter(None, (note, lost_note(int(block["not_finite"])))))
    kept = block.get("adversarial")
    return [*inner, Outcome(SUITE, examples, block["correct"], block["predictions"], seconds, kept, note)]
