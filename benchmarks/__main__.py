"""Command line of the benchmark: `./tools/benchmark KIND ... --flag=value`; `--help` lists all.

peer      training step and attack against the PyTorch peer at the best of its own settings (swept first)
gain      attack and training pass against calling the network itself
methods   the training step of methods relative to the first one, PGD-AT
growth    how the step grows with batch, width, steps, classes, replicas, one at a time
memory    the largest resident size of a process that trains
start     --help, import, first step; how often the step is traced
input     images a second of the input pipeline

Cases take turns; what is printed is median and quartiles over the rounds. Wall time is what counts on a quiet
machine; processor time (all threads) is less disturbed by other work. A ratio is taken within each round.
"""

import argparse
import platform
import sys

from benchmarks import start, tables
from benchmarks.cases import Case
from benchmarks.timing import Timing, Workers, measure, peak_memory

GROWTH = {
    "batch": (32, 64, 128, 256),
    "width": (8, 16, 32, 64),
    "steps": (1, 5, 10, 20),
    "classes": (10, 100, 1000),
    "replicas": (1, 2),
}
LIBRARIES = {"cleverhans": "tensorflow", "foolbox": "torch", "art": "torch"}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "benchmark", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("kind", choices=("peer", "gain", "methods", "growth", "memory", "start", "input"))
    parser.add_argument(
        "names", nargs="*", help="methods: pgd_at fairat+hard_score=start; growth: what grows"
    )
    parser.add_argument("--network", default="preact_resnet18")
    parser.add_argument("--width", type=int, default=0, help="0: the network's own")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10, help="of PGD")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--precision", default="float32,bfloat16", help="one or both, with a comma")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=0, help="0: all")
    parser.add_argument("--torch_python", default="", help="Python with requirements-benchmark.txt installed")
    parser.add_argument("--nosweep", action="store_true", help="peer: channels-last, folded, not compiled")
    return parser.parse_args()


def _case(wanted: argparse.Namespace, name: str, precision: str) -> Case:
    return Case(
        name,
        network=wanted.network,
        width=wanted.width,
        batch=wanted.batch,
        steps=wanted.steps,
        classes=wanted.classes,
        precision=precision,
        threads=wanted.threads,
    )


def _show(title: str, text: str) -> None:
    print(f"\n{title}\n\n{text}", flush=True)


def methods(workers: Workers, wanted: argparse.Namespace, precision: str) -> None:
    """Prints the price of each method relative to the first."""
    names = wanted.names or ["pgd_at", "fairat", "fairat+hard_score=start", "fairat+hard_score=memory"]
    cases = [_case(wanted, name, precision).but(method=name) for name in names]
    _show(f"Training step, {precision}", tables.times(measure(workers, cases, wanted.rounds), names[0]))


def gain(workers: Workers, wanted: argparse.Namespace, precision: str) -> None:
    """Prints what the prepared network and the faster training pass bring."""
    for what in ("attack", "pass"):
        ours = _case(wanted, what, precision).but(what=what)
        timings = measure(workers, [ours, ours.but(name=f"{what}, plain", folded=False)], wanted.rounds)
        _show(f"{what}, {precision}: above 1 is slower than ours", tables.times(timings, what))


def growth(workers: Workers, wanted: argparse.Namespace, precision: str) -> None:
    """Prints PGD-AT's step as one thing grows."""
    for what in wanted.names or GROWTH:
        cases = [_case(wanted, f"{what} {n}", precision).but(**{what: n}) for n in GROWTH[what]]
        timings = measure(workers, cases, wanted.rounds) if what != "replicas" else {}
        for case in cases if what == "replicas" else ():  # the number of devices is a process's for good
            timings |= measure(workers, [case], wanted.rounds)
            workers.stop()
        _show(f"Growth with {what}, {precision}", tables.times(timings, cases[0].name))
        workers.stop()


def peer(workers: Workers, wanted: argparse.Namespace, precision: str) -> None:
    """Prints the sweep of the peer's settings, then ours against its best, and other libraries' PGD."""
    best = {what: _best_of_peer(workers, wanted, precision, what) for what in ("attack", "pass")}
    ours = [_case(wanted, f"ours, {what}", precision).but(what=what) for what in ("attack", "pass", "step")]
    theirs = [best["attack"].but(name="peer, attack"), best["pass"].but(name="peer, pass")]
    theirs += _steps_of_peer(best["attack"], best["pass"])
    others = [
        _case(wanted, name, precision).but(what=name, side=side)
        for name, side in LIBRARIES.items()
        if precision == "float32"
    ]
    timings = measure(workers, [*ours, *theirs, *others], wanted.rounds)
    for what in ("attack", "pass", "step"):
        pair = {name: t for name, t in timings.items() if name.endswith(f", {what}")}
        if what == "attack":
            pair |= {case.name: timings[case.name] for case in others}
        _show(f"{what}, {precision}: above 1 is slower than ours", tables.times(pair, f"ours, {what}"))


def _steps_of_peer(attack: Case, trained: Case) -> list[Case]:
    """Returns the peer's step with the best settings of its two parts, in the layout of each of them."""
    settings = {"folded": attack.folded, "compiled_attack": attack.compiled}
    steps = [trained.but(what="step", channels_last=last, **settings) for last in (True, False)]
    layouts = {attack.channels_last, trained.channels_last}
    return [
        step.but(name=f"peer{'' if step.channels_last else ', contiguous'}, step")
        for step in steps
        if step.channels_last in layouts
    ]


def _best_of_peer(workers: Workers, wanted: argparse.Namespace, precision: str, what: str) -> Case:
    """Returns the peer's fastest case: layouts and foldings first, then the best of them compiled."""
    base = _case(wanted, "", precision).but(side="torch", what=what)
    if wanted.nosweep:
        return _named(base)
    foldings = (True, False) if what == "attack" else (False,)
    cases = [_named(base.but(channels_last=last, folded=fold)) for last in (True, False) for fold in foldings]
    rounds = max(2, wanted.rounds // 3)
    timings = measure(workers, cases, rounds)
    best = min((t for t in timings.values() if t.cpu), key=_median).case
    workers.stop()
    last = measure(workers, [best, _named(best.but(compiled=True))], rounds)
    first, again = timings[cases[0].name], last.pop(best.name)
    _show(f"Settings of the peer, {what}, {precision}", tables.times(timings, first.case.name))
    _show("The best of them compiled", tables.times({best.name: again, **last}, best.name))
    workers.stop()
    return min((t for t in (again, *last.values()) if t.cpu), key=_median).case


def _named(case: Case) -> Case:
    words = ["channels last" if case.channels_last else "contiguous"]
    words += ["folded"] * (case.folded and case.what == "attack") + ["compiled"] * case.compiled
    return case.but(name=", ".join(words))


def _median(timing: Timing) -> float:
    return timing.seconds("cpu")[0]


def memory(workers: Workers, wanted: argparse.Namespace, precision: str) -> None:
    """Prints the peak memory of a training step, of our methods and of the peer."""
    cases = [_case(wanted, n, precision).but(method=n) for n in wanted.names or ["pgd_at", "fairat"]]
    if "torch" in workers.pythons:
        cases.append(_case(wanted, "peer", precision).but(side="torch"))
    rows = [[case.name, *peak_memory(workers, case)] for case in cases]
    heads = ["case", "MiB", "after the imports alone"]
    _show(f"Largest resident size, {precision}", tables.table(heads, rows))


def main() -> None:
    """Runs what the command line asks for."""
    wanted = _arguments()
    pythons = {"tensorflow": sys.executable} | ({"torch": wanted.torch_python} if wanted.torch_python else {})
    if wanted.kind == "peer" and not wanted.torch_python:
        sys.exit("benchmark: peer needs --torch_python, a Python with requirements-benchmark.txt installed")
    print(f"{platform.machine()}, {start.processor()}, {start.cores()} cores; {' '.join(sys.argv[1:])}")
    if wanted.kind in ("start", "input"):
        getattr(start, wanted.kind)(wanted)
        return
    kinds = {"peer": peer, "gain": gain, "methods": methods, "growth": growth, "memory": memory}
    for precision in wanted.precision.split(","):
        with Workers(pythons) as workers:
            kinds[wanted.kind](workers, wanted, precision)


if __name__ == "__main__":
    main()
