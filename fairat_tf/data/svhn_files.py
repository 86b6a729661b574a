"""SVHN from its authors' own files: `train_32x32.mat` and `test_32x32.mat` (the extra file is not needed).

    data = load_svhn(Request("svhn", data_dir="/data/svhn"))

In the files `X` is uint8 [32, 32, 3, N] and `y` [N, 1], where label 10 stands for the digit 0.
"""

import pathlib

import numpy as np

from fairat_tf.data import specs, tfds_source
from fairat_tf.data.dataset import DataError, Dataset, Split
from fairat_tf.data.sources import Request


def load_svhn(request: Request) -> Dataset:
    """Returns SVHN from the .mat files in `request.data_dir` if one is there, else from TFDS.

    Raises:
      DataError: one of the two files is missing, or not in SVHN's format.
    """
    files = specs.SPECS["svhn"].files
    folder = pathlib.Path(request.data_dir)
    if not request.data_dir or not any((folder / file).is_file() for file in files):
        return tfds_source.load_tfds(request)
    for file in files:
        if not (folder / file).is_file():
            raise DataError(f"{request.name}: {folder} lacks {file}; both {' and '.join(files)} are needed.")
    train, test = (_read(folder / file, request.image_size) for file in files)
    return Dataset(request.name, specs.SPECS["svhn"].class_names, train, test)


def _read(path: pathlib.Path, image_size: int) -> Split:
    import scipy.io

    from fairat_tf.data.images import resize

    try:
        content = scipy.io.loadmat(path, variable_names=["X", "y"])
        pixels, labels = content["X"], content["y"].astype(np.int32).reshape(-1)
    except KeyError as error:
        raise DataError(f"{path}: has no array {error}; expected X [32, 32, 3, N] and y [N, 1].") from error
    except Exception as error:
        raise DataError(
            f"{path}: not a readable .mat file ({type(error).__name__}); fetch it again."
        ) from error
    if pixels.ndim != 4 or pixels.shape[:3] != (32, 32, 3) or pixels.dtype != np.uint8:
        shape = f"{pixels.dtype} {list(pixels.shape)}"
        raise DataError(f"{path}: expected X uint8 [32, 32, 3, N], received {shape}.")
    if ((labels < 1) | (labels > 10)).any():
        raise DataError(f"{path}: labels must be in [1, 10] (10 is digit 0), received up to {labels.max()}.")
    images = np.ascontiguousarray(pixels.transpose(3, 0, 1, 2))
    if image_size and len(images):
        images = np.stack([resize(image, image_size) for image in images])
    return Split(images, labels % 10)
