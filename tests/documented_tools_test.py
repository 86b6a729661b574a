"""The documentation's commands that start a program of their own: `./tools/*`, the self-test, a download.

They are started as they stand, in a copy of the repository; flags behind them, of which the last ones count,
make them cheap. FAIRAT_TF_TORCH_PYTHON names a Python with requirements-benchmark.txt for those with a peer,
FAIRAT_TF_AUTOATTACK the folder of the authors' AutoAttack.
"""

import functools
import gzip
import hashlib
import http.server
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import threading

import numpy as np
import pytest

from tests.documented import ALL, PAGES, ROOT, blocks, command_of, main_of, title

TRAINING = (
    "--width=2 --batch_size=8 --attack_steps=1 --validation_steps=1 --validation_fraction=0.2 --epochs=1"
)
TRAINING += " --limit_train=40 --evaluate_examples=10 --nodownload --notensorboard"
ADDED = {  # a tool, or a tool and its first argument -> flags behind its commands
    "quickstart": TRAINING,
    "study": TRAINING + " --only=pgd_at,fairat",  # tests/studies parses the flags of all
    "checkpoint_cost": TRAINING,
    "crash_test": "--kills=2",
    "benchmark": "--network=small_cnn --width=2 --batch=4 --steps=1 --rounds=1 --precision=float32",
    "run_step export": "--network=small_cnn --width=2 --batch_size=500 --attack_steps=1 --limit_train=1000"
    " --evaluate_examples=100",
}
PROGRAMS = ("quickstart", "study", "checkpoint_cost", "crash_test", "test", "benchmark")
OFFICIAL = "--examples=4 --suite_examples=10 --time_examples=4 --time_batch=4 --width=4"
AUTOATTACK = os.environ.get("FAIRAT_TF_AUTOATTACK", "")
TORCH_PYTHON = os.environ.get("FAIRAT_TF_TORCH_PYTHON", "")
LINES = {" ".join(words): words for _, words in ALL if words[0].startswith("./tools/")}
LINES.pop("./tools/test")  # it is what runs this file


def of(*tools):
    return [words for words in LINES.values() if words[0].removeprefix("./tools/") in tools]


def sh_lines_of(program):
    """Returns the commands of the pages that begin with `program`."""
    lines = [line for page in PAGES for body in blocks(page, "sh") for line in body.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith(f"{program} ")]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the repository, with the .venv of this one."""
    if not (ROOT / ".venv/bin/python").exists():
        pytest.skip("the tools' .venv is not made")
    folder = tmp_path_factory.mktemp("clone") / "a clone"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no git repository to copy")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


def small(words, data):
    """Returns the command with DIR and the peer's Python filled in, and the flags that make it cheap."""
    tool = words[0].removeprefix("./tools/")
    more = ADDED.get(tool) or ADDED.get(" ".join([tool, *words[1:2]]), "")
    filled = [re.sub(r"(?<==)DIR\b", str(data), word) for word in words]
    filled = [re.sub(r"^--keep=", "--keep=new/", word) for word in filled]  # to train, nothing is kept there
    return [re.sub(r"(--torch_python=).*", rf"\1{TORCH_PYTHON}", word) for word in filled] + more.split()


def started(words, folder):
    """Runs a command in `folder`; returns its output."""
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_every_tool_of_the_pages_is_started_by_a_test():
    assert len(LINES) == len(of(*PROGRAMS, "run_step")) > 20
    assert sh_lines_of("tensorboard")


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("words", of(*PROGRAMS), ids=title)
def test_tools_as_documented(words, checkout, originals):
    if any(word.startswith("--torch_python=") for word in words) and not TORCH_PYTHON:
        pytest.skip("FAIRAT_TF_TORCH_PYTHON names no Python with requirements-benchmark.txt")
    said = started(small(words, originals), checkout)
    if words[0] == "./tools/study":
        assert "| variant" in said and "| minus " in said


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_step_elsewhere_as_documented(checkout, tfds_cifar10, monkeypatch):
    monkeypatch.setenv("STEP_PYTHON", sys.executable)
    for words in of("run_step"):
        started(small(words, tfds_cifar10), checkout)
    assert (checkout / "network.keras").is_file()


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_selftest_as_documented(checkout):
    (words,) = [words for _, words in ALL if words[2:] == ["fairat_tf.selftest"]]
    assert "judged rightly" in started([str(checkout / ".venv/bin/python"), *words[1:]], checkout)


def comparisons():
    """Returns the commands of the page on the agreement with the authors' AutoAttack."""
    text = (ROOT / "docs/results/autoattack_agreement.md").read_text().replace("\\\n", " ")
    return [shlex.split(line) for line in re.findall(r"^python (tools/compare.*)$", text, re.M)]


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.skipif(not (AUTOATTACK and TORCH_PYTHON), reason="FAIRAT_TF_AUTOATTACK or _TORCH_PYTHON not set")
def test_the_comparison_with_the_authors_as_documented(checkout, tfds_cifar10, tmp_path):
    places = {
        "<auto-attack>": AUTOATTACK,
        "<torch-python>": TORCH_PYTHON,
        "<tfds>": tfds_cifar10,
        "<folder>": tmp_path,
    }
    assert len(comparisons()) == 3
    for words in comparisons():
        filled = [functools.reduce(lambda w, p: w.replace(p, str(places[p])), places, word) for word in words]
        started([str(checkout / ".venv/bin/python"), *filled, *OFFICIAL.split()], checkout)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("words", sh_lines_of("tensorboard"), ids=title)
def test_tensorboard_as_documented(words, tmp_path):
    program = [sys.executable, "-m", "tensorboard.main", *words[1:], "--port=0"]
    with subprocess.Popen(program, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        said = next((line for line in process.stderr if "http://" in line), "")
        process.terminate()
    assert "TensorBoard" in said


# ---- a download -------------------------------------------------------------------------------------------


def idx_files(folder, train=200, test=50):
    """Writes Fashion-MNIST's four files, small: images whose brightness tells the class."""
    for name, size in (("train", train), ("t10k", test)):
        labels = np.arange(size, dtype=np.uint8) % 10
        images = np.broadcast_to(25 * labels[:, None, None], (size, 28, 28))
        body = struct.pack(">IIII", 0x803, size, 28, 28) + images.tobytes()
        (folder / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(body))
        body = struct.pack(">II", 0x801, size) + labels.tobytes()
        (folder / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(body))


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Fashion-MNIST's files on a server of this machine, in place of their own."""
    from tensorflow_datasets.core.download import checksums
    from tensorflow_datasets.image_classification import mnist

    folder = tmp_path / "served"
    folder.mkdir()
    idx_files(folder)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    known = {
        address + path.name: checksums.UrlInfo(
            size=path.stat().st_size,
            checksum=hashlib.sha256(path.read_bytes()).hexdigest(),
            filename=path.name,
        )
        for path in folder.iterdir()
    }
    monkeypatch.setattr(mnist.FashionMNIST, "URL", address)
    monkeypatch.setattr(mnist.FashionMNIST, "url_infos", known)
    monkeypatch.setattr(mnist, "_TRAIN_EXAMPLES", 200)
    monkeypatch.setattr(mnist, "_TEST_EXAMPLES", 50)
    yield
    server.shutdown()


def test_a_download_as_documented(served, tmp_path, monkeypatch, capsys):
    (words,) = [words for _, words in ALL if "--download" in words]
    argv = [*words[2:], f"--data_dir={tmp_path / 'tfds'}"]
    monkeypatch.chdir(tmp_path)
    code = command_of("data", argv).run(main_of("fairat_tf.data"), argv)
    shown = capsys.readouterr()
    assert code == 0, shown.err[-2000:]
    assert "10 classes, images 28x28x1" in shown.out and "Ankle boot" in shown.out


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
