"""`python -m fairat_tf.evaluate`: is any class left unprotected?

    python -m fairat_tf.evaluate --model=runs/a --dataset=cifar10 --epsilon=8/255 --examples=1000

Exit codes: 0 done; 2 wrong usage; 3 data; 4 a gate is missed; 5 the attack cannot be believed; 7 storage;
75 stopped, the same command goes on.
"""

import dataclasses
import itertools
import shlex
import sys
from pathlib import Path
from typing import Any

from absl import flags

from fairat_tf import cli, errors

COMMAND = cli.Command(
    "evaluate",
    "Class-wise robust accuracy of a trained classifier: intervals, a verdict on the attack, a page to read.",
    example=(
        "python -m fairat_tf.evaluate --model=runs/a --dataset=cifar10 --examples=1000 \\\n"
        "  --attacks=clean,fgsm,pgd20,cw20,autoattack --gate='autoattack.worst_class>=0.25'"
    ),
)
_f: dict[str, Any] = {"flag_values": COMMAND.flags}

with COMMAND.group("Model"):
    flags.DEFINE_string(
        "model", None, "Run directory, .keras, SavedModel or module:function.", required=True, **_f
    )
    flags.DEFINE_enum("outputs", "logits", ["logits", "softmax"], "softmax: recover the logits.", **_f)
    flags.DEFINE_list(
        "input_range", ["0", "1"], "What the model takes for black and white: 0,255 or -1,1.", **_f
    )
    flags.DEFINE_string("endpoint", "", "Of a SavedModel; found if not given.", **_f)
    flags.DEFINE_bool("trust", False, "Run a SavedModel that holds file or Python operations.", **_f)
with COMMAND.group("Data"):
    flags.DEFINE_string(
        "dataset", None, "A name, folder:PATH or npz:PATH, as for training.", required=True, **_f
    )
    flags.DEFINE_enum(
        "split",
        "test",
        ["train", "validation", "test"],
        "Which examples; as the run divided them.",
        **_f,
    )
    flags.DEFINE_string("data_dir", "", "Folder of original or prepared files.", **_f)
    flags.DEFINE_bool("download", False, "Allow the network.", **_f)
    flags.DEFINE_integer("image_size", 0, "Resize to this height and width; 0 keeps.", lower_bound=0, **_f)
    flags.DEFINE_integer(
        "examples", 0, "How many, the same number of each class; 0: all.", lower_bound=0, **_f
    )
    flags.DEFINE_string("group_by", "label", "label, or a group column of the data.", **_f)
with COMMAND.group("Attacks"):
    flags.DEFINE_list("attacks", ["clean", "fgsm", "pgd20", "cw20"], "Names; autoattack is the suite.", **_f)
    cli.DEFINE_fraction(
        "epsilon", "8/255", "Radius, in pixels of [0, 1]; with --norm=l2 to be given.", upper_bound=None, **_f
    )
    flags.DEFINE_enum("norm", "linf", ["linf", "l2"], "Norm of the radius.", **_f)
    flags.DEFINE_integer("batch_size", 128, "Examples at a time.", lower_bound=1, **_f)
    flags.DEFINE_integer("seed", 0, "Of random starts, drawing and the bootstrap.", lower_bound=0, **_f)
    cli.DEFINE_duration("budget", None, "Time to spend, such as 30m; AutoAttack gets what is left.", **_f)
with COMMAND.group("Judgement"):
    flags.DEFINE_enum(
        "checks", "full", ["none", "quick", "full"], "How hard the verdict is looked for.", **_f
    )
    flags.DEFINE_multi_string(
        "gate", [], "Required bound, such as pgd20.worst_class>=0.25; may be repeated.", **_f
    )
    cli.DEFINE_fraction(
        "confidence", "0.95", "Of the interval whose end a gate is judged on.", 0.5, 0.9999, **_f
    )
    flags.DEFINE_string("baseline", "", "Directory of another evaluation, for rho.", **_f)
with COMMAND.group("Results"):
    flags.DEFINE_string(
        "output_dir",
        "",
        "Where results go; MODEL/evaluation for a run directory, evaluation-2 if that has other settings.",
        **_f,
    )
    flags.DEFINE_bool("save_examples", False, "Keep the adversarial images; see fairat_tf.verify.", **_f)
    flags.DEFINE_bool("progress", True, "Show progress on stderr.", **_f)


def main(values: flags.FlagValues, arguments: list[str]) -> None:
    """Evaluates as the flags say, prints the table and raises what the exit code is to be."""
    wanted = _request(values)
    from fairat_tf import model_files
    from fairat_tf.evaluation import gate, running
    from fairat_tf.reporting import console
    from fairat_tf.run_directory import BY_TRAINING, RunDirectory

    model_files.find(Path(values.model))
    gates = tuple(gate.parse(text) for text in values.gate)
    request = running.Request(**wanted, gates=gates)
    first = request.output_dir
    with cli.stop_on_signals("the same command goes on from here"):
        for number in itertools.count(2):
            try:
                with RunDirectory(request.output_dir) as folder:
                    result = running.run(request)
                    (folder / BY_TRAINING).unlink(missing_ok=True)
                break
            except errors.OtherSettings:
                if values.output_dir:
                    raise
                request = dataclasses.replace(request, output_dir=f"{first}-{number}")
    print(console.classwise_table(result))
    print(f"\nreport: {Path(request.output_dir) / 'report.html'}")
    _raise_for(result)


def _request(values: flags.FlagValues) -> dict[str, Any]:
    names = (
        "model dataset split data_dir download image_size outputs endpoint trust epsilon norm examples "
        "batch_size seed group_by confidence checks budget baseline save_examples progress"
    )
    chosen = {name: values[name].value for name in names.split()}
    cli.check_radius(values)
    if values.norm == "linf" and values.epsilon > 1.0:
        raise errors.UsageError(
            "epsilon must be in [0, 1] where norm is linf, as pixels are (8/255, not 8); "
            f"got {values.epsilon:g}"
        )
    attacks = tuple(name.strip() for name in values.attacks if name.strip())
    output_dir = values.output_dir or _default_output(str(chosen["model"]))
    command = shlex.join(["python", "-m", "fairat_tf.evaluate", *sys.argv[1:]])
    return chosen | {
        "command": command,
        "attacks": attacks,
        "input_range": cli.number_pair(values.input_range, "input_range"),
        "output_dir": output_dir,
    }


def _default_output(model: str) -> str:
    path = Path(model)
    if (path / "config.json").is_file():  # what training evaluates at its end lies in "evaluation"
        ended = (path / "MODEL_CARD.md").is_file()
        return str(path / ("evaluation" if ended else "evaluation-early"))
    file = path.is_file()  # else a folder, or module:function, whose dots are part of the name
    return str(Path("evaluation") / (path.stem if file else path.name.replace(":", ".")))


def _raise_for(result: dict[str, Any]) -> None:
    verdict = result["verdict"]
    failed = [check["name"] for check in verdict["checks"] if check["outcome"] == "fail"]
    if verdict["status"] == "unreliable":
        raise errors.Unreliable(
            f"the evaluation is not reliable ({', '.join(failed)}); see the report's checks"
        )
    missed = [row["message"] for row in result["gates"] if not row["passed"]]
    if missed:
        raise errors.GateFailed("gate missed: " + "; ".join(missed))


def run(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    return COMMAND.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
