"""What the processor can do, and what TensorFlow must be told of it before it is imported.

    processor.use_onednn()
    import tensorflow

TensorFlow's convolutions come from oneDNN by default only where the processor has AVX-512 with VNNI or newer.
With AVX2 alone oneDNN's are faster as well: docs/results/speed.md, "A processor without AVX-512".
"""

import os
from pathlib import Path

_ONEDNN = "TF_ENABLE_ONEDNN_OPTS"


def features() -> set[str]:
    """Returns what an x86 processor says of itself under Linux; elsewhere nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.split()[2:]) for line in lines if line.startswith("flags")), set())


def use_onednn() -> None:
    """Turns oneDNN on where there is AVX2, unless TF_ENABLE_ONEDNN_OPTS says something already.

    It works only before TensorFlow is imported. Results differ from those without oneDNN by rounding.
    """
    if "avx2" in features():
        os.environ.setdefault(_ONEDNN, "1")


def onednn() -> str:
    """Returns what TensorFlow was told of oneDNN: "1" on, "0" off, "" TensorFlow's own choice."""
    return os.environ.get(_ONEDNN, "")
