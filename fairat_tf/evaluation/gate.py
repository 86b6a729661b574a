"""The release gate: required bounds, judged on the interval and not on the point estimate.

    gates = [parse("autoattack.worst_class>=0.25"), parse("pgd20.class[cat]>=0.2"), parse("clean.gap<=0.3")]
    rows = judge(gates, result, confidence=0.95)      # {"gate", "passed", "bound", "observed", "message"}

`>=` asks that the lower end of the interval reaches the bound, `<=` that the upper end stays below it: the
data must show that the requirement is met, which a small sample cannot. So a gate is missed where a class or
group that it is about has no evaluated example (a budget may end before): nothing is known of it.

Quantities: average, worst_class, gap, class[NAME], group[VALUE], worst_group, group_gap. Numbers may be
fractions or per cent: 0.25, 1/4, 25%.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fairat_tf import errors
from fairat_tf.metrics import intervals
from fairat_tf.units import parse_fraction

QUANTITIES = ("average", "worst_class", "gap", "class[NAME]", "group[VALUE]", "worst_group", "group_gap")
_GATE = re.compile(
    r"\s*(?P<attack>[\w-]+)\.(?P<what>average|worst_class|gap|class|group|worst_group|group_gap)"
    r"(\[(?P<which>.+)\])?\s*(?P<sign>>=|<=)\s*(?P<bound>[\d./e-]+)(?P<percent>%?)\s*"
)


@dataclasses.dataclass(frozen=True)
class Gate:
    """A required bound.

    Attributes:
      text: as it was given.
      attack: name of an evaluated attack.
      what: average, worst_class, gap, class, group, worst_group or group_gap.
      which: name of the class or value of the group, otherwise "".
      sign: ">=" or "<=".
      bound: in [0, 1].
    """

    text: str
    attack: str
    what: str
    which: str
    sign: str
    bound: float


def parse(text: str) -> Gate:
    """Returns the gate that `text` describes.

    Raises:
      UsageError: it is not of the form ATTACK.QUANTITY>=NUMBER.
    """
    match = _GATE.fullmatch(text)
    if not match or (match["what"] in ("class", "group")) != bool(match["which"]):
        raise errors.UsageError(
            f"--gate={text!r}: expected ATTACK.QUANTITY>=NUMBER (or <=) such as "
            f"autoattack.worst_class>=0.25; quantities: {', '.join(QUANTITIES)}"
        )
    try:
        bound = parse_fraction(match["bound"]) / (100.0 if match["percent"] else 1.0)
    except ValueError as error:
        raise errors.UsageError(f"--gate={text!r}: {error}") from None
    if not 0.0 <= bound <= 1.0:
        raise errors.UsageError(f"--gate={text!r}: expected a bound from 0 to 1 (or with %), got {bound:g}")
    return Gate(text.strip(), match["attack"], match["what"], match["which"] or "", match["sign"], bound)


def check_names(
    gates: Sequence[Gate],
    attacks: Sequence[str],
    class_names: Sequence[str],
    groups: Sequence[str],
    absent: Sequence[str] = (),
) -> None:
    """Raises UsageError if a gate names an attack, class or group that the evaluation will not have.

    `groups` are the names of the groups with examples, empty where there is no grouping; `absent` those of
    the classes without any.
    """
    for gate in gates:
        if gate.attack not in attacks:
            raise errors.UsageError(
                f"--gate={gate.text}: {gate.attack!r} is not among --attacks={','.join(attacks)}"
            )
        if gate.what == "class" and gate.which not in class_names:
            known = ", ".join(list(class_names)[:20])
            raise errors.UsageError(f"--gate={gate.text}: no class {gate.which!r}; the classes are {known}")
        if gate.what == "class" and gate.which in absent:
            raise errors.UsageError(f"--gate={gate.text}: no example of class {gate.which!r} is evaluated")
        if gate.what in ("group", "worst_group", "group_gap") and not groups:
            raise errors.UsageError(f"--gate={gate.text}: needs groups; give --group_by")
        if gate.what == "group" and gate.which not in groups:
            known = ", ".join(list(groups)[:20])
            raise errors.UsageError(
                f"--gate={gate.text}: no examples of group {gate.which!r}; the groups are {known}"
            )


def judge(gates: Sequence[Gate], result: Mapping[str, Any], confidence: float = 0.95) -> list[dict[str, Any]]:
    """Returns for each gate whether the evaluation shows that it is met, with the interval that decides.

    Raises:
      UsageError: the result has no such attack, class or group.
    """
    return [_judge(gate, result, confidence) for gate in gates]


def _judge(gate: Gate, result: Mapping[str, Any], confidence: float) -> dict[str, Any]:
    unknown = _unknown(gate, result)
    if unknown:
        return _missed(gate, unknown, confidence)
    observed, (low, high), who = _measure(gate, result, confidence)
    decides = low if gate.sign == ">=" else high
    passed = decides >= gate.bound if gate.sign == ">=" else decides <= gate.bound
    end = "lower" if gate.sign == ">=" else "upper"
    subject = f"{gate.attack} {gate.what.replace('_', ' ')}{who}"
    return {
        "gate": gate.text,
        "passed": bool(passed),
        "observed": observed,
        "interval": [low, high],
        "confidence": confidence,
        "message": (
            f"{subject}: {100 * observed:.1f} %, {end} end of the {100 * confidence:g} % interval "
            f"{_beside(decides, gate.bound)} %, required {gate.sign} {100 * gate.bound:g} %"
        ),
    }


def _beside(value: float, bound: float) -> str:
    """Returns a fraction in per cent, with as many decimals as tell it from the bound (up to six)."""
    texts = [f"{100 * value:.{digits}f}" for digits in range(1, 7)]
    return next((text for text in texts if abs(float(text) - 100 * bound) > 1e-9), texts[0])


def _unknown(gate: Gate, result: Mapping[str, Any]) -> list[str]:
    """Returns the classes or groups without an evaluated example, of those that the gate is about."""
    if gate.what == "average":
        return []
    rows = _rows(gate, result, "group" in gate.what)
    return [name for name, row in rows.items() if not row["total"] and gate.which in ("", name)]


def _missed(gate: Gate, unknown: Sequence[str], confidence: float) -> dict[str, Any]:
    more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
    return {
        "gate": gate.text,
        "passed": False,
        "observed": None,
        "interval": [0.0, 1.0],
        "confidence": confidence,
        "message": (
            f"{gate.attack} {gate.what.replace('_', ' ')}: no evaluated example of "
            f"{', '.join(unknown[:5])}{more}, so nothing is known of it"
        ),
    }


def _measure(
    gate: Gate, result: Mapping[str, Any], confidence: float
) -> tuple[float, tuple[float, float], str]:
    """Returns (observed, interval, who it is about) of the gate's quantity."""
    grouped = gate.what in ("group", "worst_group", "group_gap")
    rows = _rows(gate, result, grouped)
    names = [name for name, row in rows.items() if row["total"]]
    right, total = (np.array([rows[name][key] for name in names]) for key in ("correct", "total"))
    accuracy = right / total
    if gate.what in ("class", "group"):
        if gate.which not in names:
            raise errors.UsageError(f"--gate={gate.text}: no {gate.which!r}; known: {', '.join(names)}")
        place = names.index(gate.which)
        return (
            float(accuracy[place]),
            _both(intervals.wilson(right[place], total[place], confidence)),
            f" {gate.which}",
        )
    if gate.what == "average":
        both = intervals.wilson(right.sum(), total.sum(), confidence)
        return float(right.sum() / total.sum()), _both(both), ""
    if gate.what in ("gap", "group_gap"):
        return float(np.ptp(accuracy)), intervals.gap_interval(right, total, confidence), ""
    worst = int(np.argmin(accuracy))
    interval = intervals.worst_class_interval(right, total, confidence)
    return float(accuracy[worst]), interval, f" ({names[worst]})"


def _rows(gate: Gate, result: Mapping[str, Any], grouped: bool) -> Mapping[str, Any]:
    known = result["attacks"]
    if gate.attack not in known:
        raise errors.UsageError(f"--gate={gate.text}: expected one of the attacks {', '.join(known)}")
    if not grouped:
        return known[gate.attack]["per_class"]
    if "groups" not in result:
        raise errors.UsageError(f"--gate={gate.text}: needs groups; give --group_by")
    return result["groups"]["attacks"][gate.attack]["per_group"]


def _both(bounds: tuple[Any, Any]) -> tuple[float, float]:
    return float(bounds[0]), float(bounds[1])
