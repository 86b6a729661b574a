"""Adversarial attacks, by the field's names.

    attack = attacks.get("pgd")(epsilon=8/255, step_size=2/255, steps=10)
    adversarial = attack(logits_fn, images, labels, seed)
    attacks.get("pgd20")(epsilon=8/255)          # a number behind a name is its steps

Every attack is `attack(logits_fn, images, labels, seed, epsilon=None) -> adversarial images`.
Adding one takes a file in this folder and a line in `TABLE`.
"""

import functools
import re
from typing import Any

from fairat_tf.lookup import Table

_STEPPED = re.compile(r"([a-z-]+?)-?(\d+)")


def _with_steps(name: str) -> Any | None:
    match = _STEPPED.fullmatch(name)
    if not match or match[1] not in ("pgd", "cw") or int(match[2]) < 1:
        return None
    return functools.partial(TABLE.get(match[1]), steps=int(match[2]), keep_best=True)


TABLE = Table(
    "attack",
    {
        "pgd": "fairat_tf.attacks.pgd:PGD",
        "fgsm": "fairat_tf.attacks.pgd:fgsm",
        "cw": "fairat_tf.attacks.pgd:cw",
        "mi-fgsm": "fairat_tf.attacks.momentum:MomentumFGSM",
        "mt-pgd": "fairat_tf.attacks.multi_targeted:MultiTargetedPGD",
        "apgd-ce": "fairat_tf.attacks.apgd:apgd_ce",
        "apgd-dlr": "fairat_tf.attacks.apgd:apgd_dlr",
        "apgd-t": "fairat_tf.attacks.apgd:apgd_t",
        "fab": "fairat_tf.attacks.fab:fab",
        "fab-t": "fairat_tf.attacks.fab:fab_t",
        "square": "fairat_tf.attacks.square:Square",
        "autoattack": "fairat_tf.attacks.autoattack:AutoAttack",
        "noise": "fairat_tf.attacks.noise:Noise",
        "cleverhans-fgsm": "fairat_tf.attacks.cleverhans_attacks:cleverhans_fgsm",
        "cleverhans-pgd": "fairat_tf.attacks.cleverhans_attacks:cleverhans_pgd",
    },
    fallback=_with_steps,
    family="pgdK and cwK for K steps with the best iterate kept (pgd20, cw20)",
)


def get(name: str) -> Any:
    """Returns the attack class or factory called `name`."""
    return TABLE.get(name)


def names() -> list[str]:
    """Returns the names of all attacks (those with a number of steps behind them not listed)."""
    return TABLE.names()
