"""Training methods, by the field's names.

    model = methods.get("fairat")(network, attack=attack, num_classes=10, hard_fraction=0.5)
    model.compile(optimizer=...)
    model.fit(...)

Adding one takes a file in this folder and a line in `TABLE`; its flags, its tests and its row in
the documentation follow from its `Options` and its docstring.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from fairat_tf.lookup import Table

TABLE = Table(
    "method",
    {
        "standard": "fairat_tf.methods.pgd_at:Standard",
        "pgd_at": "fairat_tf.methods.pgd_at:PGDAT",
        "fairat": "fairat_tf.methods.fairat:FairAT",
        "trades": "fairat_tf.methods.trades:TRADES",
        "mart": "fairat_tf.methods.mart:MART",
        "frl": "fairat_tf.methods.frl:FRL",
        "wat": "fairat_tf.methods.wat:WAT",
        "cfa": "fairat_tf.methods.cfa:CFA",
        "dafa": "fairat_tf.methods.dafa:DAFA",
        "faal": "fairat_tf.methods.faal:FAAL",
        "ham": "fairat_tf.methods.ham:HAM",
        "fat_var": "fairat_tf.methods.fat_var:FATVar",
        "dpls": "fairat_tf.methods.dpls:DPLS",
        "cfol": "fairat_tf.methods.cfol:CFOL",
        "spectral": "fairat_tf.methods.spectral:Spectral",
        "rslad": "fairat_tf.methods.rslad:RSLAD",
        "fair_ard": "fairat_tf.methods.fair_ard:FairARD",
        "absld": "fairat_tf.methods.absld:ABSLD",
    },
)


def get(name: str) -> Any:
    """Returns the method class called `name`: a `keras.Model` subclass (see `methods.base.Method`)."""
    return TABLE.get(name)


def names() -> list[str]:
    """Returns the names of all methods."""
    return TABLE.names()


def with_defaults(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options with the method's defaults where they are silent, as in files of older versions."""
    return {**dataclasses.asdict(get(name).Options()), **options}
