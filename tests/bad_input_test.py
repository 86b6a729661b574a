"""Bad input to train, evaluate and data ends in one clear line, the right exit code, and nothing overwritten.

Each case is a line of a table: name, flags, exit code, words of the message. In the flags {shelf} is a
directory of unusable files and {run} the run directory; where {run} exists it is a finished run, and every
byte of it has to stay. All in one process; tests/train_test.py starts the program for a few more.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import scipy.io
from PIL import Image

from fairat_tf import evaluate, train
from fairat_tf.data import __main__ as data_command
from tests import support

USAGE, DATA, STORAGE = 2, 3, 7
SMALL = [
    "--network=small_cnn", "--width=4", "--batch_size=16", "--attack_steps=1", "--validation_steps=1",
    "--epochs=1", "--validation_fraction=0.2", "--nodownload", "--notensorboard", "--evaluate=",
]  # fmt: skip
GOOD = "--dataset=npz:{shelf}/good.npz"
FAIR = ["--method=fair_ard"]
RUN = [*SMALL, GOOD, "--method=pgd_at", "--run_dir={run}"]


# ---- the shelf -------------------------------------------------------------------------------------


def arrays(**changes):
    """Returns what a good .npz file holds, 60 images of three classes, with some arrays changed."""
    labels = np.arange(60) % 3
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3)).astype(np.uint8)
    whole = {"train_images": images, "train_labels": labels, "test_images": images[:12]}
    kept = whole | {"test_labels": labels[:12]} | changes
    return {name: value for name, value in kept.items() if value is not None}


def floats(value):
    images = arrays()["train_images"] / np.float32(255)
    images[7, 2, 2, 1] = value
    return images


def npz_files():
    good = arrays()
    images, labels = good["train_images"], good["train_labels"]
    return {
        "good": {},
        "more": {"train_labels": np.arange(60) % 4, "test_labels": np.arange(12) % 4},
        "nan": {"train_images": floats(np.nan)},
        "infinite": {"train_images": floats(np.inf)},
        "bright": {"train_images": floats(255.0)},
        "dark": {"train_images": floats(-0.5)},
        "int64": {"train_images": images.astype(np.int64)},
        "flat": {"train_images": images.reshape(60, -1)},
        "alpha": {"train_images": np.concatenate([images, images[..., :1]], -1)},
        "no_labels": {"train_labels": None},
        "float_labels": {"train_labels": labels / 2},
        "negative": {"train_labels": labels - 1},
        "too_high": {"class_names": np.array(["a", "b"])},
        "test_too_high": {"test_labels": np.arange(12) % 5},
        "fewer_labels": {"train_labels": labels[:50]},
        "one_class": {"train_labels": labels * 0, "test_labels": labels[:12] * 0},
        "empty_class": {"train_labels": labels // 2 * 2},
        "same_names": {"class_names": np.array(["a", "b", "a"])},
        "no_examples": {"train_images": images[:0], "train_labels": labels[:0]},
        "no_test": {"test_images": images[:0], "test_labels": labels[:0]},
        "test_size": {"test_images": images[:12, :6, :6]},
        "groups": {"train_groups_age": np.arange(59)},
        "objects": {"train_labels": np.array([{}] * 60)},
        "one_each": {"train_images": images[:3], "train_labels": labels[:3]},
    }


def write_image(path, size=8, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def write_folders(shelf):
    names = ("empty", "corrupt", "text", "cut", "sizes", "classes", "gif")
    for name in names:
        for kind, i in np.ndindex(2, 8):
            write_image(shelf / name / "train" / "ab"[kind] / f"{i}.png", seed=i)
    (shelf / "empty/train/c").mkdir()
    (shelf / "corrupt/train/a/9.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    (shelf / "text/train/a/9.jpg").write_text("this is no picture")
    whole = (shelf / "cut/train/a/0.png").read_bytes()
    (shelf / "cut/train/a/0.png").write_bytes(whole[: len(whole) // 2])
    write_image(shelf / "sizes/train/b/9.png", size=9)
    write_image(shelf / "classes/test/a/0.png")
    write_image(shelf / "gif/train/a/9.gif")
    (shelf / "gif/train/a/9.gif").rename(shelf / "gif/train/a/9.png")
    (shelf / "bare").mkdir()
    for i in range(8):
        write_image(shelf / "alone/train/a" / f"{i}.png")


def write_originals(shelf):
    for name, label in (("svhn", 11), ("svhn_cut", 1)):
        (shelf / name).mkdir()
        pixels = np.zeros((32, 32, 3, 20), np.uint8)
        for split in ("train", "test"):
            scipy.io.savemat(shelf / name / f"{split}_32x32.mat", {"X": pixels, "y": np.full((20, 1), label)})
    path = shelf / "svhn_cut/train_32x32.mat"
    path.write_bytes(path.read_bytes()[:900])
    (shelf / "cifar/cifar-10-batches-bin").mkdir(parents=True)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (shelf / f"cifar/cifar-10-batches-bin/{name}.bin").write_bytes(bytes(3073 * 4 - 5))
    (shelf / "cifar_tar").mkdir()
    (shelf / "cifar_tar/cifar-10-binary.tar.gz").write_bytes(b"\x1f\x8b" + bytes(80))


def write_models(shelf):
    network = support.tiny_network(classes=3)
    network.save(shelf / "good.keras")
    support.tiny_network(classes=5).save(shelf / "five.keras")
    support.tiny_network(classes=3, shape=(12, 12, 3)).save(shelf / "large.keras")
    probabilities = keras.layers.Softmax()(network.output)
    keras.Model(network.input, probabilities).save(shelf / "softmax.keras")
    network.set_weights([weights * np.nan for weights in network.get_weights()])
    network.save(shelf / "nan.keras")
    (shelf / "damaged.keras").write_bytes((shelf / "good.keras").read_bytes()[:500])
    (shelf / "old.h5").write_bytes(b"\x89HDF\r\n\x1a\n")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shelf")
    for name, changes in npz_files().items():
        np.savez(folder / f"{name}.npz", **arrays(**changes))
    (folder / "text.npz").write_text("no archive")
    (folder / "cut.npz").write_bytes((folder / "good.npz").read_bytes()[:700])
    np.save(folder / "single.npy", np.zeros(3))
    (folder / "single.npz").write_bytes((folder / "single.npy").read_bytes())
    (folder / "bytes.flags").write_bytes(b"\xff\xfe--seed=1")
    write_folders(folder)
    write_originals(folder)
    write_models(folder)
    return folder


# ---- how a command is run and judged ------------------------------------------------------------------


def snapshot(folder):
    """Returns path -> content of all files below, without locks."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "lock")
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def filled(words, shelf, run):
    return [word.replace("{shelf}", str(shelf)).replace("{run}", str(run)) for word in words]


def run_train(words, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train", *words])
    return train.run()


def judge(code, stderr, expected, told):
    """Holds: this exit code, and one line on standard error with these words and an end."""
    lines = [line.rpartition("\r")[2] for line in stderr.rstrip("\n").split("\n")]  # a bar ends with \r
    assert code == expected, stderr[-3000:]
    assert len(lines) == 1, stderr[-3000:]
    assert lines[0].startswith("fairat_tf: ") and told in lines[0], lines[0]
    assert len(lines[0]) < 1000, lines[0]


TRAIN = [
    # flags that are wrong by themselves
    ("no flag file", ["--flagfile={shelf}/none.flags"], USAGE, "none.flags"),
    ("flag file that is no text", ["--flagfile={shelf}/bytes.flags"], USAGE, "decode"),
    ("bare dataset word", ["svhn"], USAGE, "expected flags only"),
    ("validation_fraction 0", ["--validation_fraction=0"], USAGE, "(0, 0.9]"),
    ("validation_fraction 1", ["--validation_fraction=1"], USAGE, "(0, 0.9]"),
    ("negative limit", ["--limit_train=-5"], USAGE, "limit_train"),
    ("negative width", ["--width=-2"], USAGE, "width"),
    ("negative image size", ["--image_size=-8"], USAGE, "image_size"),
    ("negative seed", ["--seed=-1"], USAGE, "seed"),
    ("epsilon in 0 to 255", ["--epsilon=8"], USAGE, "8/255, not 8"),
    ("epsilon not a number", ["--epsilon=nan"], USAGE, "nan"),
    ("attack steps 0", ["--attack_steps=0"], USAGE, "attack_steps must be in [1, inf)"),
    ("attack steps 2.5", ["--attack_steps=2.5"], USAGE, "attack_steps"),
    ("negative step size", ["--attack_step_size=-1/255"], USAGE, "attack_step_size"),
    ("validation steps 0", ["--validation_steps=0"], USAGE, "validation_steps"),
    ("learning rate 0", ["--learning_rate=0"], USAGE, "(0, inf)"),
    ("learning rate infinite", ["--learning_rate=inf"], USAGE, "finite"),
    ("momentum 1", ["--momentum=1"], USAGE, "[0, 1)"),
    ("negative weight decay", ["--weight_decay=-1e-4"], USAGE, "weight_decay"),
    ("ema_decay 1", ["--ema_decay=1"], USAGE, "[0, 1)"),
    ("label smoothing above 1", ["--label_smoothing=1.5"], USAGE, "[0, 1]"),
    ("float16", ["--precision=float16"], USAGE, "precision"),
    ("boolean with a value", ["--resume=perhaps"], USAGE, "resume"),
    ("hard_fraction 2", ["--hard_fraction=2"], USAGE, "(0, 1]"),
    ("negative warm-up", ["--hard_warmup_epochs=-1"], USAGE, "hard_warmup_epochs"),
    ("negative beta", ["--method=trades", "--beta=-1"], USAGE, "beta"),
    # names and values that show when the parts are made
    ("nesterov without momentum", [GOOD, "--nesterov", "--momentum=0"], USAGE, "momentum above 0"),
    ("too much smoothing", [GOOD, "--label_smoothing=0.6", "--class_label_smoothing=0.6"], USAGE, "0.6"),
    ("two weights, three classes", [GOOD, "--class_weights=1,2"], USAGE, "class_weights must be 3"),
    ("class weights that are words", [GOOD, "--class_weights=many"], USAGE, "'many'"),
    ("drops that go back", [GOOD, "--schedule=piecewise:0.9,0.5"], USAGE, "ascending"),
    ("rise above 1", [GOOD, "--schedule=one_cycle:1.5"], USAGE, "(0, 1)"),
    ("schedule's argument a word", [GOOD, "--schedule=piecewise:soon"], USAGE, "piecewise"),
    ("mixing as augmentation", [GOOD, "--augmentation=cutmix"], USAGE, "mixes two examples"),
    ("too many arguments", [GOOD, "--augmentation=randaugment:1,2,3,4,5,6"], USAGE, "randaugment"),
    ("unknown weak augmentation", [GOOD, "--weak_augmentation=crop+swirl"], USAGE, "swirl"),
    ("network without that depth", [GOOD, "--network=wrn_27_10"], USAGE, "27"),
    ("unknown attack at the end", [GOOD, "--evaluate=clean,pdg20"], USAGE, "Unknown attack 'pdg20'"),
    ("zero devices", [GOOD, "--devices=0"], USAGE, "devices must be 1 to"),
    ("XLA on two devices", [GOOD, "--devices=2", "--jit_compile"], USAGE, "needs --devices=1"),
    ("batch that two devices cannot share", [GOOD, "--devices=2", "--batch_size=15"], USAGE, "multiple"),
    ("batch larger than the data", [GOOD, "--batch_size=61"], USAGE, "smaller batch or more data"),
    ("unknown validation metric", [GOOD, "--select=robust_accuracy+joy"], USAGE, "joy"),
    ("weights of another network", [GOOD, "--init_from={shelf}/five.keras"], USAGE, "other weights"),
    ("weights from a damaged file", [GOOD, "--init_from={shelf}/damaged.keras"], USAGE, "not a .keras file"),
    ("weights from an .h5 file", [GOOD, "--init_from={shelf}/old.h5"], USAGE, ".h5 is refused"),
    ("weights from an empty directory", [GOOD, "--init_from={shelf}/bare"], USAGE, "holds no model"),
    ("no teacher", [GOOD, "--method=rslad"], USAGE, "give --teacher=PATH"),
    ("teacher that is not there", [GOOD, "--method=absld", "--teacher={shelf}/no"], USAGE, "is not found"),
    ("teacher of five classes", [GOOD, *FAIR, "--teacher={shelf}/five.keras"], USAGE, "knows 5 classes"),
    ("teacher of larger images", [GOOD, *FAIR, "--teacher={shelf}/large.keras"], USAGE, "takes images [12"),
    ("teacher with a softmax", [GOOD, *FAIR, "--teacher={shelf}/softmax.keras"], USAGE, "probabilities"),
    ("teacher that gives NaN", [GOOD, *FAIR, "--teacher={shelf}/nan.keras"], USAGE, "NaN"),
    # data
    ("unknown data set", ["--dataset=cifar11"], USAGE, "Did you mean 'cifar10'?"),
    ("folder without a path", ["--dataset=folder:"], DATA, "no folder"),
    ("no such folder", ["--dataset=folder:{shelf}/none"], DATA, "no folder"),
    ("folder that is a file", ["--dataset=folder:{shelf}/good.npz"], DATA, "no folder"),
    ("folder without classes", ["--dataset=folder:{shelf}/bare"], DATA, "no sub-folder"),
    ("folder of one class", ["--dataset=folder:{shelf}/alone"], DATA, "at least two classes"),
    ("folder with an empty class", ["--dataset=folder:{shelf}/empty"], DATA, "no .png"),
    ("corrupt PNG", ["--dataset=folder:{shelf}/corrupt"], DATA, "corrupt/train/a/9.png"),
    ("PNG cut short", ["--dataset=folder:{shelf}/cut"], DATA, "cut/train/a/0.png"),
    ("text called JPEG", ["--dataset=folder:{shelf}/text"], DATA, "9.jpg"),
    ("GIF called PNG", ["--dataset=folder:{shelf}/gif"], DATA, "no readable PNG or JPEG"),
    ("images of different sizes", ["--dataset=folder:{shelf}/sizes"], DATA, "give --image_size"),
    ("test with other classes", ["--dataset=folder:{shelf}/classes"], DATA, "same classes"),
    ("no such npz", ["--dataset=npz:{shelf}/none.npz"], DATA, "no file"),
    ("text called npz", ["--dataset=npz:{shelf}/text.npz"], DATA, "text.npz"),
    ("npz cut short", ["--dataset=npz:{shelf}/cut.npz"], DATA, "write it again"),
    ("single array", ["--dataset=npz:{shelf}/single.npz"], DATA, "single .npy"),
    ("pickled objects", ["--dataset=npz:{shelf}/objects.npz"], DATA, "pickled"),
    ("labels missing", ["--dataset=npz:{shelf}/no_labels.npz"], DATA, "lacks train_labels"),
    ("pixels not a number", ["--dataset=npz:{shelf}/nan.npz"], DATA, "image 7 are not finite"),
    ("pixels infinite", ["--dataset=npz:{shelf}/infinite.npz"], DATA, "not finite"),
    ("pixels above 1", ["--dataset=npz:{shelf}/bright.npz"], DATA, "[0, 1]"),
    ("pixels below 0", ["--dataset=npz:{shelf}/dark.npz"], DATA, "[-0.5, 1]"),
    ("pixels int64", ["--dataset=npz:{shelf}/int64.npz"], DATA, "int64"),
    ("images without height and width", ["--dataset=npz:{shelf}/flat.npz"], DATA, "[60, 192]"),
    ("four channels", ["--dataset=npz:{shelf}/alpha.npz"], DATA, "[60, 8, 8, 4]"),
    ("labels 0.5", ["--dataset=npz:{shelf}/float_labels.npz"], DATA, "expected integers"),
    ("label -1", ["--dataset=npz:{shelf}/negative.npz"], DATA, "has -1"),
    ("label without a name", ["--dataset=npz:{shelf}/too_high.npz"], DATA, "labels must be in [0, 2)"),
    ("test label out of range", ["--dataset=npz:{shelf}/test_too_high.npz"], DATA, "must be in [0, 3)"),
    ("fewer labels than images", ["--dataset=npz:{shelf}/fewer_labels.npz"], DATA, "60 images but 50 labels"),
    ("one class", ["--dataset=npz:{shelf}/one_class.npz"], DATA, "at least two classes"),
    ("class without examples", ["--dataset=npz:{shelf}/empty_class.npz"], DATA, "no example of class 1"),
    ("two classes of one name", ["--dataset=npz:{shelf}/same_names.npz"], DATA, "a is used twice"),
    ("no training examples", ["--dataset=npz:{shelf}/no_examples.npz"], DATA, "no_examples.npz"),
    ("no test examples", ["--dataset=npz:{shelf}/no_test.npz"], DATA, "no examples"),
    ("test images of another size", ["--dataset=npz:{shelf}/test_size.npz"], DATA, "[6, 6, 3]"),
    ("group column too short", ["--dataset=npz:{shelf}/groups.npz"], DATA, "'age'"),
    ("nothing to validate on", ["--dataset=npz:{shelf}/one_each.npz", "--batch_size=2"], DATA, "validation"),
    ("limit below the classes", [GOOD, "--limit_train=2"], DATA, "no example of class"),
    ("SVHN label 11", ["--dataset=svhn", "--data_dir={shelf}/svhn"], DATA, "up to 11"),
    ("SVHN file cut short", ["--dataset=svhn", "--data_dir={shelf}/svhn_cut"], DATA, "fetch it again"),
    ("CIFAR file cut short", ["--dataset=cifar10", "--data_dir={shelf}/cifar"], DATA, "multiple of 3073"),
    ("CIFAR archive damaged", ["--dataset=cifar10", "--data_dir={shelf}/cifar_tar"], DATA, "not a readable"),
    # the run directory
    ("run directory that is a file", [GOOD, "--run_dir={shelf}/text.npz"], STORAGE, "File exists"),
    ("run directory below a file", [GOOD, "--run_dir={shelf}/text.npz/run"], STORAGE, "Not a directory"),
    ("name too long", [GOOD, "--run_dir={run}/" + 300 * "x"], STORAGE, "too long"),
]  # fmt: skip


def test_there_are_enough_cases():
    names = [name for name, *_ in TRAIN + EVALUATE + DATA_COMMAND]
    assert len(names) == len(set(names)) and len(names) >= 60


@pytest.mark.parametrize(("words", "code", "told"), [c[1:] for c in TRAIN], ids=[c[0] for c in TRAIN])
def test_train(words, code, told, shelf, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = snapshot(shelf)
    words = [*SMALL, "--run_dir={run}", *words]
    judge(run_train(filled(words, shelf, tmp_path / "run"), monkeypatch), capsys.readouterr().err, code, told)
    assert snapshot(tmp_path) == {} and snapshot(shelf) == before


# ---- a run directory that holds something -------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(shelf, tmp_path_factory):
    """A finished run of one epoch."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        words = [*RUN, "--checkpoint_minutes=0"]
        assert run_train(filled(words, shelf, folder), patch) == 0
    return folder


def damaged(run):
    for folder in (run / "checkpoints").iterdir():
        content = bytearray((folder / "variables.npz").read_bytes())
        content[len(content) // 2] ^= 1
        (folder / "variables.npz").write_bytes(content)


def without_manifests(run):
    for folder in (run / "checkpoints").iterdir():
        (folder / "manifest.json").unlink()


def unreadable(run):
    (run / "config.json").write_text('{"data": {"dataset": ')


def of_another_version(run):
    (run / "config.json").write_text('{"dataset": "svhn"}')


def untouched(run):
    pass


OCCUPIED = [
    ("another seed", untouched, ["--seed=3"], "seed: 0 there, 3 asked for"),
    ("another method", untouched, ["--method=fairat"], "method: 'pgd_at' there, 'fairat' asked for"),
    ("another epsilon", untouched, ["--epsilon=4/255"], "epsilon"),
    ("more epochs", untouched, ["--epochs=2"], "epochs: 1 there, 2 asked for"),
    ("configuration cut short", unreadable, [], "config.json"),
    ("configuration of another version", of_another_version, [], "not a configuration of this version"),
    ("a bit changed in every checkpoint", damaged, [], "damaged checkpoints only"),
    ("anew in the same directory", untouched, ["--noresume"], "holds a run already"),
    ("checkpoints not finished", without_manifests, [], "damaged checkpoints only"),
]


@pytest.mark.parametrize(("change", "words", "told"), [c[1:] for c in OCCUPIED], ids=[c[0] for c in OCCUPIED])
def test_a_run_is_never_overwritten(change, words, told, finished, shelf, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    change(run)
    before = snapshot(run)
    code = run_train(filled([*RUN, *words], shelf, run), monkeypatch)
    judge(code, capsys.readouterr().err, STORAGE, told)
    assert snapshot(run) == before


def test_data_that_has_changed_since(finished, shelf, tmp_path, monkeypatch, capsys):
    shutil.copytree(finished, tmp_path / "run")
    written = (tmp_path / "run/config.json").read_text()
    moved = written.replace(str(shelf / "good.npz"), str(tmp_path / "data.npz"))
    (tmp_path / "run/config.json").write_text(moved)
    shutil.copy(shelf / "more.npz", tmp_path / "data.npz")
    before = snapshot(tmp_path)
    words = [*filled(RUN, shelf, tmp_path / "run"), f"--dataset=npz:{tmp_path}/data.npz"]
    judge(run_train(words, monkeypatch), capsys.readouterr().err, STORAGE, "does not fit this run")
    assert snapshot(tmp_path) == before


def test_a_run_directory_in_use(finished, shelf, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    before = snapshot(run)
    with open(run / "lock", "a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        code = run_train(filled(RUN, shelf, run), monkeypatch)
    judge(code, capsys.readouterr().err, STORAGE, "in use by another process")
    assert snapshot(run) == before


# ---- no space on the disk -----------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 7], ids=["with the first file", "within a checkpoint"])
def test_no_space_left(after, shelf, tmp_path, monkeypatch, capsys):
    real, calls = os.fsync, []

    def refuse(descriptor):
        calls.append(descriptor)
        if len(calls) > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    words = filled(RUN, shelf, tmp_path / "run")
    monkeypatch.setattr(os, "fsync", refuse)
    judge(run_train(words, monkeypatch), capsys.readouterr().err, STORAGE, "No space left on device")
    assert len(calls) == after + 1
    monkeypatch.setattr(os, "fsync", real)
    assert not after or run_train(words, monkeypatch) == 0, "the same command goes on once there is space"


@contextlib.contextmanager
def small_disk(folder, kilobytes):
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("a small disk can be mounted by root only")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(
    ("kilobytes", "words"),
    [(200, []), (24, ["--tensorboard"])],
    ids=["SavedModel", "TensorBoard"],
)
def test_a_disk_that_is_really_full(kilobytes, words, shelf, tmp_path, monkeypatch, capsys):
    with small_disk(tmp_path / "disk", kilobytes) as disk:
        words = filled([*RUN, *words], shelf, disk / "run")
        judge(run_train(words, monkeypatch), capsys.readouterr().err, STORAGE, "No space left on device")
        assert (disk / "run/config.json").stat().st_size > 500


# ---- evaluation ---------------------------------------------------------------------------------------

MODEL = "--model={shelf}/good.keras"
EVALUATE = [
    ("model not named", [GOOD], USAGE, "model"),
    ("data set not named", [MODEL, "--dataset="], USAGE, "data set"),
    ("no such model", [GOOD, "--model={shelf}/none.keras"], USAGE, "not found"),
    ("damaged model", [GOOD, "--model={shelf}/damaged.keras"], USAGE, "not a .keras file"),
    ("model in an .h5 file", [GOOD, "--model={shelf}/old.h5"], USAGE, ".h5 is refused"),
    ("directory without a model", [GOOD, "--model={shelf}/bare"], USAGE, "holds no model"),
    ("module that is not there", [GOOD, "--model=no_such_module:network"], USAGE, "no_such_module"),
    ("model of five classes", [GOOD, "--model={shelf}/five.keras"], USAGE, "5"),
    ("model of larger images", [GOOD, "--model={shelf}/large.keras"], USAGE, "give --image_size=12"),
    ("probabilities", [GOOD, "--model={shelf}/softmax.keras"], USAGE, "--outputs=softmax"),
    ("weights not a number", [GOOD, "--model={shelf}/nan.keras"], USAGE, "NaN"),
    ("unknown attack", [MODEL, GOOD, "--attacks=pdg20"], USAGE, "Unknown attack 'pdg20'"),
    ("negative epsilon", [MODEL, GOOD, "--epsilon=-1/255"], USAGE, "epsilon"),
    ("epsilon divided by 0", [MODEL, GOOD, "--epsilon=8/0"], USAGE, "8/0"),
    ("unknown norm", [MODEL, GOOD, "--norm=l1"], USAGE, "norm"),
    ("batch of 0", [MODEL, GOOD, "--batch_size=0"], USAGE, "batch_size"),
    ("negative number of examples", [MODEL, GOOD, "--examples=-3"], USAGE, "examples"),
    ("confidence 2", [MODEL, GOOD, "--confidence=2"], USAGE, "confidence"),
    ("budget of no time", [MODEL, GOOD, "--budget=0m"], USAGE, "duration"),
    ("range of one number", [MODEL, GOOD, "--input_range=255"], USAGE, "LOW,HIGH"),
    ("split that is not there", [MODEL, GOOD, "--split=validation"], USAGE, "no split 'validation'"),
    ("unknown group column", [MODEL, GOOD, "--group_by=age"], USAGE, "columns label"),
    ("gate without a bound", [MODEL, GOOD, "--gate=clean.average"], USAGE, "ATTACK.QUANTITY>=NUMBER"),
    ("gate of an attack not run", [MODEL, GOOD, "--gate=autoattack.gap<=0.2"], USAGE, "'autoattack'"),
    ("gate of an unknown class", [MODEL, GOOD, "--gate=clean.class[cat]>=0.2"], USAGE, "no class 'cat'"),
    ("gate above 1", [MODEL, GOOD, "--gate=clean.average>=25"], USAGE, "from 0 to 1"),
    ("baseline that is not there", [MODEL, GOOD, "--baseline={shelf}/bare"], DATA, "run fairat_tf.evaluate"),
    ("pixels that are not numbers", [MODEL, "--dataset=npz:{shelf}/nan.npz"], DATA, "not finite"),
    ("unknown data set to evaluate", [MODEL, "--dataset=cifar11"], USAGE, "Did you mean 'cifar10'?"),
    ("output below a file", [MODEL, GOOD, "--output_dir={shelf}/text.npz/out"], STORAGE, "Not a directory"),
]


@pytest.mark.parametrize(("words", "code", "told"), [c[1:] for c in EVALUATE], ids=[c[0] for c in EVALUATE])
def test_evaluate(words, code, told, shelf, tmp_path, capsys):
    before = snapshot(shelf)
    common = [f"--output_dir={tmp_path / 'out'}", "--noprogress", "--checks=none", "--attacks=fgsm"]
    got = evaluate.run(["evaluate", *common, *filled(words, shelf, tmp_path)])
    judge(got, capsys.readouterr().err, code, told)
    assert snapshot(tmp_path) == {} and snapshot(shelf) == before


def test_an_evaluation_with_other_settings_is_kept(shelf, tmp_path, capsys):
    words = ["evaluate", *filled([MODEL, GOOD], shelf, tmp_path), f"--output_dir={tmp_path}"]
    words += ["--noprogress", "--checks=none", "--attacks=fgsm"]
    assert evaluate.run(words) in (0, 5)
    before = snapshot(tmp_path)
    capsys.readouterr()
    judge(evaluate.run([*words, "--seed=1"]), capsys.readouterr().err, STORAGE, "other settings (seed)")
    assert snapshot(tmp_path) == before


# ---- the data command ---------------------------------------------------------------------------------

DATA_COMMAND = [
    ("data: nothing named", [], USAGE, "one data set name"),
    ("data: unknown flag", ["npz:{shelf}/good.npz", "--colour=red"], USAGE, "colour"),
    ("data: image size a word", ["npz:{shelf}/good.npz", "--image_size=large"], USAGE, "image_size"),
    ("data: corrupt picture", ["folder:{shelf}/corrupt"], DATA, "9.png"),
    ("data: one class", ["npz:{shelf}/one_class.npz"], DATA, "at least two classes"),
    ("data: sheet in no folder", ["npz:{shelf}/good.npz", "--contact_sheet={run}/a/b.png"], STORAGE, "b.png"),
    ("data: full disk", ["npz:{shelf}/good.npz", "--contact_sheet=/dev/full"], STORAGE, "No space"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "code", "told"), [c[1:] for c in DATA_COMMAND], ids=[c[0] for c in DATA_COMMAND]
)
def test_data(words, code, told, shelf, tmp_path, capsys):
    if "--contact_sheet=/dev/full" in words and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    got = data_command.main(["data", *filled(words, shelf, tmp_path)])
    judge(got, capsys.readouterr().err, code, told)
    assert snapshot(tmp_path) == {}


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
