"""The errors that end a command, each with its exit code.

Standard library only, so that a command can report a wrong flag before TensorFlow is imported.

    raise DataError("cifar10: no directory /data/cifar10; give --data_dir or --download")
"""

import zipfile
import zlib

EXIT_OK = 0
EXIT_INTERNAL = 1

DAMAGED = (OSError, EOFError, zlib.error, zipfile.BadZipFile)
"""What reading a damaged file of compressed arrays raises, besides ValueError."""


class CommandError(Exception):
    """Base: an error whose message is complete for the user; `exit_code` is what the process returns."""

    exit_code = EXIT_INTERNAL


class UsageError(CommandError, ValueError):
    """A flag, an argument or a model that does not fit the request (exit code 2)."""

    exit_code = 2


class DataError(CommandError, ValueError):
    """A data set that is missing, incomplete or malformed (exit code 3)."""

    exit_code = 3


class GateFailed(CommandError):  # noqa: N818
    """A required bound (`--gate`) is not met (exit code 4)."""

    exit_code = 4


class Unreliable(CommandError):  # noqa: N818
    """The attack's result cannot be believed, so no gate can be judged (exit code 5)."""

    exit_code = 5


class Diverged(CommandError):  # noqa: N818
    """Training produced values that are not finite (exit code 6)."""

    exit_code = 6


class StorageError(CommandError, OSError):
    """A file cannot be written: no space, no permission or a read-only disk (exit code 7)."""

    exit_code = 7


class OtherSettings(StorageError):  # noqa: N818
    """The directory holds a result with other settings, which is kept (exit code 7)."""


class Interrupted(CommandError):  # noqa: N818
    """Stopped before the end with its state saved: the same command goes on (exit code 75)."""

    exit_code = 75


class WorkerMissing(Interrupted):
    """Another worker did not come or is gone: the same command on all goes on from the last checkpoint."""
