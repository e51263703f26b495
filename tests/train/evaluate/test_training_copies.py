"""Held-out images that a model was trained on, by its run's shards or by named ones."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alignset.train.data.find_shards import ShardSet
from alignset.train.data.shard_index import read_index, save_indexes
from alignset.train.evaluate import training_copies
from alignset.train.evaluate.training_copies import find_copies, training_shards
from alignset.train.runs.run_folder import open_run
from tests.support.evaluations import evaluated
from tests.support.grey_pictures import grey_photograph
from tests.support.small_training import SETTINGS
from tests.support.train_shards import COLOURS, encoded, write_tar

EQUAL, MIRRORED, CROPPED = 0, 1, 2


def photograph(seed: int) -> Image.Image:
    return Image.fromarray(np.stack([grey_photograph(seed, 320, 240)] * 3, axis=2))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run's folder, beside the shards that it was trained on and the held-out ones."""
    root = tmp_path_factory.mktemp("copies")
    held_out = [encoded(photograph(seed), "JPEG", quality=90) for seed in range(8)]
    small = photograph(MIRRORED).transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((240, 180))
    trained = [encoded(photograph(100 + seed), "JPEG") for seed in range(9)]
    trained += [held_out[EQUAL], encoded(small, "JPEG", quality=70)]
    trained += [encoded(photograph(CROPPED).crop((10, 0, 310, 230)), "PNG"), b"no image"]
    for name, files in (("held_out", held_out), ("shards", trained)):
        members = {}
        for number, (file, colour) in enumerate(zip(files, [*COLOURS] * 2, strict=False)):
            members |= {f"{number}.jpg": file, f"{number}.txt": f"a {colour} one".encode()}
        write_tar(root / name / "0.tar", members)
    shards = (str(root / "shards" / "0.tar"),)
    open_run(root / "run", SETTINGS, [ShardSet(shards)])
    save_indexes([read_index(shards)[0]], root / "run" / "shards.npz")
    return root / "run"


def test_equal_and_near_images_and_the_score_without_them(run: Path, capsys):
    held_out = run.parent / "held_out"
    result = evaluated(capsys, "retrieval", f"--data={held_out}", f"--training={run.parent}/shards")
    found = result["training_copies"]
    assert (found["compared"], found["equal"], found["near"]) == (13, 1, 2)
    without = found["without_them"]
    assert (result["n"], without["n"]) == (8, 5)
    assert without["chance"]["image_to_text"]["R@1"] == 20
    assert len(without["intervals"]["mean_recall"]) == 2
    alone = evaluated(capsys, "retrieval", f"--data={held_out}")
    assert "training_copies" not in alone  # nothing says what it was trained on
    assert alone["mean_recall"] == result["mean_recall"]
    several = evaluated(
        capsys,
        "retrieval",
        f"--data=de={held_out},en={held_out}",
        f"--training={run.parent}/shards",
    )
    languages = several["training_copies"]["without_them"]["languages"]
    assert {code: of["n"] for code, of in languages.items()} == {"de": 5, "en": 5}


def test_labelled_images_that_were_trained_on_are_counted_too(run: Path, tmp_path: Path, capsys):
    for name, seed in (("red", EQUAL), ("green", 50)):
        (tmp_path / name).mkdir()
        file = encoded(photograph(seed), "JPEG", quality=90)
        (tmp_path / name / "0.jpg").write_bytes(file)
    shards = f"--training={run.parent}/shards"
    result = evaluated(capsys, "zero_shot", f"--data={tmp_path}", shards)
    assert result["training_copies"] == {"compared": 13, "equal": 1, "near": 0}
    alone = evaluated(capsys, "zero_shot", f"--data={tmp_path}")
    assert "training_copies" not in alone
    assert alone["top1"] == result["top1"]


def test_a_run_knows_its_shards_while_they_are_there(
    run: Path, tmp_path: Path, monkeypatch, capsys
):
    shards = [str(run.parent / "shards" / "0.tar")]
    for model in (run, run / "model", run / "model-best"):
        assert training_shards(str(model), "") == shards
    assert training_shards(str(run), "none") == []
    assert training_shards("kakaobrain/align-base", "") == []
    monkeypatch.setattr(training_copies, "MOST_IMAGES", 12)
    assert training_shards(str(run), "") == []
    assert "was trained on 13 images, which are not compared" in capsys.readouterr().err
    monkeypatch.undo()
    moved = shutil.copytree(run, tmp_path / "run")
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps(config | {"places": ["/nowhere"]}))
    assert training_shards(str(moved), "") == []
    del config["places"]  # as of an older version
    (moved / "config.json").write_text(json.dumps(config))
    assert training_shards(str(moved), "") == []


def test_all_may_be_copies_and_none_need_be(run: Path, tmp_path: Path, capsys):
    shards = f"--training={run.parent}/shards"
    result = evaluated(capsys, "retrieval", f"--data={run.parent}/shards", shards)
    assert result["training_copies"] == {"compared": 13, "equal": 12, "near": 0}
    (tmp_path / "0.jpg").write_bytes(encoded(photograph(50), "JPEG"))
    copies = find_copies([(tmp_path / "0.jpg").read_bytes()], [str(run.parent / "shards/0.tar")])
    assert (copies.equal, copies.near) == (set(), set())
