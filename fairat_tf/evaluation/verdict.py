"""Can the attack be believed? Checks, each by class where it can be, and one word for all of them.

    result["verdict"] = verdict.judge(bench, outcomes, class_names, checks="full")
    result["verdict"]["status"]          # reliable | suspicious | unreliable

An attack that fails looks like a robust model. The checks look for the ways in which attacks are known
to fail (Carlini et al. 2019, "On evaluating adversarial robustness"; the flags of the official AutoAttack;
Pintor et al. 2022). A check passes, warns or fails, for the whole or for single classes: one failure makes
the evaluation unreliable, one warning suspicious. Checks that were not run are listed as such.

`quick` needs a few passes over a sample; `full` attacks the sample again, harder and at other radii.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fairat_tf.evaluation import probes
from fairat_tf.evaluation.attacking import Bench, Outcome
from fairat_tf.evaluation.checks import Check, Finding
from fairat_tf.evaluation.sampling import by_class, per_class_for

MODES = ("none", "quick", "full")
SAMPLE = {"quick": 128, "full": 256}


def judge(
    bench: Bench, outcomes: Sequence[Outcome], class_names: Sequence[str], checks: str
) -> dict[str, Any]:
    """Returns {"status", "per_class": {name: status}, "checks": [...], "sample": examples probed}.

    Where no attack was run there is none to be judged: "not checked".

    Raises:
      ValueError: `checks` is not one of none, quick, full.
    """
    if checks not in MODES:
        raise ValueError(f"expected checks to be one of {', '.join(MODES)}, got {checks!r}")
    if checks == "none" or all(outcome.name == "clean" for outcome in outcomes):
        return {"status": "not checked", "per_class": {}, "checks": [], "sample": 0}
    labels = bench.labels
    per_class = per_class_for(labels, len(class_names), SAMPLE[checks])
    places = by_class(labels, len(class_names), per_class, bench.seed)
    sample = probes.Sample(bench, places, outcomes, len(class_names))
    findings = [(check, _run(check, sample, checks)) for check in probes.ALL]
    return summarise(findings, class_names) | {"sample": len(places)}


def summarise(findings: Sequence[tuple[Check, Finding]], class_names: Sequence[str]) -> dict[str, Any]:
    """Returns the verdict that follows from what the checks found."""
    rows = [_row(check, finding, class_names) for check, finding in findings]
    overall = max((finding.level for _, finding in findings), default=0)
    by_class = {
        name: STATUS[max((f.worst(c) for _, f in findings), default=0)] for c, name in enumerate(class_names)
    }
    overall = max([overall, *(STATUS.index(status) for status in by_class.values())])
    return {"status": STATUS[overall], "per_class": by_class, "checks": rows}


STATUS = ("reliable", "suspicious", "unreliable")
_OUTCOME = ("pass", "warn", "fail")


def _run(check: Check, sample: probes.Sample, mode: str) -> Finding:
    if check.full and mode != "full":
        return Finding(None, "not run (it is part of --checks=full)")
    return check.run(sample)


def _row(check: Check, finding: Finding, class_names: Sequence[str]) -> dict[str, Any]:
    row = {
        "name": check.name,
        "question": check.question,
        "outcome": "not run" if finding.outcome is None else _OUTCOME[finding.level],
        "message": finding.message,
        "classes": [class_names[c] for c in np.flatnonzero(finding.classes).tolist()],
    }
    return row | ({"value": finding.value} if finding.value is not None else {})
