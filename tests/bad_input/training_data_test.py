"""Data that cannot be trained on: folders, archives and original files, broken or unfit."""

import pytest

from tests.bad_input.judging import DATA, GOOD, SMALL, USAGE, filled, judge, run_train, snapshot

CASES = [
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
    ("untested: fewer labels", ["--dataset=npz:{shelf}/short_labels.npz"], DATA, "60 images but 50 labels"),
    ("untested: fewer images", ["--dataset=npz:{shelf}/short_images.npz"], DATA, "50 images but 60 labels"),
    ("untested: long column", ["--dataset=npz:{shelf}/short_groups.npz"], DATA, "'age' has shape [70]"),
    ("none to resize", ["--dataset=npz:{shelf}/no_examples.npz", "--image_size=16"], DATA, "at least two"),
    ("nothing to validate on", ["--dataset=npz:{shelf}/one_each.npz", "--batch_size=2"], DATA, "validation"),
    ("limit below the classes", [GOOD, "--limit_train=2"], DATA, "no example of class"),
    ("SVHN label 11", ["--dataset=svhn", "--data_dir={shelf}/svhn"], DATA, "up to 11"),
    ("SVHN file cut short", ["--dataset=svhn", "--data_dir={shelf}/svhn_cut"], DATA, "fetch it again"),
    ("CIFAR file cut short", ["--dataset=cifar10", "--data_dir={shelf}/cifar"], DATA, "multiple of 3073"),
    ("CIFAR archive damaged", ["--dataset=cifar10", "--data_dir={shelf}/cifar_tar"], DATA, "not a readable"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "code", "told"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_train(words, code, told, shelf, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = snapshot(shelf)
    words = [*SMALL, "--run_dir={run}", *words]
    judge(run_train(filled(words, shelf, tmp_path / "run"), monkeypatch), capsys.readouterr().err, code, told)
    assert snapshot(tmp_path) == {} and snapshot(shelf) == before


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
