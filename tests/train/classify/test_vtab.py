"""Many tasks under one protocol, as a user runs it: shapes of two tasks, resumed, with a table."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from alignset.train.classify import vtab
from alignset.train.classify.__main__ import main
from alignset.train.classify.settings import TINY
from alignset.train.data.whole_files import write_whole
from alignset.train.errors import Diverged
from alignset.train.model.dual_encoder import export_model
from tests.support.small_training import SETTINGS, small_model, small_tokenizer
from tests.support.train_shards import COLOURS

SMALL = (
    *("--frozen_train_px=32", "--frozen_eval_px=32", "--train_px=32", "--eval_px=32"),
    *("--batch_size=8", "--micro_batch_size=8", "--steps=2", "--trackers=", "--trials=3"),
    *("--checkpoint_every=1", "--protocol=vtab"),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder, rng = tmp_path_factory.mktemp("vtab"), random.Random(1)
    for task in ("eurosat", "mine"):
        for part, count in (("train", 5), ("test", 2)):
            for name in ("blue", "red"):
                (folder / "tasks" / task / part / name).mkdir(parents=True)
                for i in range(count):
                    colour = tuple(value + rng.randint(-9, 5) for value in COLOURS[name])
                    path = folder / "tasks" / task / part / name / f"{i}.png"
                    Image.new("RGB", (44, 36), colour).save(path)
    export_model(small_model(), small_tokenizer(), SETTINGS, folder / "saved")
    return folder


def arguments(data: Path, run: Path, *more: str) -> list[str]:
    return [
        f"--model={data / 'saved'}",
        f"--images={data / 'tasks'}",
        f"--run={run}",
        *SMALL,
        *more,
    ]


def test_tasks_are_searched_trained_anew_and_tabled(
    data: Path, tmp_path: Path, capsys, monkeypatch
):
    begun: list[str] = []
    train, first = vtab.classify, "eurosat/trial-01"

    def trained(job) -> None:
        name = f"{job.run.parent.name}/{job.run.name}"
        begun.append(name)
        is_final = job.run.name == "final"
        assert len(job.images) == (10 if is_final else 8)
        assert job.validation[0][0].split("/")[-3] == ("test" if is_final else "train")
        if name == first and len(begun) == 2:
            raise KeyboardInterrupt
        train(job)

    monkeypatch.setattr(vtab, "classify", trained)
    run = tmp_path / "run"
    assert main(arguments(data, run)) == 130
    assert begun == ["eurosat/trial-00", first]
    assert main(arguments(data, run)) == 0
    trials = [f"trial-{i:02}" for i in range(3)]
    of_task = [*trials, "final"]
    assert begun[2:] == [*(f"eurosat/{n}" for n in of_task[1:]), *(f"mine/{n}" for n in of_task)]
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads((run / "results.json").read_text())
    own, other = result["tasks"]["eurosat"], result["tasks"]["mine"]
    assert (own["group"], other["group"]) == ("specialized", "other")
    assert (own["n"], own["examples"], own["classes"]) == (4, 10, 2)
    assert result["mean"] == pytest.approx((own["top_1"] + other["top_1"]) / 2, abs=1e-3)
    assert result["groups"] == {"other": other["top_1"], "specialized": own["top_1"]}
    table = (run / "table.md").read_text()
    assert f"| mean | all 2 |  | {result['mean']:.1f} | ALIGN 79.99 (19 tasks) |" in table
    assert (run / "mine" / "final" / "model").exists()
    assert not (run / "mine" / "trial-00" / "model").exists()
    best = json.loads((run / "mine" / trials[other["trial"]] / "results.json").read_text())
    assert best["fine_tuned"]["top_1"] == other["validation_top_1"]

    assert main(arguments(data, run)) == 0  # nothing is run again
    assert len(begun) == 9
    assert main(arguments(data, run, "--seed=1")) == 2
    assert "is a run with other settings (seed" in capsys.readouterr().err


def test_a_trial_that_diverges_is_as_bad_as_can_be(data: Path, tmp_path: Path, monkeypatch, capsys):
    def train(job) -> None:
        if job.run.name == "trial-00":
            raise Diverged("the loss is nan")
        scores = {"n": 4, "top_1": 75.0, "top_5": 100.0}
        write_whole(job.run / "results.json", json.dumps({"fine_tuned": scores}))

    monkeypatch.setattr(vtab, "classify", train)
    settings = replace(TINY, model="m", images=str(data / "tasks"), batch_size=8)
    result = vtab.run_protocol(settings, tmp_path, 2)
    assert [of["trial"] for of in result["tasks"].values()] == [1, 1]
    assert "trial-00 of mine: the loss is nan" in capsys.readouterr().err


def test_the_search_follows_from_the_seed_and_the_examples_from_the_names():
    settings = replace(TINY, steps=100)
    trials = [vtab.trial_settings(settings, "dtd", number) for number in range(40)]
    assert trials == [vtab.trial_settings(settings, "dtd", number) for number in range(40)]
    assert trials[0] == settings
    assert trials[1] != vtab.trial_settings(settings, "pets", 1)
    assert {of.steps for of in trials} == {50, 100, 200}
    assert {of.train_px for of in trials} == {48, 64, 80}
    assert {of.horizontal_flip for of in trials} == {True, False}
    rates = [of.learning_rate / settings.learning_rate for of in trials]
    assert 0.1 <= min(rates) < 0.4 < 3 < max(rates) <= 10
    images = [(f"{i % 7}/{i}.png", i % 7) for i in range(1500)]
    learned, chosen_with = vtab.examples(images)
    assert (len(learned), len(chosen_with)) == (800, 200)
    assert not {*learned} & {*chosen_with}
    assert all(int(path[0]) == label for path, label in learned)
    assert vtab.examples(images[::-1])[0] == learned
    assert sum(len(of.split()) for of in vtab.GROUPS.values()) == 19


def test_bad_input_is_one_line(data: Path, tmp_path: Path, capsys):
    (tmp_path / "empty").mkdir()
    few = tmp_path / "few" / "task"
    for part in ("train", "test"):
        (few / part / "a").mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(few / part / "a" / "0.png")
    (tmp_path / "half" / "task").mkdir(parents=True)
    (tmp_path / "half" / "task" / "train").symlink_to(few / "train")
    for more, says in (
        (f"--images={tmp_path / 'empty'}", "a folder for each task"),
        (f"--images={tmp_path / 'half'}", "no images with classes in"),
        (f"--images={tmp_path / 'few'}", "task/train has 1 image: give 5 or more"),
        (f"--validation={data}", "leave --validation out"),
        ("--trials=0", "--trials must be 1 or more"),
    ):
        assert main(arguments(data, tmp_path / "run", more)) == 2
        assert says in capsys.readouterr().err
