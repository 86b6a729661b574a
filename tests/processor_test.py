"""When TensorFlow is told to use oneDNN, and that it then does."""

import os
import subprocess
import sys

import pytest

from fairat_tf import processor


@pytest.fixture
def unset(monkeypatch):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("processor : 0\nflags\t\t: fpu sse4_2 avx avx2 fma\n", "1"),
        ("processor : 0\nflags\t\t: fpu avx2 avx512f avx512_vnni\n", "1"),
        ("processor : 0\nflags\t\t: fpu sse4_2 avx\n", ""),
        ("processor : 0\nFeatures : fp asimd bf16\n", ""),
        ("", ""),
    ],
)
def test_where_the_processor_has_avx2(text, told, unset, monkeypatch):
    monkeypatch.setattr(processor.Path, "read_text", lambda path: text)
    processor.use_onednn()
    assert processor.onednn() == told


def test_what_the_user_says_stands(monkeypatch):
    monkeypatch.setattr(processor, "features", lambda: {"avx2"})
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    processor.use_onednn()
    assert processor.onednn() == "0"


@pytest.mark.parametrize(("variable", "enabled"), [({}, "True"), ({"TF_ENABLE_ONEDNN_OPTS": "0"}, "False")])
def test_tensorflow_follows(variable, enabled):
    if "avx2" not in processor.features():
        pytest.skip("no x86 processor with AVX2")
    program = (
        "from fairat_tf import quiet; quiet.import_tensorflow();"
        "from tensorflow.python.util import _pywrap_util_port as port; print(port.IsMklEnabled())"
    )
    clean = {key: value for key, value in os.environ.items() if key != "TF_ENABLE_ONEDNN_OPTS"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=clean | variable, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-1] == enabled


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
