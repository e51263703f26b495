"""A run that validates: what it says, what it keeps, and what it refuses."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AlignModel, AlignProcessor

from alignset.train.__main__ import main
from alignset.train.evaluate.__main__ import main as evaluate
from alignset.train.runs.progress import Progress
from tests.support.small_training import SETTINGS
from tests.support.tensorboard_files import values
from tests.support.train_shards import write_tar

pytestmark = pytest.mark.numeric

SMALL = (
    *("--crop_px=32", "--resize_px=36", "--batch_size=8", "--steps=12", "--warmup_steps=0"),
    *("--log_every=6", "--vocabulary_size=60", "--shuffle_samples=10", "--text_dropout=0.1"),
    *("--checkpoint_every=3", "--keep_checkpoints=10", "--validate_every=3"),
)


@pytest.fixture(scope="module")
def validated(holdout: Path, tmp_path_factory) -> Path:
    """It is trained on what it is validated on, with statistics that follow at once: of 12 steps,
    else all embeddings would be nearly equal, and rounding decide."""
    run = tmp_path_factory.mktemp("runs") / "validated"
    assert train(holdout, run, f"--validate={holdout}", "--batch_norm_momentum=0.9") == 0
    return run


def train(shards: Path, run: Path, *flags: str) -> int:
    return main(["--shards", str(shards), "--run", str(run), *SMALL, *flags])


def rows(run: Path) -> list[dict]:
    """The rows of validations, without the time that they took."""
    read = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    validated = [row for row in read if "validation/n" in row]
    return [{k: v for k, v in row.items() if k != "validation/seconds"} for row in validated]


def weights_at(run: Path, step: int) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint, by their names in an AlignModel."""
    state = torch.load(run / "checkpoints" / f"step_{step:09d}.pt")["model"]
    ours = {name.removeprefix("align."): value for name, value in state.items()}
    return ours | {"temperature": ours.pop("log_temperature").exp()}


def assert_model_is_of(folder: Path, run: Path, step: int) -> None:
    expected = weights_at(run, step)
    for name, value in load_file(folder / "model.safetensors").items():
        assert torch.equal(value, expected[name]), name


def test_its_numbers_are_those_of_the_evaluation(validated: Path, holdout: Path, capfd):
    best = json.loads((validated / "model-best" / "validation.json").read_text())
    assert [row["step"] for row in rows(validated)] == [3, 6, 9, 12]
    for folder, row in (("model", rows(validated)[-1]), ("model-best", best)):
        assert evaluate(["retrieval", "--model", f"{validated / folder}", f"--data={holdout}"]) == 0
        result = json.loads(capfd.readouterr().out)
        # Equal images are one image.
        assert (result["n"], result["captions"], result["skipped"]) == (20, 22, 1)
        assert (row["validation/n"], row["validation/captions"]) == (20, 22)
        ways = ("image_to_text", "text_to_image")
        for way in ways:
            for k in (1, 5, 10):
                assert row[f"validation/{way}_R{k}"] == result[way][f"R@{k}"]
        assert row["validation/R1"] == sum(result[way]["R@1"] for way in ways) / 2
    assert 0 < rows(validated)[-1]["validation/image_to_text_R10"] < 100


def test_they_are_shown_written_and_told(
    shards: Path, holdout: Path, tmp_path: Path, monkeypatch, capsys
):
    run = tmp_path / "run"
    drawn: list[list[int]] = []

    def draw(loss, recall, path):
        assert path == run / "curve.png"
        drawn.append([step for step, _ in recall])

    monkeypatch.setattr("alignset.train.evaluate.validation.draw_curve", draw)
    assert train(shards, run, f"--validate={holdout}", "--validate_pairs=5", "--steps=4") == 0
    assert drawn == [[3], [3, 4]]  # at each of them, not at the end alone
    said = capsys.readouterr().err
    assert "validates on 5 pairs\n" in said
    shown = [line for line in said.splitlines() if "held-out R@1" in line]
    assert [line.split()[1] for line in shown] == ["3/4", "4/4"]
    assert "(image to text / text to image, 5 images) loss " in shown[0]
    assert shown[0].endswith(", the best so far")
    assert f"the best of its validations in {run / 'model-best'}" in said
    by_step = {row["step"]: row for row in rows(run)}
    assert by_step.keys() == {3, 4}
    for name in ("validation/text_to_image_R5", "validation/R1", "validation/loss"):
        told = {step: value.simple_value for step, value in values(run, name).items()}
        assert told == {step: pytest.approx(row[name]) for step, row in by_step.items()}


def test_the_bar_shows_the_last_one_and_its_time_is_no_steps(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")  # the line is cut to a terminal, and its rate may be long
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    clock = [100.0]
    monkeypatch.setattr("alignset.train.runs.progress.time.perf_counter", lambda: clock[0])
    settings = replace(SETTINGS, log_every=1, trackers="", batch_size=6)
    progress = Progress(tmp_path, settings, batch_size=6, start=0, steps=3, quiet=False)
    numbers = {f"validation/{way}_R1": 12.34 for way in ("image_to_text", "text_to_image")}
    clock[0] += 2.0
    progress.step(1, lambda: {"loss": 1.5}, {}, check=False)
    clock[0] += 50.0
    progress.show_validation(1, numbers, seconds=50.0, best=True)
    clock[0] += 2.0
    progress.step(2, lambda: {"loss": 1.4}, {}, check=False)
    progress.close()
    said = capsys.readouterr().err
    assert "loss 1.500 3 samples/s held-out R@1 12.3 / 12.3 %" in said
    assert "loss 1.400 3 samples/s held-out R@1 12.3 / 12.3 %" in said


def scripted(monkeypatch, scores: dict[int, float], run: Path) -> None:
    """Validations give these scores, by the step whose report was the last to be written."""

    def score(*_: object) -> dict[str, float]:
        lines = (run / "metrics.jsonl").read_text().splitlines()
        step = max(json.loads(line)["step"] for line in lines)
        ways = dict.fromkeys(("image_to_text_R1", "text_to_image_R1", "R1"), scores[step])
        return {f"validation/{name}": n for name, n in ways.items()} | {
            "validation/n": 9,
            "validation/loss": 1.0,
        }

    monkeypatch.setattr("alignset.train.evaluate.validation.validation_scores", score)


def test_the_best_is_kept(shards, holdout, tmp_path, monkeypatch):
    run, step = tmp_path / "run", 6
    scripted(monkeypatch, {3: 10.0, 6: 30.0, 9: 30.0, 12: 20.0}, run)  # of equal ones, the first
    flags = (f"--validate={holdout}", "--log_every=3")
    assert train(shards, run, *flags) == 0
    best = run / "model-best"
    assert_model_is_of(best, run, step)
    assert_model_is_of(run / "model", run, 12)
    assert json.loads((best / "validation.json").read_text())["step"] == step
    _, loading = AlignModel.from_pretrained(best, output_loading_info=True)
    assert not any(loading.values())
    assert AlignProcessor.from_pretrained(best)
    assert not [path for path in run.iterdir() if path.suffix in (".tmp", ".old")]
    # A run that goes on from step 6 knows the best, and ends with the same.
    expected = {path.name: path.read_bytes() for path in best.iterdir()}, rows(run)
    shutil.rmtree(run / "model")
    for later in (9, 12):
        for path in (run / "checkpoints").glob(f"step_{later:09d}.*"):
            path.unlink()
    assert train(shards, run, *flags) == 0
    assert {path.name: path.read_bytes() for path in best.iterdir()} == expected[0]
    assert rows(run) == expected[1]


def test_the_best_on_other_pairs_is_no_mark(shards, holdout, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    scripted(monkeypatch, {3: 90.0, 6: 20.0}, run)
    flags = ("--steps=6", "--log_every=3", "--trackers=")
    assert train(shards, run, *flags, f"--validate={holdout}") == 0
    shutil.rmtree(run / "model")
    for path in (run / "checkpoints").glob("step_000000006.*"):
        path.unlink()
    capsys.readouterr()
    assert train(shards, run, *flags, f"--validate={shards}") == 0
    assert "was not chosen by these pairs: it is chosen anew" in capsys.readouterr().err
    assert_model_is_of(run / "model-best", run, 6)


def test_a_run_that_ends_within_a_validation_does_it_again(shards, holdout, tmp_path, monkeypatch):
    run = tmp_path / "run"
    scores = {3: 0.0, 9: 5.0, 12: 25.0}
    scripted(monkeypatch, scores, run)
    flags = (f"--validate={holdout}", "--log_every=3", "--trackers=")
    with pytest.raises(KeyError, match="6"):
        train(shards, run, *flags)
    assert_model_is_of(run / "model-best", run, 3)
    scores[6] = 20.0
    assert train(shards, run, *flags) == 0
    assert [row["step"] for row in rows(run)] == [3, 6, 9, 12]
    assert_model_is_of(run / "model-best", run, 12)


def test_what_cannot_be_validated_on_is_refused_at_the_start(shards: Path, tmp_path: Path, refused):
    empty = write_tar(tmp_path / "empty" / "empty.tar", {})
    bad = write_tar(tmp_path / "bad" / "bad.tar", {"a.png": b"none", "a.txt": b"a star"})
    for flags, text in (
        ([f"--validate={tmp_path / 'nowhere'}"], "error: --validate: no shards at '"),
        ([f"--validate={tmp_path}/{{0..3.tar"], "its braces do not match"),
        ([f"--validate={empty}"], "error: --validate: no pair with a readable image in '"),
        ([f"--validate={bad}"], "error: --validate: no pair with a readable image in '"),
        (
            [f"--validate={shards}", "--caption_field=nope"],
            "and a caption in --caption_field=nope in '",
        ),
        (["--validate_every=3"], "--validate_every is of no use without --validate=SHARDS"),
        (["--validate_pairs=3"], "--validate_pairs is of no use without --validate=SHARDS"),
        ([f"--validate={shards}", "--validate_every=0"], "validate_every must be at least 1"),
    ):
        refused(text, main, "--shards", shards, "--run", tmp_path / "run", *flags)
        assert not (tmp_path / "run").exists()
