"""The parts of an evaluation: running attacks, checks, verdict, gate, groups, comparison, evidence.

    from fairat_tf import eval_lib
    result = eval_lib.evaluate(logits_fn, images, labels, class_names, attacks=("clean", "pgd20"))

`fairat_tf.eval_lib` puts them together; each module here can be read and tested alone.
"""
