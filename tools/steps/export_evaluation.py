"""The evaluation of a run as XLA programs for `evaluate.py`: one for each attack of its --evaluate.

    facts, constants, test = write(folder, parts)

FOLDER gets `evaluate-clean.hlo`, `evaluate-pgd20.hlo` and so on: pixels, labels and number of a batch, then
the weights of the network -> predictions, and where the attack's image was finite. They are what training
does at its end (`fairat_tf.final_evaluation`): the same examples, batches, random draws, float32.
"""

from pathlib import Path
from typing import Any

import numpy as np


def refusal(config: Any) -> str:
    """Returns why the attacks of a run cannot be programs; "" if they can."""
    from fairat_tf import final_evaluation

    if "autoattack" in final_evaluation.attack_names(config):
        return "evaluate: autoattack is no single program; evaluate the network that collect makes with it"
    return ""


def write(folder: Path, parts: Any) -> tuple[dict[str, Any], dict[str, np.ndarray], Any]:
    """Writes the programs.

    Returns:
      (what `program.json` says of them, the constants that they take, the evaluated test examples).
    """
    import keras

    from fairat_tf import final_evaluation, model_files
    from fairat_tf.evaluation import summary

    test, config = final_evaluation.sample(parts), parts.config
    network = model_files.in_float32(keras.models.clone_model(parts.method.evaluated_network))
    weights = {variable.value.handle._id: str(i) for i, variable in enumerate(network.variables)}
    names = ("clean", *final_evaluation.attack_names(config)) if config.run.evaluate else ()
    programs, constants = {}, {}
    for name in names:
        programs[name], own = _write(folder, name, network, weights, parts, test)
        constants |= own
    digest = summary.fingerprint(test.images, test.labels)
    facts = {
        "programs": programs,
        "batch_size": min(final_evaluation.BATCH_SIZE, len(test)),
        "epsilon": config.attack.epsilon,
        "norm": config.attack.norm,
        "seed": final_evaluation.SEED,
        "class_names": list(parts.dataset.class_names),
        "dataset": {"name": config.data.dataset, "split": "test", "fingerprint": digest},
        "parameters": int(network.count_params()),
    }
    return facts, constants, test


def _write(
    folder: Path, name: str, network: Any, weights: dict[Any, str], parts: Any, test: Any
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Writes the program of one attack; returns what is said of it, and its constants."""
    import tensorflow as tf

    from fairat_tf import attacks, final_evaluation, rng
    from fairat_tf.evaluation import attacking
    from fairat_tf.networks.folding import prepared

    threat = parts.config.attack
    attack = None if name == "clean" else attacks.get(name)(epsilon=threat.epsilon, norm=threat.norm)
    size = min(final_evaluation.BATCH_SIZE, len(test))
    arguments = [
        tf.zeros([size, *test.images.shape[1:]], tf.uint8), tf.zeros([size], tf.int32), tf.zeros([], tf.int32)
    ]  # fmt: skip

    @tf.function(jit_compile=True, autograph=False)
    def judged(pixels: tf.Tensor, labels: tf.Tensor, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        logits_fn = prepared(network)
        images = tf.cast(pixels, tf.float32) / 255.0
        seed = rng.key(final_evaluation.SEED, f"evaluate/{name}", number)
        step = attacking.judging(logits_fn, attack, threat.epsilon, threat.norm)
        predictions, _, finite = step(images, labels, seed)
        return predictions, finite

    captured, constants = [], {}
    for tensor in judged.get_concrete_function(*arguments).captured_inputs:
        if tensor.dtype == "resource":
            captured.append(weights[tensor._id])
        else:
            captured.append(f"{name}-{len(constants):03d}")
            constants[captured[-1]] = np.asarray(tensor)
    program = judged.experimental_get_compiler_ir(*arguments)
    (folder / f"evaluate-{name}.hlo").write_bytes(program(stage="hlo_serialized"))
    return {"captured": captured}, constants
