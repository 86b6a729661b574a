"""The tool that kills runs: with three kills the end is the undisturbed one's, and a difference is found."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("crash_test_tool", ROOT / "tools/crash_test.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.timeout(600)
def test_three_kills_end_as_the_undisturbed_run():
    command = [sys.executable, "tools/crash_test.py", "--kills=3"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "3 kills in" in result.stdout and "undisturbed run: 0." in result.stdout
    assert result.stderr.count("the same bits") >= 1


def finished(folder, value):
    """Writes what a finished run leaves, as far as it is compared."""
    import zipfile

    checkpoint = folder / "checkpoints/step-0000000003"
    checkpoint.mkdir(parents=True)
    np.savez(checkpoint / "variables.npz", v00000=np.full(3, value), v00001=np.arange(2))
    (checkpoint / "state.json").write_text(json.dumps({"epoch": 1}))
    (folder / "best").mkdir()
    with zipfile.ZipFile(folder / "best/model.keras", "w") as archive:
        archive.writestr("model.weights.h5", b"weights")
    for name in ("metrics.jsonl", "classwise.csv"):
        (folder / name).write_text("x")
    return folder


def test_one_bit_of_difference_is_found(tool, tmp_path):
    expected = tool.ending(finished(tmp_path / "a", 0.5))
    assert tool.differences(finished(tmp_path / "b", 0.5), expected) == []
    assert tool.differences(finished(tmp_path / "c", np.nextafter(0.5, 1)), expected) == ["variable v00000"]
    (tmp_path / "b/metrics.jsonl").write_text("y")
    assert tool.differences(tmp_path / "b", expected) == ["metrics.jsonl"]


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
