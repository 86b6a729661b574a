#!/usr/bin/env python3
"""Compares `fairat_tf`'s AutoAttack with the authors' PyTorch suite, on the same networks and images.

    git clone https://github.com/fra31/auto-attack /tmp/official          # at a392200
    python3 -m venv /tmp/torch && /tmp/torch/bin/pip install torch numpy
    python tools/compare_with_official.py --official=/tmp/official --torch_python=/tmp/torch/bin/python \
        --data_dir=~/tensorflow_datasets --work=/tmp/agreement --stages=traces,fab,square,suite,time

For development only: the official package is not part of this repository and is read from where the flag
says. TensorFlow and PyTorch run in processes of their own and exchange .npz files in --work. Each stage
prints its figures and adds them to results.json in --work.
"""

import argparse
import json
import os
import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
sys.path[:0] = [str(TOOLS), str(TOOLS.parent)]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
NAMES = "traces,fab,square,suite,time,passes"


def main() -> None:
    """Runs the stages asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--official", required=True, help="folder that holds the package autoattack")
    parser.add_argument("--torch_python", default=sys.executable, help="a Python that has PyTorch")
    parser.add_argument("--data_dir", default=None, help="TFDS directory that holds CIFAR-10")
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for weights, exchange files and results.json"
    )
    parser.add_argument("--stages", default=NAMES, help=f"which of {NAMES},freeze")
    parser.add_argument("--examples", type=int, default=64, help="examples of the stages traces and fab")
    parser.add_argument("--suite_examples", type=int, default=1000, help="examples of the stage suite")
    parser.add_argument("--time_examples", type=int, default=48, help="examples of the stage time")
    parser.add_argument("--time_batch", type=int, default=48, help="batch size of both in the stage time")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count(), help="threads of an operation, for both"
    )
    parser.add_argument("--width", type=int, default=8, help="width of the network of the stage time")
    parser.add_argument("--networks", default="plain,adversarially trained,gradient-masked")
    parser.add_argument(
        "--repeat", action="store_true", help="suite: run the official one with a second seed"
    )
    parser.add_argument("--norms", default="linf,l2", help="norms of the stage suite")
    flags = parser.parse_args()
    flags.work.mkdir(parents=True, exist_ok=True)
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(flags.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    from agreement import stages, whole_suite

    table = {"traces": stages.traces, "fab": stages.fab, "square": stages.square, "freeze": stages.freeze}
    table |= {"suite": whole_suite.suite, "time": whole_suite.timing, "passes": whole_suite.passes}
    kept = flags.work / "results.json"
    results = json.loads(kept.read_text()) if kept.exists() else {}
    for stage in flags.stages.split(","):
        results[stage] = table[stage](flags)
        kept.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
