"""Group columns as sources find them (text, booleans, integers) turned into integers and their names.

columns, names = coded({"train": np.array(["old", "young"]), "test": np.array(["young"])}, "my.npz age")
columns["test"], names          # array([1]), ("old", "young")
"""

from collections.abc import Mapping

import numpy as np

from fairat_tf.data.dataset import NO_YES, DataError


def coded(columns: Mapping[str, np.ndarray], where: str) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Returns the column in every split as int64 [N], and the names of its values 0, 1, ...

    Args:
      columns: split -> text, booleans or integers, [N] or [N, 1].
      where: what the column is, for messages.

    Returns:
      Text becomes its place among the sorted texts of all splits, which are the names; booleans are named
      "no" and "yes"; integers stay as they are, without names.

    Raises:
      DataError: another kind of values, or not the same kind in all splits.
    """
    kinds = {values.dtype.kind for values in columns.values()}
    for split, values in columns.items():
        if values.dtype.kind not in "iubU" or values.ndim == 0 or values.size != len(values):
            kind = f"{values.dtype} {list(values.shape)}"
            raise DataError(f"{where}, {split}: expected text or integers [N], one for each image, "
                            f"received {kind}.")  # fmt: skip
    if "U" in kinds and len(kinds) > 1:
        raise DataError(f"{where}: text in one split and numbers in another; give the same in all.")
    flat = {split: values.reshape(-1) for split, values in columns.items()}
    if "U" in kinds:
        texts = np.unique(np.concatenate(list(flat.values())))
        places = {split: np.searchsorted(texts, values) for split, values in flat.items()}
        return _integers(places), tuple(str(text) for text in texts)
    return _integers(flat), NO_YES if kinds == {"b"} else ()


def _integers(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {split: values.astype(np.int64) for split, values in columns.items()}
