"""Flags of training that are wrong by themselves, and names and values that do not fit the data."""

import pytest

from tests.bad_input.judging import GOOD, SMALL, USAGE, filled, judge, run_train, snapshot

FAIR = ["--method=fair_ard"]

CASES = [
    # flags that are wrong by themselves
    ("no flag file", ["--flagfile={shelf}/none.flags"], USAGE, "none.flags"),
    ("flag file that is no text", ["--flagfile={shelf}/bytes.flags"], USAGE, "decode"),
    ("bare dataset word", ["svhn"], USAGE, "expected flags only"),
    ("validation_fraction 0", ["--validation_fraction=0"], USAGE, "(0, 0.9]"),
    ("validation_fraction 1", ["--validation_fraction=1"], USAGE, "(0, 0.9]"),
    ("negative limit", ["--limit_train=-5"], USAGE, "limit_train"),
    ("negative width", ["--width=-2"], USAGE, "width"),
    ("negative image size", ["--image_size=-8"], USAGE, "image_size"),
    ("unknown flag", ["--epochz=3"], USAGE, "epochz"),
    ("unknown method", ["--method=fairrat"], USAGE, "Did you mean 'fairat'?"),
    ("zero epochs", ["--epochs=0"], USAGE, "epochs must be in [1, inf)"),
    ("batch of 0", ["--batch_size=0"], USAGE, "batch_size must be in [1, inf)"),
    ("negative epsilon", ["--epsilon=-8/255"], USAGE, "epsilon must be in [0, inf)"),
    ("negative seed", ["--seed=-1"], USAGE, "seed"),
    ("l2 without a radius", ["--norm=l2"], USAGE, "such as --epsilon=128/255"),
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
    ("hard_fraction 0", ["--hard_fraction=0"], USAGE, "(0, 1]"),
    ("mixing chance 0", ["--mix=cutmix", "--mix_probability=0"], USAGE, "mix_probability must be in (0, 1]"),
    ("mixing chance 2", ["--mix_probability=2"], USAGE, "mix_probability"),
    ("groups beside the batch", [GOOD, "--hard_group=5", "--batch_size=16"], USAGE, "5 must divide"),
    (
        "views that cannot be shared out",
        [GOOD, "--hard_combine=append", "--hard_fraction=0.3", "--batch_size=16", "--devices=2"],
        USAGE,
        "the 5 hard examples of a batch must be a multiple of the 2 devices",
    ),
    ("hard_fraction 2", ["--hard_fraction=2"], USAGE, "(0, 1]"),
    ("negative warm-up", ["--hard_warmup_epochs=-1"], USAGE, "hard_warmup_epochs"),
    ("negative beta", ["--method=trades", "--beta=-1"], USAGE, "beta"),
    ("mixing chance without mixing", ["--mix_probability=0.5"], USAGE, "mix_probability needs mix"),
    ("warm-up of no AWP", ["--awp_warmup=0.5"], USAGE, "awp_warmup needs awp_gamma"),
    ("weight of no boundary", [GOOD, "--beta=3"], USAGE, "boundary term of loss=trades"),
    # names and values that show when the parts are made
    ("nesterov without momentum", [GOOD, "--nesterov", "--momentum=0"], USAGE, "momentum above 0"),
    ("too much smoothing", [GOOD, "--label_smoothing=0.6", "--class_label_smoothing=0.6"], USAGE, "0.6"),
    ("two weights, three classes", [GOOD, "--class_weights=1,2"], USAGE, "class_weights must be 3"),
    ("class weights that are words", [GOOD, "--class_weights=many"], USAGE, "'many'"),
    ("drops that go back", [GOOD, "--schedule=piecewise:0.9,0.5"], USAGE, "ascending"),
    ("rise above 1", [GOOD, "--schedule=one_cycle:1.5"], USAGE, "(0, 1)"),
    ("schedule's argument a word", [GOOD, "--schedule=piecewise:soon"], USAGE, "piecewise"),
    ("schedule that takes no numbers", [GOOD, "--schedule=cosine:0.5"], USAGE, "cosine takes no numbers"),
    ("unknown mixing", [GOOD, "--mix=cutmux"], USAGE, "Did you mean 'cutmix'?"),
    ("mixing with alpha 0", [GOOD, "--mix=mixup:0"], USAGE, "alpha above 0"),
    ("augmentation as mixing", [GOOD, "--mix=crop_flip"], USAGE, "Unknown mixing augmentation 'crop_flip'"),
    ("mixing what is remembered", [GOOD, "--mix=mixup", "--hard_score=memory"], USAGE, "hard_score=memory"),
    ("split_bn that replaces", [GOOD, "--split_bn"], USAGE, "hard_combine=append"),
    ("mixing as augmentation", [GOOD, "--augmentation=cutmix"], USAGE, "use --mix=cutmix"),
    ("too many arguments", [GOOD, "--augmentation=randaugment:1,2,3,4,5,6"], USAGE, "randaugment"),
    ("unknown weak augmentation", [GOOD, "--weak_augmentation=crop+swirl"], USAGE, "swirl"),
    ("network without that depth", [GOOD, "--network=wrn_27_10"], USAGE, "27"),
    ("unknown attack at the end", [GOOD, "--evaluate=clean,pdg20"], USAGE, "Unknown attack 'pdg20'"),
    ("zero devices", [GOOD, "--devices=0"], USAGE, "devices must be 1 to"),
    ("XLA on two devices", [GOOD, "--devices=2", "--jit_compile"], USAGE, "needs --devices=1"),
    ("batch that two devices cannot share", [GOOD, "--devices=2", "--batch_size=15"], USAGE, "multiple"),
    ("batch larger than the data", [GOOD, "--batch_size=61"], USAGE, "smaller batch or more data"),
    ("unknown validation metric", [GOOD, "--select=robust_accuracy+joy"], USAGE, "joy"),
    ("metric that is better when lower", [GOOD, "--select=robust_gap"], USAGE, "of which more is better"),
    ("part of AutoAttack beside it", [GOOD, "--evaluate=autoattack,fab-t"], USAGE, "runs fab-t itself"),
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
]  # fmt: skip


def test_every_case_has_a_name_of_its_own():
    names = [name for name, *_ in CASES]
    assert len(names) == len(set(names)) >= 60


@pytest.mark.parametrize(("words", "code", "told"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_train(words, code, told, shelf, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = snapshot(shelf)
    words = [*SMALL, "--run_dir={run}", *words]
    judge(run_train(filled(words, shelf, tmp_path / "run"), monkeypatch), capsys.readouterr().err, code, told)
    assert snapshot(tmp_path) == {} and snapshot(shelf) == before


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__]))
