"""The benchmark: specifications of cases, turns of the workers, ratios, and one run from end to end."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as main
from benchmarks import tables
from benchmarks.cases import Case, method_and_options
from benchmarks.timing import Timing, measure

ROOT = Path(__file__).resolve().parent.parent


class Machine:
    """Stands for the workers: every case takes the seconds that were put into its name."""

    def __init__(self):
        self.cases, self.runs = [], []

    def ask(self, side, **command):
        if "make" in command:
            if command["make"]["what"] == "art":
                return {"error": "no such library"}
            self.cases.append(command["make"]["name"])
            return {"made": len(self.cases) - 1, "seconds": 9.0}
        name = self.cases[command["run"]]
        self.runs.append(name)
        return {"wall": 2 * float(name) * len(self.runs), "cpu": float(name)}


def test_method_specifications():
    assert method_and_options("pgd_at") == ("pgd_at", {})
    name, options = method_and_options(
        "fairat+hard_score=start+awp_gamma=0.005+hard_reattack=false+hard_group=8"
    )
    assert name == "fairat"
    assert options == {"hard_score": "start", "awp_gamma": 0.005, "hard_reattack": False, "hard_group": 8}
    assert type(options["hard_group"]) is int


def test_cases_take_turns_and_the_warm_up_is_not_counted():
    machine = Machine()
    timings = measure(machine, [Case("1"), Case("3"), Case("x", what="art")], rounds=2, warm_up=1)
    assert machine.runs == ["1", "3"] * 3
    assert timings["1"].cpu == [1.0, 1.0] and timings["3"].wall == [24.0, 36.0]
    assert timings["1"].first == 9.0
    assert timings["x"].error == "no such library" and not timings["x"].wall


def test_ratios_are_taken_within_a_round():
    one, other = Timing(Case("a"), wall=[2.0, 40.0, 6.0]), Timing(Case("b"), wall=[1.0, 10.0, 2.0])
    assert one.against(other) == pytest.approx((3.0, 2.5, 3.5))
    assert one.seconds() == pytest.approx((6.0, 4.0, 23.0))


def test_table_shows_ratios_and_what_did_not_run():
    timings = {
        "a": Timing(Case("a"), wall=[1.0, 1.0], cpu=[2.0, 2.0]),
        "b": Timing(Case("b"), wall=[1.5, 1.5], cpu=[1.0, 1.0]),
        "c": Timing(Case("c"), error="no module"),
    }
    lines = tables.times(timings, "a").splitlines()
    assert lines[0] == "| case | wall, s | processor, s | wall / a | processor / a |"
    assert lines[3].endswith("| 1.50 (1.50 to 1.50) | 0.50 (0.50 to 0.50) |")
    assert "no module" in lines[4]
    assert len({line.count("|") for line in lines}) == 1


def test_a_case_survives_json():
    case = Case("n", width=8, folded=False)
    assert Case(**dataclasses.asdict(case)) == case and case.but(batch=2).batch == 2


def test_the_peers_step_is_made_of_the_best_of_its_parts():
    """The attack is most of a step: its own compilation counts, and its layout is timed if the two differ."""
    attack, trained = Case("a", compiled=True), Case("p", what="pass", folded=False)
    (step,) = main._steps_of_peer(attack, trained)
    assert (step.what, step.folded, step.compiled, step.compiled_attack) == ("step", True, False, True)
    both = main._steps_of_peer(attack, trained.but(channels_last=False))
    assert [case.channels_last for case in both] == [True, False]
    assert all(case.name.endswith(", step") for case in both) and len({case.name for case in both}) == 2


def printed(arguments):
    """Returns what the benchmark prints."""
    command = [sys.executable, "-m", "benchmarks", *arguments.split(), "--precision=float32"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_replicas_grow_in_processes_of_their_own():
    arguments = "growth replicas --network=small_cnn --width=2 --batch=4 --steps=1 --rounds=2"
    found = printed(arguments)
    rows = [line.split("|")[1:] for line in found.splitlines() if line.startswith("| replicas")]
    assert len(rows) == 2 and all(float(row[1].split()[0]) > 0 for row in rows)


@pytest.mark.slow
def test_methods_from_end_to_end():
    arguments = (
        "methods standard pgd_at no_such_method --network=small_cnn --width=2 --batch=4 --steps=1 --rounds=2"
    )
    found = printed(arguments)
    rows = [line for line in found.splitlines() if line.startswith("| ")]
    assert len(rows) == 5 and "wall / standard" in rows[0]
    assert "1.00 (1.00 to 1.00)" in rows[2] and "no_such_method" in rows[4]


@pytest.mark.parametrize("name", ["small_cnn", "preact_resnet18", "wrn_10_2"])
def test_the_peer_has_the_same_network(name):
    torch = pytest.importorskip("torch")
    from benchmarks.torch_networks import network_of
    from fairat_tf import networks

    peer, ours = network_of(name, 4, 10), networks.get(name)(num_classes=10, width=4)
    assert sum(p.numel() for p in peer.parameters()) == sum(
        np.prod(v.shape) for v in ours.trainable_variables
    )
    images = torch.rand(2, 3, 32, 32)
    peer.eval()
    for norm in [m for m in peer.modules() if isinstance(m, torch.nn.BatchNorm2d)]:
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 1.5)
    torch.testing.assert_close(peer.folded(images, peer.fold(torch.float32)), peer(images))


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
