"""The command line of training: help, parsing, ranges, flag files."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from fairat_tf import config, flags_lib, methods
from fairat_tf.config import Config
from fairat_tf.units import parse_fraction

ROOT = Path(__file__).resolve().parent.parent


def parsed(*words):
    argv = ["train", *words]
    command = flags_lib.training_command(argv)
    return flags_lib.config_from(command.flags) if command.flags(argv) else None


def run(*words, timeout=120):
    command = [sys.executable, "-m", "fairat_tf.train", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout)


def test_help_is_grouped_quick_and_exits_0():
    quickest = float("inf")
    for _ in range(3):
        began = time.monotonic()
        result = run("--help")
        quickest = min(quickest, time.monotonic() - began)
        assert result.returncode == 0
    assert quickest < 1.0
    for title in ("Method:", "Data:", "Network:", "Threat model", "Optimisation:", "Run:"):
        assert title in result.stdout
    assert "--epsilon" in result.stdout and "tensorflow" not in result.stderr.lower()


def test_help_needs_no_tensorflow():
    code = "import sys; from fairat_tf import train; sys.argv = ['train', '--help']; code = train.run(); "
    code += "print('tensorflow' in sys.modules, 'keras' in sys.modules); sys.exit(code)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout.splitlines()[-1] == "False False", result.stderr[-2000:]


def test_help_may_be_read_by_half():
    command = f"{sys.executable} -m fairat_tf.train --help | head -1"
    result = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.stdout.startswith("Trains") and result.stderr == ""


@pytest.mark.parametrize("default", [8 / 255, 2 / 255, 0.2, 5 / 6, 0.1, 0.0005, 1 / 7, 0.123456789])
def test_defaults_are_shown_as_people_write_them(default):
    shown = {8 / 255: "8/255", 2 / 255: "2/255", 5 / 6: "5/6", 1 / 7: "1/7"}.get(default, str(default))
    assert flags_lib._fraction(default) == shown and parse_fraction(shown) == default


def test_norm_l2_takes_a_radius_from_a_flag_file(tmp_path):
    (tmp_path / "a.flags").write_text("--epsilon=128/255")
    assert parsed(f"--flagfile={tmp_path}/a.flags", "--norm=l2").attack.epsilon == 128 / 255


@pytest.mark.parametrize("name", methods.names())
def test_help_of_a_method_shows_its_own_flags(name):
    argv = ["train", f"--method={name}", "--help"]
    text = flags_lib.training_command(argv).help_text()
    import dataclasses

    for field in dataclasses.fields(methods.get(name).Options):
        assert f"--{field.name}" in text or f"--[no]{field.name}" in text


def test_defaults_are_those_of_the_configuration():
    assert parsed() == Config()


def test_fractions_and_decimals_are_both_read():
    assert parsed("--epsilon=8/255").attack.epsilon == 8 / 255
    assert parsed("--epsilon=0.0314").attack.epsilon == 0.0314


def test_method_options_are_read_and_checked():
    got = parsed("--hard_fraction=0.25", "--nohard_reattack", "--augmentation=cutout:8")
    assert (got.options["hard_fraction"], got.options["hard_reattack"]) == (0.25, False)
    with pytest.raises(ValueError, match=r"hard_fraction must be in \(0, 1\]; received 0.0"):
        parsed("--hard_fraction=0")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--epochz=3"], "epochz"),
        (["--epochs=three"], "epochs"),
        (["--epochs=0"], "epochs must be in [1, inf); received 0"),
        (["--epsilon=-1/255"], "epsilon must be in"),
        (["--epsilon=8/0"], "8/0"),
        (["--batch_size=0"], "batch_size must be in"),
        (["--method=fairrat"], "Did you mean 'fairat'?"),
        (["--norm=l7"], "norm"),
        (["cifar10"], "cifar10"),
        (["--method=pgd_at", "--hard_fraction=0.5"], "hard_fraction"),
        (["--hard_score=magic"], "hard_score"),
    ],
    ids=str,
)
def test_wrong_usage_is_one_line_and_exit_code_2(words, told):
    result = run(*words)
    assert result.returncode == 2, result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("fairat_tf:") and told in last
    assert "Traceback" not in result.stderr


def test_flags_text_of_a_configuration_reads_back(tmp_path):
    wanted = parsed("--dataset=svhn", "--hard_fraction=0.25", "--learning_rate=0.02", "--nodownload")
    (tmp_path / "flags.txt").write_text(wanted.to_flags())
    assert parsed(f"--flagfile={tmp_path / 'flags.txt'}") == wanted


@pytest.mark.parametrize("path", sorted((ROOT / "flags").glob("*.flags")), ids=lambda p: p.name)
def test_every_flag_file_parses_to_names_that_exist(path):
    got = parsed(f"--flagfile={path}")
    assert got.method in methods.names()
    assert config.Config.from_json(got.to_json()) == got


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
