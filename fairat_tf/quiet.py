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


@contextlib.contextmanager
def stderr() -> Iterator[None]:
    """Inside, the process's standard error goes to a file; it is shown only if an exception passes."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
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


def import_tensorflow() -> None:
    """Imports TensorFlow; its notes about the machine are left out, errors are not."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with stderr():
        importlib.import_module("tensorflow")
        importlib.import_module("keras")
