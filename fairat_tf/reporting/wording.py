"""Sentences for readers who are not from the field.

wording.summary(result)     # ["Under attack ...", "The least protected class is cat ..."]
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fairat_tf.evaluation.summary import FEW, few, strongest
from fairat_tf.metrics import intervals
from fairat_tf.units import pixels

VERDICTS = {
    "reliable": "No check found a sign that the attack failed. That is evidence, not proof, of robustness.",
    "suspicious": "Some checks raise doubts: the true robustness may be lower than shown.",
    "unreliable": "The attack failed in a known way: the figures overstate the robustness and prove nothing.",
    "not checked": "The checks were not run.",
}
BLIND = {"square", "noise"}
"""Attacks that ask for no gradient."""
_NAMED = 6  # classes, in a sentence
NO_ATTACK = "No attack was run: nothing here says how robust the model is."


def percent(value: float | None) -> str:
    """Returns a fraction as per cent with one decimal; a dash for nothing."""
    return "–" if value is None else f"{100 * value:.1f} %"


def span(bounds: Sequence[float], unit: str = " %") -> str:
    """Returns an interval in words, in per cent."""
    return f"95 % interval {100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}{unit}"


def points(value: float | None) -> str:
    """Returns a fraction in per cent without the sign; a dash for nothing."""
    return "–" if value is None else f"{100 * value:.1f}"


def bounds(interval: Sequence[float], between: str = " to ") -> str:
    """Returns an interval as two numbers in per cent."""
    return f"{100 * interval[0]:.1f}{between}{100 * interval[1]:.1f}"


def allowed(norm: str, epsilon: float) -> str:
    """Returns what the adversary may do to an image."""
    if norm == "linf":
        share = f"{100 * epsilon:.2g}" if epsilon < 0.1 else f"{100 * epsilon:.0f}"
        return f"every pixel value by at most {pixels(epsilon)} ({share} % of the range; linf)"
    return f"the image by at most {epsilon:.4g} in Euclidean length, pixel values in [0, 1] (l2)"


def knows(attacks: Iterable[str]) -> str:
    """Returns what the adversary of these attacks knows of the model."""
    names = {name for name in attacks if name != "clean"}
    if not names:
        return "nothing: no attack was run"
    if names <= BLIND:
        return "the model's answers alone (black box)"
    return "the model and its gradients (white box)"


def worse_by_chance(bootstrap: Mapping[str, Any]) -> float:
    """Returns by how much chance lowers the worst class as it is seen; 0 where the bootstrap cannot tell."""
    lowered = -bootstrap["bias"]
    return lowered if lowered > max(0.0005, 3 * bootstrap.get("bias_error", 0.0)) else 0.0


def summary(result: Mapping[str, Any]) -> list[str]:
    """Returns the sentences: the trust first if it is missing, then who is protected and who is not."""
    name = strongest(result)
    attack = result["attacks"][name]
    status = result["verdict"]["status"]
    sentences = [VERDICTS[status]] if status in ("unreliable", "suspicious") else []
    sentences += [_average(result, name)] if name != "clean" else [NO_ATTACK, _clean_average(result)]
    sentences.append(_worst_and_best(attack, result["fairness"][name]["best_class"]["name"], name))
    sentences += [f"{told[0].upper()}{told[1:]}." for told in few_images(result)]
    return [*sentences, _who(clearly_below(attack), "class"), *_of_groups(result, name)]


def few_images(result: Mapping[str, Any]) -> list[str]:
    """Returns the remark on classes of which next to nothing is known, if there are any."""
    found = few(result)
    if not found:
        return []
    rows = [f"{name} ({total})" for name, total in list(found.items())[:_NAMED]]
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    who, whose = ("class", "its") if len(found) == 1 else ("classes", "their")
    return [f"fewer than {FEW} images of {who} {', '.join(rows)}{more}: {whose} figures are rough"]


def _average(result: Mapping[str, Any], name: str) -> str:
    clean, attack = result["attacks"]["clean"], result["attacks"][name]
    part = (
        f"; {name} reached {attack['total']} of the {clean['total']} images, its figures are of those alone"
    )
    part = part if attack["total"] < clean["total"] else ""
    return (
        f"Of 100 images, the model gets {_round(clean['accuracy'])} right as they are, and "
        f"{_round(attack['accuracy'])} when every image may be changed a little to deceive it ({name}){part}."
    )


def _clean_average(result: Mapping[str, Any]) -> str:
    right = _round(result["attacks"]["clean"]["accuracy"])
    return f"Of 100 images, the model gets {right} right as they are."


def _verbs(attack: str) -> tuple[str, str]:
    """Returns the words for being right, without an attack or under one."""
    return ("recognised", "being right") if attack == "clean" else ("protected", "staying right")


def _worst_and_best(attack: Mapping[str, Any], best: str, name: str) -> str:
    (kept, right), worst = _verbs(name), attack["worst_class"]
    own, other = attack["per_class"][worst["name"]], attack["per_class"][best]
    interval = span(worst["ci95"])
    if own["accuracy"] == other["accuracy"]:
        alike = f"{_round(own['accuracy'])} % of their images {right}"
        return f"All classes are {kept} alike, with {alike} ({interval})."
    share = f"{out_of(own)} {right} ({interval})"
    return (
        f"The least {kept} class is {worst['name']}, with {share}; the best {kept} is {best} "
        f"with {out_of(other)}."
    )


def out_of(row: Mapping[str, Any]) -> str:
    """Returns how many images are right: of 100, or of all where there are fewer than 100."""
    if row["total"] < 100:
        return f"{row['correct']} of its {row['total']} images"
    return f"{_round(row['accuracy'])} of 100"


def group_label(by: str, name: str) -> str:
    """Returns what a group is called on the page: "Male: yes", or a folder's name alone."""
    return name if by == "group" else f"{by}: {name}"


def _of_groups(result: Mapping[str, Any], attack: str) -> list[str]:
    if not result.get("groups"):
        return []
    by, own = result["groups"]["by"], result["groups"]["attacks"][attack]
    worst = own["worst_group"]
    below = clearly_below({"per_class": own["per_group"], "accuracy": result["attacks"][attack]["accuracy"]})
    kept, right = _verbs(attack)
    least = f"The least {kept} group is {group_label(by, worst['name'])}"
    share = f"{out_of(own['per_group'][worst['name']])} {right} ({span(worst['ci95'])})"
    return [f"{least}, with {share}. " + _who([group_label(by, name) for name in below], "group")]


def _who(below: Sequence[str], kind: str) -> str:
    """Returns the sentence about those that are below the average beyond chance, all of them at once."""
    if not below:
        return f"No {kind} is below the average by more than chance explains."
    return f"Below the average by more than chance explains: {', '.join(below)}."


def clearly_below(attack: Mapping[str, Any]) -> list[str]:
    """Returns the classes whose simultaneous 95 % upper bound lies below the average accuracy.

    Groups serve as well: `per_class` needs only the rows with counts.
    """
    rows = {name: row for name, row in attack["per_class"].items() if row["total"]}
    right, total = (np.array([row[key] for row in rows.values()]) for key in ("correct", "total"))
    high = intervals.simultaneous_upper(right, total)
    return [name for name, bound in zip(rows, high, strict=True) if bound < attack["accuracy"]]


def _round(value: float) -> str:
    return f"{100 * value:.0f}"
