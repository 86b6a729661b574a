"""Modules of the package that need NumPy alone, without the package, which needs TensorFlow.

order = module("data/order.py")
"""

import importlib.util
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).resolve().parents[2] / "fairat_tf"


def module(path: str) -> Any:
    """Returns the module in this file of the package; it imports nothing of the package itself."""
    place = _PACKAGE / path
    spec = importlib.util.spec_from_file_location(f"fairat_tf_{place.stem}", place)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found
