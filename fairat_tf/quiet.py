"""Importing TensorFlow without the lines that it prints on stderr before its log level is read.

with quiet.stderr():
    import tensorflow
"""

import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def stderr() -> Iterator[None]:
    """Inside, the process's standard error goes to a file; it is shown only if an exception passes."""
    sys.stderr.flush()
    kept = os.dup(2)
    with _file() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(kept, 2)
            file.seek(0)
            os.write(2, file.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)


def _file() -> Any:
    """Returns a file in memory where the system has that, since a full disk has no room for another."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("stderr"), "w+b")
    return tempfile.TemporaryFile()


def import_tensorflow() -> None:
    """Imports TensorFlow; its notes about the machine are left out, errors are not."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with stderr():
        importlib.import_module("tensorflow")
        importlib.import_module("keras")
