"""The attack of training: what a method asks of it beyond the call of every attack.

self.attack = attack_for(method, attack)      # ValueError: the method needs more than the attack offers
"""

import dataclasses
import inspect
from typing import Any


def attack_for(method: Any, attack: Any) -> Any:
    """Returns the attack as the method calls it: with steps that scale with the radius, if it says so.

    Raises:
      ValueError: the method gives the attack the loss to maximise or lets its steps scale, and the attack
        takes no `loss` or has no field `scale_step`.
    """
    if (method.gives_loss or method.objective.attacks_prediction) and not _takes_loss(attack):
        raise ValueError(f"{method.name} needs an attack that is called with `loss`, such as pgd")
    if not method.scale_steps:
        return attack
    if "scale_step" not in getattr(attack, "__dataclass_fields__", {}):
        raise ValueError(f"{method.name} needs an attack with the field `scale_step`, such as pgd")
    return dataclasses.replace(attack, scale_step=True)


def _takes_loss(attack: Any) -> bool:
    parameters = inspect.signature(attack).parameters
    return "loss" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
