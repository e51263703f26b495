"""Classes that are told by their names while a model is trained, as the evaluation tells them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alignset.train.__main__ import main
from alignset.train.errors import SettingsError
from alignset.train.evaluate.__main__ import main as evaluate
from alignset.train.evaluate.held_out_classes import zero_shot_scores
from alignset.train.evaluate.validation import read_held_out, validation_scores
from alignset.train.model.dual_encoder import export_model
from tests.support.small_training import (
    SETTINGS,
    held_out_shards,
    pictures,
    small_model,
    small_tokenizer,
)
from tests.support.train_shards import encoded

NAMES = ("a dog", "cat", "red_square", "tree", "blue circle", "house")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("classes")
    drawn = iter(pictures(4 * len(NAMES)))
    for place, name in enumerate(NAMES):
        (root / name).mkdir()
        for number in range(1 + place % 4):
            (root / name / f"{number}.png").write_bytes(encoded(next(drawn), "PNG"))
    (root / "cat" / "torn.png").write_bytes(b"no picture")
    return root


@pytest.fixture(scope="module")
def holdout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return held_out_shards(tmp_path_factory.mktemp("held"))


def test_as_the_evaluation_has_it_and_the_model_stays(
    folders: Path, holdout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = replace(SETTINGS, validate=str(holdout), validate_classes=str(folders))
    held_out, model = read_held_out(settings), small_model(settings).train()
    before = [value.numpy().tobytes() for value in model.state_dict().values()]
    scores = validation_scores(model, held_out, small_tokenizer(), settings)
    assert [value.numpy().tobytes() for value in model.state_dict().values()] == before
    assert model.training
    export_model(model, small_tokenizer(), settings, tmp_path / "model")
    flags = ["--model", str(tmp_path / "model"), "--data", str(folders)]
    assert evaluate(["zero_shot", *flags, "--cache", str(tmp_path / "cache")]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert scores["validation/zero_shot_n"] == said["n"]
    assert scores["validation/zero_shot_top1"] == pytest.approx(said["top1"], abs=1e-3)
    assert scores["validation/zero_shot_top5"] == pytest.approx(said["top5"], abs=1e-3)
    without = validation_scores(model, replace(held_out, classes=None), small_tokenizer(), settings)
    assert {name: scores[name] for name in without} == without


def test_classes_come_by_turns_and_what_cannot_be_decoded_is_counted(
    folders: Path, holdout: Path
) -> None:
    settings = replace(
        SETTINGS, validate=str(holdout), validate_classes=str(folders), validate_pairs=7
    )
    classes = read_held_out(settings).classes
    assert classes is not None
    assert classes.names == [name.replace("_", " ") for name in sorted(NAMES)]
    assert sorted(classes.labels.tolist()) == [0, 1, 2, 2, 3, 4, 5]  # then the second cat
    everything = read_held_out(replace(settings, validate_pairs=100)).classes
    assert everything is not None
    files = sum(path.is_file() for path in folders.rglob("*"))
    assert (len(everything.labels), everything.skipped) == (files - 1, 1)


def test_each_image_is_told_as_one_class(folders: Path, holdout: Path) -> None:
    settings = replace(SETTINGS, validate=str(holdout), validate_classes=str(folders))
    classes = read_held_out(settings).classes
    assert classes is not None
    model = small_model(settings).eval()
    scores = [
        zero_shot_scores(
            model,
            replace(classes, labels=np.full(len(classes.labels), label)),
            small_tokenizer(),
            settings,
        )
        for label in range(len(NAMES))
    ]
    assert sum(score["zero_shot_top1"] for score in scores) == pytest.approx(100, abs=0.01)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda root: None, "no images with classes in"),
        (lambda root: (root / "alone").mkdir(), "has no image"),
        (lambda root: _one_class(root, b"no picture"), "there must be two"),
        (lambda root: [_one_class(root / n, b"-") for n in "ab"], "can be decoded"),
    ],
)
def test_a_folder_that_is_none_is_refused(holdout: Path, tmp_path: Path, make, said: str) -> None:
    root = tmp_path / "classes"
    root.mkdir()
    make(root)
    settings = replace(SETTINGS, validate=str(holdout), validate_classes=str(root))
    with pytest.raises(SettingsError, match=said):
        read_held_out(settings)


def _one_class(root: Path, body: bytes) -> None:
    (root / "x").mkdir(parents=True)
    (root / "x" / "1.jpg").write_bytes(body)


def test_the_flag_needs_pairs_to_validate_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [f"--shards={tmp_path}", f"--run={tmp_path}/run", f"--validate_classes={tmp_path}"]
    assert main(flags) == 2
    assert "--validate_classes is of no use without --validate" in capsys.readouterr().err
