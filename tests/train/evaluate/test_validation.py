"""Held-out pairs and classes, read and scored while a model is trained, which stays as it was."""

import json
import os
import random
import time
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from alignset.train.errors import SettingsError
from alignset.train.evaluate import validation as validation_module
from alignset.train.evaluate.__main__ import main as evaluate
from alignset.train.evaluate.validation import Validation, read_held_out, validation_loss
from alignset.train.loss import contrastive_loss
from alignset.train.runs import processes
from alignset.train.runs.progress import Progress
from tests.support.closeness import close
from tests.support.small_training import SETTINGS, pictures, small_model, small_tokenizer
from tests.support.stores import free_port
from tests.support.train_shards import encoded, write_tar

pytestmark = pytest.mark.numeric


@pytest.fixture
def validation(tmp_path: Path, holdout: Path, folders: Path) -> Validation:
    data = {"validate": str(holdout), "validate_classes": str(folders), "trackers": ""}
    settings = replace(SETTINGS, **data, text_dropout=0.3, drop_path=0.3)
    progress = Progress(tmp_path, settings, batch_size=8, start=0, steps=9, quiet=False)
    return Validation(tmp_path, settings, small_tokenizer(), read_held_out(settings), progress)


def rows(run: Path) -> list[dict]:
    """The rows of validations, without the time that they took."""
    read = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    validated = [row for row in read if "validation/n" in row]
    return [{k: v for k, v in row.items() if k != "validation/seconds"} for row in validated]


def test_it_scores_as_the_evaluation_and_leaves_the_model_as_it_was(
    validation: Validation, folders: Path, tmp_path: Path, capsys
):
    """Without dropout. A best model that a kill left aside is put back."""
    model = small_model(validation.settings).train()
    with torch.no_grad():
        model.log_temperature.fill_(-3.0)  # another one than the AlignModel's own

    def state() -> list[bytes]:
        generators = torch.get_rng_state(), np.random.get_state(), random.getstate()
        tensors = [value.numpy().tobytes() for value in model.state_dict().values()]
        modes = [module.training for module in model.modules()]
        return [*tensors, repr([modes, generators[0].tolist(), *generators[1:]]).encode()]

    before = state()
    validation.validate(3, model)
    assert state() == before
    assert all(parameter.grad is None for parameter in model.parameters())
    flags = [f"--model={validation.best}", f"--data={folders}", f"--cache={tmp_path / 'cache'}"]
    assert evaluate(["zero_shot", *flags]) == 0
    said, (row,) = json.loads(capsys.readouterr().out.splitlines()[-1]), rows(tmp_path)
    for name in ("n", "top1", "top5"):
        assert row[f"validation/zero_shot_{name}"] == pytest.approx(said[name], abs=1e-3)

    replaced = validation.best.with_name(".model-best.old")
    validation.best.rename(replaced)  # where the kill came
    of = validation
    again = Validation(tmp_path, of.settings, of.tokenizer, of.held_out, of.progress)
    again.validate(6, model)  # not better
    assert rows(tmp_path)[1] == row | {"step": 6}
    assert json.loads((again.best / "validation.json").read_text())["step"] == 3
    assert not replaced.exists()


@pytest.mark.slow
def test_the_others_wait_for_the_first_however_long_it_takes(holdout: Path, tmp_path: Path):
    # gloo gives up after 30 minutes; here, after 10 s.
    arguments = (free_port(), str(tmp_path), str(holdout))
    mp.start_processes(validate_slowly, arguments, nprocs=2, start_method="fork")
    assert [row["step"] for row in rows(tmp_path)] == [3]


def validate_slowly(rank: int, port: int, run: str, where: str) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_PORT": str(port)}
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    dist.init_process_group = partial(dist.init_process_group, timeout=timedelta(seconds=10))
    processes.start_processes()
    settings = replace(SETTINGS, validate=where, trackers="")
    progress = Progress(Path(run), settings, batch_size=8, start=0, steps=9, quiet=rank > 0)
    held_out = read_held_out(settings) if rank == 0 else None
    processes.wait_for_all()
    validation = Validation(Path(run), settings, small_tokenizer(), held_out, progress)
    model = small_model(settings, processes=2).train()
    score = validation_module.validation_scores
    validation_module.validation_scores = lambda *given: time.sleep(12) or score(*given)
    processes.wait_for_all()
    validation.validate(3, model)
    assert processes.gather(rank) == [0, 1]
    processes.stop_processes()


def test_the_loss_is_the_trainings_of_whole_batches():
    rng = torch.Generator().manual_seed(4)
    images, texts = (
        torch.nn.functional.normalize(torch.randn(11, 5, generator=rng), dim=1) for _ in range(2)
    )
    temperature = torch.tensor(0.2)

    def loss(first: int, end: int) -> float:
        rows = slice(first, end)
        return contrastive_loss(
            images[rows], texts[rows], temperature, label_smoothing=SETTINGS.label_smoothing
        ).item()

    for batch_size, expected in ((4, (loss(0, 4) + loss(4, 8)) / 2), (16, loss(0, 11))):
        settings = replace(SETTINGS, batch_size=batch_size)
        found = validation_loss(images, texts, temperature, settings)
        # Sums of 5 products, divided by the temperature, and over 11 rows and columns.
        assert close(found, expected, terms=5 + 22, scale=5.0, precision=torch.float32)


def test_each_line_may_be_a_caption(tmp_path: Path):
    (picture,) = pictures(1)
    files = {"a.png": encoded(picture), "a.txt": b"one\n\n two"}
    tar = write_tar(tmp_path / "a.tar", files)
    settings = replace(SETTINGS, validate=str(tar), caption_lines=True)
    assert read_held_out(settings).captions == [["one", "two"]]


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
    assert len(everything.labels) == files - 1


def test_classes_whose_images_cannot_be_decoded_are_refused(holdout: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "classes" / name).mkdir(parents=True)
        (tmp_path / "classes" / name / "1.jpg").write_bytes(b"-")
    where = {"validate": str(holdout), "validate_classes": str(tmp_path / "classes")}
    with pytest.raises(SettingsError, match="can be decoded"):
        read_held_out(replace(SETTINGS, **where))
