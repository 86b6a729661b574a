"""Bad input to `fairat_tf.data`, `fairat_tf.augment_preview` and `fairat_tf.picture`."""

from pathlib import Path

import pytest

from fairat_tf import augment_preview, picture
from fairat_tf.data import __main__ as data_command
from tests.bad_input.judging import DATA, STORAGE, USAGE, filled, judge, snapshot

HOME = Path.home()
DATA_COMMAND = [
    ("data: nothing named", [], USAGE, "one data set name"),
    ("data: unknown flag", ["npz:{shelf}/good.npz", "--colour=red"], USAGE, "colour"),
    ("data: image size a word", ["npz:{shelf}/good.npz", "--image_size=large"], USAGE, "image_size"),
    ("data: corrupt picture", ["folder:{shelf}/corrupt"], DATA, "9.png"),
    ("data: no such configuration", ["mnist/nosuch", "--data_dir={run}"], DATA, "TFDS cannot open it"),
    ("data: home", ["npz:{shelf}/good.npz", "--contact_sheet=~/none/a.png"], STORAGE, f"{HOME}/none/a.png"),
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


ROOT = Path(__file__).resolve().parent.parent.parent
RESULT = f"{ROOT}/docs/results/street_digits/pgd_at.json"
OTHERS = [
    ("picture: nothing named", picture, [], USAGE, "expected a result"),
    ("picture: no such result", picture, ["{shelf}/none.json"], DATA, "run fairat_tf.evaluate first"),
    ("picture: no result", picture, ["{shelf}/text.npz"], DATA, "holds no evaluation"),
    ("picture: attack not in it", picture, [RESULT, "--attacks=cw40"], USAGE, "no attack 'cw40'"),
    ("picture: no attack", picture, [RESULT, "--attacks="], USAGE, "one to three attacks"),
    ("picture: no folder", picture, [RESULT, "--output={run}/a/b.png"], STORAGE, "b.png"),
    ("preview: unknown augmentation", augment_preview, ["--augmentation=swirl"], USAGE, "swirl"),
    ("preview: no rows", augment_preview, ["--examples=0"], USAGE, "examples"),
    ("preview: no such folder", augment_preview, ["--dataset=folder:{shelf}/none"], DATA, "no folder"),
    ("preview: not there", augment_preview, ["--dataset=mnist", "--data_dir={run}"], DATA, "downloads are"),
    ("preview: file below a file", augment_preview, ["--output={shelf}/text.npz/a.png"], STORAGE, "a.png"),
]


@pytest.mark.parametrize(
    ("module", "words", "code", "told"), [c[1:] for c in OTHERS], ids=[c[0] for c in OTHERS]
)
def test_other_commands(module, words, code, told, shelf, tmp_path, capsys):
    before = snapshot(shelf)
    got = module.COMMAND.run(module.main, ["command", *filled(words, shelf, tmp_path)])
    judge(got, capsys.readouterr().err, code, told)
    assert snapshot(tmp_path) == {} and snapshot(shelf) == before


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
