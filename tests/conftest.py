"""Four logical CPU devices for every test, the fixtures that all may use, and no settings left behind."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")

ROOT = Path(__file__).resolve().parent.parent
_NEEDS_TENSORFLOW = re.compile(
    r"^\s*(?:import|from)\s+(?:tensorflow|keras|cleverhans|fairat_tf)", re.MULTILINE
)


def _make_devices() -> None:
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    if tf.config.get_logical_device_configuration(cpu) is None:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Makes the devices before the first file that imports TensorFlow is imported: it may create tensors."""
    if isinstance(collector, pytest.Module) and _NEEDS_TENSORFLOW.search(collector.path.read_text()):
        _make_devices()


@pytest.fixture(autouse=True)
def _default_settings() -> Iterator[None]:
    yield
    if keras := sys.modules.get("keras"):
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")
    if tensorflow := sys.modules.get("tensorflow"):
        tensorflow.config.run_functions_eagerly(False)


@pytest.fixture(scope="session")
def mirrored() -> Any:
    """The `tf.distribute.MirroredStrategy` over two of the logical CPU devices."""
    _make_devices()
    from fairat_tf import devices

    return devices.mirrored(("CPU:0", "CPU:1"))


@pytest.fixture(scope="session")
def tfds_cifar10() -> Path:
    """The TFDS directory with the real CIFAR-10, as for `--data_dir`; skips the test where there is none.

    It is FAIRAT_TF_TEST_DATA where that is set, otherwise `shared/tfds` beside the repository.
    """
    folder = Path(os.environ.get("FAIRAT_TF_TEST_DATA") or ROOT.parent / "shared" / "tfds")
    if not (folder / "cifar10").is_dir():
        pytest.skip(f"no CIFAR-10 in {folder}; FAIRAT_TF_TEST_DATA names a TFDS directory that holds it")
    return folder


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with SVHN's and CIFAR's original files, small, as for `--data_dir`."""
    from tests import original_files

    folder = tmp_path_factory.mktemp("originals")
    original_files.write(folder)
    return folder


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The method and the attack of docs/adding_*.md, as if their files and lines were in the package."""
    from tests import documented

    documented.add_recipes(tmp_path, monkeypatch)
