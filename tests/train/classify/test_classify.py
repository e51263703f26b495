"""Classification: what each stage trains, resuming, processes; many tasks by one protocol."""

import json
import math
import os
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from transformers import AlignVisionModel, AutoImageProcessor

from alignset.train.classify import classifier, vtab
from alignset.train.classify.__main__ import main
from alignset.train.classify.classifier import (
    ImageClassifier,
    evaluate,
    find_images,
    save_classifier,
    training_batches,
)
from alignset.train.classify.settings import FINE_GRAINED, IMAGENET, TINY
from alignset.train.data.images import central_square
from alignset.train.data.whole_files import write_whole
from alignset.train.errors import Diverged, SettingsError, TrainingError
from alignset.train.model.dual_encoder import export_model, scale_pixels
from tests.support.forks import start
from tests.support.small_training import SETTINGS, small_model, small_tokenizer
from tests.support.stores import free_port
from tests.support.train_shards import COLOURS

pytestmark = pytest.mark.numeric


SMALL = (
    *("--frozen_train_px=32", "--frozen_eval_px=32", "--train_px=32", "--eval_px=32"),
    *("--batch_size=16", "--micro_batch_size=8", "--epochs=4", "--log_every=4", "--trackers="),
    *("--frozen_learning_rate=1", "--checkpoint_every=3"),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """An AlignModel, and folders of plain colours, four classes of them."""
    folder = tmp_path_factory.mktemp("data")
    rng = random.Random(1)
    for part, count in (("train", 8), ("val", 3)):
        for name in ("black", "blue", "red", "white"):
            (folder / part / name).mkdir(parents=True)
            for i in range(count):
                colour = tuple(value + rng.randint(-9, 5) for value in COLOURS[name])
                Image.new("RGB", (44, 36), colour).save(folder / part / name / f"{i}.png")
    model = small_model()
    files = sorted(folder.glob("train/*/*.png"))
    pictures = np.stack([central_square(Image.open(path), 32) for path in files])
    take_statistics(model.align.vision_model, scale_pixels(torch.from_numpy(pictures)))
    export_model(model, small_tokenizer(), SETTINGS, folder / "saved")
    return folder


def take_statistics(tower: nn.Module, pixels: torch.Tensor) -> None:
    """The pixels', for BatchNorm: with its first ones, an untrained tower gives nearly nothing."""
    for norm in (m for m in tower.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.momentum = 1.0
    with torch.no_grad():
        tower.train()(pixels)


def arguments(data: Path, run: Path, *more: str) -> list[str]:
    places = [f"--images={data / 'train'}", f"--validation={data / 'val'}", f"--run={run}"]
    return [f"--model={data / 'saved'}", *places, *SMALL, *more]


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "whole"
    assert main(arguments(data, run)) == 0
    return run


def test_results_are_those_of_both_stages(finished: Path, data: Path, capsys):
    assert main(arguments(data, finished)) == 0  # finished: says it again
    result = json.loads(capsys.readouterr().out)
    assert (result["task"], result["classes"]) == ("classification", 4)
    assert set(result["frozen"]) == set(result["fine_tuned"]) == {"n", "top_1", "top_5"}
    assert result["fine_tuned"]["n"] == 12
    assert result["fine_tuned"]["top_5"] == 100  # of 4 classes
    assert result["frozen"]["top_1"] >= 75  # plain colours; 25 is chance
    rows = [json.loads(row) for row in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [4, 8, 12, 16]  # 2 an epoch, 4 epochs, 2 stages
    assert [row["learning_rate"] for row in rows] == pytest.approx(
        [rate * (1 + np.cos(np.pi * done / 8)) / 2 for rate in (1, 0.003) for done in (3, 7)]
    )


def test_a_stage_on_each_device(device: torch.device, data: Path, tmp_path: Path, capsys):
    assert main(arguments(data, tmp_path / "run", "--epochs=2")) == 0
    assert set(json.loads(capsys.readouterr().out)) > {"frozen", "fine_tuned"}


def test_the_classifier_loads_as_documented(finished: Path, data: Path):
    folder, image = finished / "model", Image.open(data / "val" / "red" / "0.png")
    pixels = AutoImageProcessor.from_pretrained(folder)(image, return_tensors="pt")["pixel_values"]
    ours = scale_pixels(torch.tensor(central_square(image, 32))[None])
    assert torch.allclose(pixels, ours, atol=2.1 / 127.5)
    tower, head = AlignVisionModel.from_pretrained(folder), load_file(folder / "head.safetensors")
    with torch.no_grad():
        features = tower(pixels).pooler_output
        logits = nn.functional.linear(features, head["weight"], head["bias"])
    assert tower.config.id2label[logits.argmax().item()] == "red"


def stage_changes(settings, frozen: bool) -> set[str]:
    """Which parts of a classifier a step of training changes."""
    torch.manual_seed(2)
    tower = small_model().align.vision_model
    take_statistics(tower, torch.randn(4, 3, 32, 32))
    model = ImageClassifier(tower, ["a", "b"], settings)
    model.frozen = frozen
    tower.requires_grad_(not frozen)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.train()
    for _ in range(2):  # the head starts at zero, and gives the tower no gradient
        optimizer.zero_grad()
        logits = model(torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8))
        nn.functional.cross_entropy(logits, torch.tensor([0, 1, 1, 1])).backward()
        optimizer.step()
    return {
        name.split(".")[0] + "." + name.split(".")[-1]
        for name, value in model.state_dict().items()
        if not torch.equal(before[name], value)
    }


def test_what_each_stage_trains():
    assert stage_changes(IMAGENET, True) == {"head.weight", "head.bias"}
    both = stage_changes(IMAGENET, False)
    assert both >= {"head.weight", "tower.weight", "tower.running_mean"}
    without = stage_changes(FINE_GRAINED, False)
    assert without >= {"head.weight", "tower.weight"}
    assert "tower.running_mean" not in without


def test_the_papers_learning_rates():
    # Every 30 epochs times 0.2, of 100; 10 steps an epoch.
    shares = [IMAGENET.rate_share(step, 1000, 10) for step in (1, 300, 301, 600, 601, 901, 1000)]
    assert shares == pytest.approx([1, 1, 0.2, 0.2, 0.04, 0.008, 0.008])
    shares = [FINE_GRAINED.rate_share(step, 20_000, 10) for step in (1, 10_001, 20_000)]
    assert shares == pytest.approx([1, 0.5, 0], abs=1e-6)


def test_stopped_in_the_second_stage_it_goes_on_bit_equal(
    finished: Path, data: Path, tmp_path: Path, monkeypatch
):
    run, loaded = tmp_path / "stopped", []
    save, load = classifier.save_checkpoint, classifier.load_last_checkpoint

    def stop(folder: Path, state: dict, **more) -> None:
        save(folder, state, **more)
        if state["step"] >= 10:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(classifier, "save_checkpoint", stop)
        assert main(arguments(data, run)) == 130
    assert not (run / "model").exists()
    monkeypatch.setattr(
        classifier, "load_last_checkpoint", lambda at: loaded.append(load(at)) or loaded[0]
    )
    assert main(arguments(data, run)) == 0
    assert set(loaded[0]) == {"step", "results", "skipped_steps"}  # no second model stays in memory
    for name in ("model.safetensors", "head.safetensors"):
        assert (run / "model" / name).read_bytes() == (finished / "model" / name).read_bytes()


def test_killed_between_the_model_and_the_end_it_still_has_results(
    data: Path, tmp_path: Path, capsys, monkeypatch
):
    def killed(*saved) -> None:
        save_classifier(*saved)
        raise KeyboardInterrupt

    short = arguments(data, tmp_path / "run", "--stages=1", "--epochs=1")
    monkeypatch.setattr(classifier, "save_classifier", killed)
    assert main(short) == 130
    assert (tmp_path / "run" / "model").exists()
    capsys.readouterr()
    assert main(short) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["frozen"]["n"], "fine_tuned" in result) == (12, False)


@pytest.mark.slow
def test_two_processes_classify_all_images(data: Path, tmp_path: Path):
    flags = arguments(data, tmp_path / "run")
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    both = [
        start(f"{main.__module__}:main", *flags, env=os.environ | group | {"RANK": str(rank)})
        for rank in range(2)
    ]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert json.loads(said[0])["fine_tuned"]["n"] == 12
    assert said[1] == ""


def test_wrong_flags_exit_2_with_one_line(data, tmp_path, refused):
    for flag, text in (
        ("--batch_size=33", "batch_size must be at most the 32 training images; got 33"),
        ("--stages=3", "stages must be 1 or 2; got 3"),
        ("--schedule=linear", "schedule must be staircase or cosine; got 'linear'"),
        ("--images=nowhere", "no images with classes in 'nowhere'"),
        ("--model=", "--model is missing"),
        ("--model=nowhere/at/all", "no AlignModel at 'nowhere/at/all'"),
        ("--epoch=3", "--epoch"),
        ("--device=cuda", "--device=cuda: torch finds no GPU"),
    ):
        refused(text, main, *arguments(data, tmp_path / "run", flag))
        assert not (tmp_path / "run").exists()


def test_a_diverging_run_stops_with_a_line_that_names_the_stages_rate(data, tmp_path, capsys):
    flags = ("--frozen_learning_rate=1e38", "--max_skipped_steps=2")
    assert main(arguments(data, tmp_path / "run", *flags)) == 1
    error = capsys.readouterr().err
    assert "try a lower --frozen_learning_rate, in a new --output" in error


def test_one_bad_step_is_left_out(data: Path, tmp_path: Path, monkeypatch, capsys):
    """Weights stay as they were, in the first step too, and what follows is learned all the
    same."""
    right, calls = F.cross_entropy, []

    def cross_entropy(logits: torch.Tensor, *given: object, **more: object) -> torch.Tensor:
        calls.append(logits.detach())
        return right(logits, *given, **more) * (math.nan if len(calls) == 1 else 1.0)

    monkeypatch.setattr(classifier.F, "cross_entropy", cross_entropy)
    assert main(arguments(data, tmp_path / "run", "--stages=1")) == 0
    rows = [json.loads(row) for row in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [row["skipped_steps"] for row in rows] == [1, 1]
    assert not calls[2].any(), "a new head gives zeros until it has learned"
    assert calls[4].any()
    assert json.loads(capsys.readouterr().out)["frozen"]["top_1"] > 25  # chance
    strict = arguments(data, tmp_path / "strict", "--max_skipped_steps=0")
    calls.clear()
    assert main(strict) == 1
    assert "(max_skipped_steps is 0): try a lower --frozen_learning_rate" in capsys.readouterr().err


def folder(root: Path, classes: dict[str, int]) -> str:
    """Plain images; how grey one is tells which it is."""
    shade = 0
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (30, 20), (shade,) * 3).save(root / name / f"{i}.png")
            shade += 20
    return str(root)


def test_classes_are_the_folders_and_keep_their_numbers(tmp_path: Path):
    files, classes = find_images(folder(tmp_path / "train", {"cat": 2, "ant": 3, "dog": 1}))
    assert (classes, [label for _, label in files]) == (["ant", "cat", "dog"], [0, 0, 0, 1, 1, 2])
    dogs, same = find_images(folder(tmp_path / "val", {"dog": 2}), classes)
    assert ([label for _, label in dogs], same) == ([2, 2], classes)
    with pytest.raises(SettingsError, match="'dog', which is not a class of the training images"):
        find_images(str(tmp_path / "val"), ["ant"])


def test_each_image_comes_once_an_epoch_and_the_rest_of_a_stream_is_the_same(
    tmp_path: Path, monkeypatch
):
    images, _ = find_images(folder(tmp_path / "train", {"ant": 5, "cat": 5}))
    settings = replace(TINY, batch_size=4)
    stream = training_batches(images, settings, 8, 0)
    batches = [next(stream) for _ in range(4)]
    stream.close()
    for epoch in (batches[:2], batches[2:]):  # 8 of the 10: full batches alone
        shades = [int(pixels[0, 0, 0]) for part, _ in epoch for pixels in part]
        assert len(set(shades)) == 8
        labels = [int(label) for _, part in epoch for label in part]
        assert labels == [int(shade >= 100) for shade in shades]
    later = next(training_batches(images, settings, 8, 2))
    assert np.array_equal(later[0], batches[2][0])
    monkeypatch.setattr(classifier.processes, "count", lambda: 2)
    halves = []
    for rank in (0, 1):
        monkeypatch.setattr(classifier.processes, "rank", lambda rank=rank: rank)
        halves.append(next(training_batches(images, settings, 8, 0))[1])
    assert sorted(np.concatenate(halves)) == sorted(batches[0][1])


def test_evaluation_goes_once_through_all_and_names_a_broken_image(tmp_path: Path):
    images, _ = find_images(folder(tmp_path, {"ant": 3, "cat": 2}))
    seen: list[int] = []

    class Bright(ImageClassifier):
        """Images as bright as a cat's are cats; one that is not, the last ant, is missed."""

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            shades = pixels[:, 0, 0, 0].float()
            seen.extend(shades.int().tolist())
            return torch.stack([30 - shades, shades - 30], dim=1)

    settings = replace(TINY, micro_batch_size=4)
    model = Bright(small_model().align.vision_model, ["ant", "cat"], settings)
    assert evaluate(model, images, 8) == {"n": 5, "top_1": 80.0, "top_5": 100.0}
    assert seen == [0, 20, 40, 60, 80]
    (tmp_path / "ant" / "1.png").write_bytes(b"no picture")
    with pytest.raises(TrainingError, match=r"ant/1.png can't be decoded"):
        evaluate(model, images, 8)


SMALL_TASKS = (
    *("--frozen_train_px=32", "--frozen_eval_px=32", "--train_px=32", "--eval_px=32"),
    *("--batch_size=8", "--micro_batch_size=8", "--steps=2", "--trackers=", "--trials=3"),
    *("--checkpoint_every=1", "--protocol=vtab"),
)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory) -> Path:
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


def task_arguments(tasks: Path, run: Path, *more: str) -> list[str]:
    return [
        f"--model={tasks / 'saved'}",
        f"--images={tasks / 'tasks'}",
        f"--run={run}",
        *SMALL_TASKS,
        *more,
    ]


def test_tasks_are_searched_trained_anew_and_tabled(
    tasks: Path, tmp_path: Path, capsys, monkeypatch
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
    assert main(task_arguments(tasks, run)) == 130
    assert begun == ["eurosat/trial-00", first]
    assert main(task_arguments(tasks, run)) == 0
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

    assert main(task_arguments(tasks, run)) == 0  # nothing is run again
    assert len(begun) == 9
    assert main(task_arguments(tasks, run, "--seed=1")) == 2
    assert "is a run with other settings (seed" in capsys.readouterr().err


def test_a_trial_that_diverges_is_as_bad_as_can_be(
    tasks: Path, tmp_path: Path, monkeypatch, capsys
):
    def train(job) -> None:
        if job.run.name == "trial-00":
            raise Diverged("the loss is nan")
        scores = {"n": 4, "top_1": 75.0, "top_5": 100.0}
        write_whole(job.run / "results.json", json.dumps({"fine_tuned": scores}))

    monkeypatch.setattr(vtab, "classify", train)
    settings = replace(TINY, model="m", images=str(tasks / "tasks"), batch_size=8)
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


def test_bad_input_is_one_line(tasks: Path, tmp_path: Path, refused):
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
        (f"--images={tmp_path / 'few'}", "task/train has 1 image, and needs 5 or more"),
        (f"--validation={tasks}", "leave --validation out"),
        ("--trials=0", "--trials must be 1 or more"),
    ):
        refused(says, main, *task_arguments(tasks, tmp_path / "run", more))
