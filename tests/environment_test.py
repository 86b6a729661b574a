"""tools/quickstart and tools/test make .venv once, repeat what broke off, and say what they lack.

A shell script stands for Python: it writes down how it was called and installs nothing.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

FAKE_PYTHON = """#!/usr/bin/env bash
case "$*" in
  -c*) [[ -z "$FAKE_UNSUITABLE" ]] && echo "$0"; exit ;;
  --version) echo "Python 3.11.0"; exit ;;
  "-m venv --clear "*) mkdir -p "$4/bin"; cp "$0" "$4/bin/python"; echo venv >>"$FAKE_LOG"; exit ;;
  "-m pip install"*) echo "pip $*" >>"$FAKE_LOG"; exit "${FAKE_PIP_STATUS:-0}" ;;
  "-m ruff"*|"-m mypy"*) echo "$2" >>"$FAKE_LOG"; exit "${FAKE_LINT_STATUS:-0}" ;;
  *) echo "run $PWD: $*" >>"$FAKE_LOG"; exit "${FAKE_STATUS:-0}" ;;
esac
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the tools are shell scripts")


class Clone:
    """A copy of the tools and requirement files, in a folder whose name holds a space."""

    def __init__(self, folder: Path):
        self.root = folder / "a clone"
        self.log = folder / "log"
        self.bin = folder / "bin"
        self.bin.mkdir()
        shutil.copytree(ROOT / "tools", self.root / "tools")
        for path in ROOT.glob("requirements*.txt"):
            shutil.copy(path, self.root)
        self.command("python3.11", FAKE_PYTHON)
        self.command("uname", "#!/bin/sh\necho Linux x86_64\n")
        self.command("nvidia-smi", "#!/bin/sh\nexit 1\n")

    def command(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def start(self, tool: str, *arguments: str, **environment: str) -> tuple[int, list[str], str]:
        """Returns the exit code, the calls of Python that were logged, and the error output."""
        self.log.write_text("")
        inherited = {k: v for k, v in os.environ.items() if k != "PYTHON"}
        clean = inherited | {"PATH": f"{self.bin}:/usr/bin:/bin", "FAKE_LOG": str(self.log)} | environment
        done = subprocess.run(
            [self.root / "tools" / tool, *arguments], env=clean, cwd="/", capture_output=True, text=True
        )
        return done.returncode, self.log.read_text().splitlines(), done.stderr


@pytest.fixture
def clone(tmp_path):
    return Clone(tmp_path)


def installed(calls: list[str]) -> list[str]:
    """Returns the requirement files that pip was given, and packages named beside them."""
    words = [
        word
        for call in calls
        if call.startswith("pip ")
        for word in call.split("--constraint")[1].split(" -r ")[1:]
    ]
    return [word.rsplit("/", 1)[1] for word in words]


def test_the_second_start_installs_nothing(clone):
    status, calls, _ = clone.start("quickstart", "--seed=1")
    assert status == 0 and calls[0] == "venv" and installed(calls) == ["requirements-cpu.txt"]
    run = f"run {clone.root}: -m fairat_tf.train --flagfile=flags/quick.flags --seed=1"
    assert calls[-1] == run
    assert clone.start("quickstart", "--seed=1") == (0, [run], "")


def test_the_test_tools_come_on_top(clone):
    clone.start("quickstart")
    _, calls, _ = clone.start("test")
    assert "venv" not in calls and installed(calls) == ["requirements-test.txt"]
    assert installed(clone.start("test")[1]) == []


def test_a_python_that_is_too_old_is_passed_over(clone):
    """The first candidate says who it is and that it cannot serve; the next one is taken."""
    real = f"exec {sys.executable} "
    old = FAKE_PYTHON.replace(
        '-c*) [[ -z "$FAKE_UNSUITABLE" ]] && echo "$0"; exit ;;',
        f'-c*) {real} -c "import sys; sys.version_info = (3, 10, 0); exec(sys.argv[1])" "$2"; exit ;;',
    )
    assert old != FAKE_PYTHON
    clone.command("python3.11", old)
    clone.command("python3.12", FAKE_PYTHON)
    status, calls, message = clone.start("quickstart")
    assert status == 0, message
    assert calls[0] == "venv" and "Making .venv with Python 3.11.0" in message


def test_a_changed_file_is_installed_again(clone):
    clone.start("quickstart")
    with (clone.root / "requirements-cpu.txt").open("a") as file:
        file.write("another==1.0\n")
    assert installed(clone.start("quickstart")[1]) == ["requirements-cpu.txt"]


def test_a_broken_off_installation_is_repeated(clone):
    status, calls, message = clone.start("quickstart", FAKE_PIP_STATUS="1")
    assert status == 2 and "failed" in message and not any(call.startswith("run") for call in calls)
    assert installed(clone.start("quickstart")[1]) == ["requirements-cpu.txt"]


def test_a_gpu_gets_the_large_wheel_and_its_libraries(clone):
    clone.command("nvidia-smi", "#!/bin/sh\nexit 0\n")
    (words,) = installed(clone.start("quickstart")[1])
    version = (ROOT / "requirements.txt").read_text().split("\ntensorflow==")[1].split("\n")[0]
    assert words == f"requirements.txt tensorflow[and-cuda]=={version}"


def test_the_wheel_that_is_there_stays(clone):
    clone.start("quickstart")
    (clone.root / ".venv/lib/python3.11/site-packages/tensorflow_cpu-2.21.0.dist-info").mkdir(parents=True)
    clone.command("nvidia-smi", "#!/bin/sh\nexit 0\n")
    assert installed(clone.start("quickstart")[1]) == []


@pytest.mark.parametrize("tool", ["quickstart", "test"])
def test_without_a_suitable_python(clone, tool):
    for name in ("python3.12", "python3.13", "python3", "python"):
        clone.command(name, FAKE_PYTHON)
    status, calls, message = clone.start(tool, FAKE_UNSUITABLE="1")
    assert (status, calls) == (2, [])
    assert "Python 3.11, 3.12 or 3.13" in message and len(message.splitlines()) == 1
    status, calls, message = clone.start(tool, PYTHON="python3.11", FAKE_UNSUITABLE="1")
    assert (status, calls) == (2, [])
    assert "PYTHON=python3.11" in message and len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("tests", "lint", "expected"), [("0", "0", 0), ("0", "1", 1), ("1", "0", 1), ("5", "1", 5)]
)
def test_exit_code_of_the_tests(clone, tests, lint, expected):
    status, calls, _ = clone.start("test", FAKE_STATUS=tests, FAKE_LINT_STATUS=lint)
    assert status == expected
    assert calls[-4:-1] == ["ruff", "ruff", "mypy"] and " -m pytest " in calls[-1]


def test_slow_tests_on_demand_only(clone):
    assert clone.start("test")[1][-1].endswith("-m pytest -q -n 2 --dist loadfile -m not slow")
    assert clone.start("test", "-x", "--slow", "tests/a")[1][-1].endswith(
        "-m pytest -q -n 2 --dist loadfile -x tests/a"
    )


def test_ci_calls_exactly_tools_test():
    commands = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if not line.startswith("#")]
    assert len(commands) == 1 and commands[0].endswith("exec ./tools/test")


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
