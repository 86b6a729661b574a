"""Two worker processes train what one trains; a lost, stopped or killed one ends all clearly."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fairat_tf import errors, workers
from fairat_tf.workers import Cluster, Team

ROOT = Path(__file__).resolve().parent.parent
SMALL = [
    "--method=fairat", "--hard_score=memory", "--augmentation=crop", "--network=small_cnn", "--width=4",
    "--batch_size=16", "--attack_steps=1", "--validation_steps=1", "--epochs=3", "--ema_decay=0.9",
    "--weak_augmentation=crop", "--evaluate=", "--notensorboard", "--checkpoint_minutes=0",
]  # fmt: skip


def free_ports(count):
    """Returns ports that nobody has, below those that the system gives to whoever asks for any."""
    ports = []
    for port in random.SystemRandom().sample(range(12000, 32000), 100):
        with socket.socket() as own, contextlib.suppress(OSError):
            own.bind(("", port))
            ports.append(port)
        if len(ports) == count:
            return ports
    raise AssertionError("no free ports")


def tf_config(ports, index):
    workers = [f"127.0.0.1:{port}" for port in ports]
    return json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "tiny.npz"
    labels, generator = np.arange(140) % 3, np.random.default_rng(0)
    images = generator.integers(0, 200, (140, 8, 8, 3)).astype(np.uint8)
    images[:, :4, :4] += (25 * labels)[:, None, None, None].astype(np.uint8)
    np.savez(path, train_images=images, train_labels=labels, test_images=images[:9], test_labels=labels[:9])
    return path


def start(data, run, *words, config=None, cwd=ROOT):
    command = [sys.executable, "-m", "fairat_tf.train", *SMALL, f"--dataset=npz:{data}", f"--run_dir={run}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | ({"TF_CONFIG": config} if config else {})
    return subprocess.Popen(
        [*command, *words],
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def start_two(data, run, *words):
    ports = free_ports(2)
    return [start(data, run, *words, config=tf_config(ports, index)) for index in range(2)]


def ended(processes, timeout=400):
    """Returns (exit code, stderr) of each process."""
    texts = [process.communicate(timeout=timeout)[1] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, texts, strict=True)]


def wait_for(condition, processes, seconds=400):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until and all(process.poll() is None for process in processes)
        time.sleep(0.005)


def checkpoints(run):
    return sorted(folder.name for folder in (run / "checkpoints").glob("step-*"))


def ending(run):
    """Returns (variables of the last checkpoint, the text logs)."""
    with np.load(run / "checkpoints" / checkpoints(run)[-1] / "variables.npz") as saved:
        variables = {name: saved[name] for name in saved.files if name.startswith("v")}
    return variables, [(run / name).read_text() for name in ("metrics.jsonl", "classwise.csv")]


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "two"
    for code, stderr in ended(start_two(data, run)):
        assert code == 0, stderr[-3000:]
    return run


@pytest.mark.timeout(900)
def test_two_workers_give_the_result_of_one_process(data, undisturbed, tmp_path):
    alone = start(data, tmp_path / "one")
    (result,) = ended([alone])
    assert result[0] == 0, result[1][-3000:]
    one, two = ending(tmp_path / "one"), ending(undisturbed)
    sums = {name.partition("-")[0] for name in two[0] if "-" in name}  # each replica's own part of a sum
    assert len(sums) > 5
    for name, value in one[0].items():
        parts = [v for n, v in two[0].items() if n.partition("-")[0] == name]
        total = sum(part.astype(np.float64) for part in parts) if name in sums else parts[0]
        np.testing.assert_allclose(total, value, rtol=1e-4, atol=1e-5, err_msg=name)
    rows = [[json.loads(line) for line in logs[0].splitlines()] for _, logs in (one, two)]
    for a, b in zip(*rows, strict=True):
        assert a.keys() == b.keys()
        np.testing.assert_allclose([*a.values()], [*b.values()], atol=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_worker_ends_the_other_and_both_resume_to_the_undisturbed_end(data, undisturbed, tmp_path):
    run = tmp_path / "run"
    two = start_two(data, run)
    wait_for(lambda: len(checkpoints(run)) > 1, two)
    two[1].send_signal(signal.SIGKILL)
    (code, stderr), _ = ended(two, timeout=120)
    assert code == 75 and "worker 1 (127.0.0.1:" in stderr and "is gone" in stderr, stderr[-2000:]
    last = checkpoints(run)[-1]
    two = start_two(data, run)
    assert "Worker 1 of 2" in two[1].stdout.readline()  # from here on it listens to signals
    two[1].send_signal(signal.SIGTERM)  # one is asked to stop: all save and stop at the same step
    stopped = ended(two)
    assert [code for code, _ in stopped] == [75, 75], stopped
    assert all("SIGTERM: training is saved" in stderr for _, stderr in stopped)
    assert checkpoints(run)[-1] >= last
    for code, stderr in ended(start_two(data, run)):
        assert code == 0, stderr[-3000:]
    (expected, logs), (variables, own_logs) = ending(undisturbed), ending(run)
    assert expected.keys() == variables.keys() and logs == own_logs
    for name, value in expected.items():
        np.testing.assert_array_equal(value, variables[name], err_msg=name)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_directory_that_the_chief_refuses_ends_all_workers_with_its_code(data, tmp_path):
    (tmp_path / "config.json").write_text('{"something": "else"}')
    chief, other = ended(start_two(data, tmp_path), timeout=200)
    assert chief[0] == other[0] == errors.StorageError.exit_code, (chief, other)
    assert "choose another --run_dir" in chief[1] and "worker 0 refused" in other[1]
    assert "Traceback" not in other[1]


def test_only_a_port_that_refuses_is_a_process_that_ended(monkeypatch):
    """A name that is not found at the moment is a slow network: it waits for --worker_timeout."""

    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # nobody else has the port, and nobody listens at it
        cluster = Cluster((f"127.0.0.1:{deaf.getsockname()[1]}", "no-such-host.invalid:1"), 0)
        assert cluster.answers(0) is False
    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", unknown)
        assert cluster.answers(1) is None
    ends, asked = [], []

    def answers(index, seconds):
        asked.append(index)
        return None if len(asked) < 8 else False

    monkeypatch.setattr(workers, "_POLL_SECONDS", 0.05)
    monkeypatch.setattr(workers, "_GONE_SECONDS", 0.1)
    monkeypatch.setattr(workers.Watch, "_end", lambda self, index: (ends.append(len(asked)), self.stop()))
    monkeypatch.setattr(Cluster, "answers", lambda self, *given: answers(*given))
    watch = workers.Watch(cluster, 60.0)
    watch.settled()
    watch._ended.wait(10)
    assert ends and ends[0] >= 8


def test_a_worker_that_never_comes_is_named():
    cluster = Cluster(tuple(f"127.0.0.1:{port}" for port in free_ports(3)), 1)
    with pytest.raises(
        errors.WorkerMissing, match=r"worker 0 .*, worker 2 .* did not come within 0.1 s"
    ) as lost:
        cluster.gather(0.1)
    assert lost.value.exit_code == 75


@pytest.mark.slow
def test_a_worker_that_never_comes_ends_the_program(data, tmp_path):
    ports = free_ports(2)
    began = time.monotonic()
    process = start(data, tmp_path / "run", "--worker_timeout=1", config=tf_config(ports, 0))
    ((code, stderr),) = ended([process])
    assert code == 75 and f"worker 1 (127.0.0.1:{ports[1]}) did not come within 1 s" in stderr, stderr
    assert "Traceback" not in stderr and time.monotonic() - began < 100
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_workers_with_different_flags_end_with_2(data, tmp_path):
    ports = free_ports(2)
    two = [start(data, tmp_path / "run", f"--seed={i}", config=tf_config(ports, i)) for i in range(2)]
    for code, stderr in ended(two):
        assert code == 2 and "the workers do not have the same flags" in stderr, stderr[-2000:]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_workers_with_different_images_end_with_2(data, tmp_path):
    ports, other = free_ports(2), tmp_path / "tiny.npz"
    with np.load(data) as whole:
        arrays = dict(whole)
    arrays["train_images"][5, 0, 0, 0] ^= 1
    np.savez(other, **arrays)
    two = []
    for index, source in enumerate((data, other)):
        home = tmp_path / str(index)
        home.mkdir()
        (home / "link.npz").symlink_to(source)
        two.append(start("link.npz", tmp_path / "run", config=tf_config(ports, index), cwd=home))
    for code, stderr in ended(two):
        assert code == 2 and "the workers do not have the same training images" in stderr, stderr[-2000:]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_dry_run_of_two_workers_ends_both(data, tmp_path):
    two = start_two(data, tmp_path / "run", "--dry_run")
    assert [code for code, _ in ended(two)] == [0, 0] and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "TF_CONFIG cannot be used"),
        ('{"cluster": {"worker": ["a:1", "b:2"]}}', "expected like"),
        (tf_config([1, 2], 2), "the index one of them"),
        ('{"cluster": {"worker": ["a:1", "b"]}, "task": {"type": "worker", "index": 0}}', "cannot be used"),
        (
            '{"cluster": {"worker": ["a:1"], "ps": ["b:2"]}, "task": {"type": "worker", "index": 0}}',
            "chief or",
        ),
    ],
    ids=str,
)
def test_a_configuration_that_cannot_be_used_is_refused(monkeypatch, text, told):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match=told):
        Cluster.from_environment()


def test_the_chief_comes_first_and_one_worker_is_no_cluster(monkeypatch):
    jobs = {"chief": ["c:1"], "worker": ["a:2", "b:3"]}
    task = {"type": "worker", "index": 1}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": jobs, "task": task}))
    assert Cluster.from_environment() == Cluster(("c:1", "a:2", "b:3"), 2)
    monkeypatch.setenv("TF_CONFIG", tf_config([1], 0))
    assert Cluster.from_environment() is None
    monkeypatch.delenv("TF_CONFIG")
    assert Cluster.from_environment() is None


def test_waiting_hears_a_signal_and_a_port_in_use_is_told():
    ports = free_ports(2)
    cluster = Cluster(tuple(f"127.0.0.1:{port}" for port in ports), 0)
    with pytest.raises(errors.Interrupted, match="SIGTERM: nothing was trained yet"):
        cluster.gather(60, stopping=lambda: "SIGTERM")
    with socket.socket() as other:
        other.bind(("", ports[0]))
        other.listen()
        with pytest.raises(errors.StorageError, match=f"port {ports[0]} of worker 0"):
            cluster.gather(60)


def test_one_process_is_a_team_that_agrees_with_itself(mirrored):
    team = Team(mirrored)
    assert team.agree("SIGTERM", True, False) == ("SIGTERM", True, False)
    assert team.chief and team.count == 1 and team.local_replicas == 2
    np.testing.assert_array_equal(team.total([1, 2.5]), [2, 5])
    team.same("flags", 2**63 + 12345)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
