"""What a run shows: measures, its curve and card, trackers told; one that diverges is stopped."""

import dataclasses
import hashlib
import io
import json
import math
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from alignset.train.__main__ import main
from alignset.train.data.batches import Inputs, TextBuckets
from alignset.train.data.find_shards import ShardSet
from alignset.train.data.order import Position
from alignset.train.errors import Diverged, SettingsError
from alignset.train.optim.optimizer import GuardedStep, make_optimizer
from alignset.train.presets import TINY
from alignset.train.runs.model_card import CURVES, draw_curve, read_points, write_card
from alignset.train.runs.progress import (
    StepOutput,
    TensorBoard,
    batch_accuracy,
    measure,
    open_trackers,
)
from alignset.train.settings import Settings
from alignset.train.step import step_gradients
from tests.support.killed_runs import end, start
from tests.support.small_training import SETTINGS
from tests.support.tensorboard_files import events, text, values

SMALL = (
    *("--crop_px=32", "--resize_px=36", "--batch_size=8", "--steps=6", "--warmup_steps=0"),
    *("--checkpoint_every=2", "--log_every=3", "--vocabulary_size=60", "--samples_every=4"),
)
MIN_TEMPERATURE = 0.001
TOLD: list[tuple] = []  # what `Listener` was told


class Listener:
    """A user's tracker, which fails at the last report."""

    def __init__(self, run: Path, settings: dict, first_step: int):
        TOLD.append(("start", run.name, settings["batch_size"], first_step))

    def scalars(self, step: int, values: dict) -> None:
        TOLD.append(("scalars", step, values))
        if step == 6:
            raise OSError("no network")

    def samples(self, step: int, pixels: np.ndarray, texts: list[str]) -> None:
        TOLD.append(("samples", step, pixels.shape, texts))

    def close(self) -> None:
        TOLD.append(("close",))


def train(shards: Path, run: Path, *flags: str) -> int:
    return main(["--shards", str(shards), "--run", str(run), *SMALL, *flags])


def measured(*, loss: float = 2.0, temperature: float = 0.5, gradient: float = 3.0) -> dict:
    """The measures of a step whose other gradient is 4. Image 0 is nearest to its own text, image 1
    to text 0; both texts to their own image."""
    model = torch.nn.Linear(2, 1)
    model.temperature, model.min_temperature = torch.tensor(temperature), MIN_TEMPERATURE
    model.weight.grad, model.bias.grad = torch.tensor([[gradient, 0.0]]), torch.tensor([4.0])
    guard = GuardedStep(model, make_optimizer(model, SETTINGS), SETTINGS)
    guard.step(9)
    images = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    last = Inputs(torch.zeros(0), TextBuckets([], torch.zeros(0)), [], Position())
    output = StepOutput(torch.tensor(loss), images, torch.eye(2), last)
    return measure(9, output, model, guard, SETTINGS)


def test_measures_by_hand():
    some = {"accuracy": 0.75, "temperature": 0.5, "skipped": 0}
    assert measured() == {"loss": 2, "gradient_norm": 5} | some
    assert measured(loss=math.nan, gradient=math.inf) == some | {"skipped_steps": 1}
    rows = torch.eye(1030)  # more than are looked at at once
    assert batch_accuracy(rows, rows.roll(1, 0)).item() == 0
    assert batch_accuracy(rows, rows).item() == 1
    measured(temperature=1.1 * MIN_TEMPERATURE)
    for numbers, says in (
        ({"loss": math.nan}, "the loss is nan at step 9: try a lower --learning_rate"),
        ({"temperature": math.inf}, "the temperature is inf"),
        ({"temperature": MIN_TEMPERATURE}, "where little more is learned: try a lower"),
    ):
        with pytest.raises(Diverged, match=says) as raised:
            measured(**numbers)
        assert "\n" not in str(raised.value)


def spoil(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """The gradients of these steps are not numbers."""

    def spoiled(replica, micro_batches, settings, step):
        output = step_gradients(replica, micro_batches, settings, step)
        if step in steps:
            next(p for p in replica.parameters() if p.grad is not None).grad.fill_(math.nan)
        return output

    monkeypatch.setattr("alignset.train.loop.step_gradients", spoiled)


def test_bad_steps_do_not_end_a_run(shards, tmp_path, monkeypatch, capsys):
    """It goes on as if they had not been, two in a row as well."""
    spoil(monkeypatch, 3, 4)
    run = tmp_path / "run"
    assert train(shards, run, "--trackers=") == 0
    assert not (run / "tensorboard").exists()
    rows = [json.loads(row) for row in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row.get("skipped_steps") for row in rows] == [1, 2]
    state = torch.load(run / "checkpoints" / "step_000000006.pt")
    assert state["skipped_steps"] == 2
    assert {int(s["step"]) for s in state["optimizer"]["state"].values()} == {4}
    assert train(shards, tmp_path / "strict", "--trackers=", "--max_skipped_steps=1") == 1
    assert "of 2 steps up to step 4, the last 2 in a row, was no" in capsys.readouterr().err


def test_a_checkpoint_of_a_bad_step_is_that_of_the_step_before(shards, tmp_path, monkeypatch):
    """Where one is due, where the run is stopped, and at the last step."""
    spoil(monkeypatch, 4, 6)
    run = tmp_path / "run"
    assert train(shards, run, "--trackers=", "--checkpoint_every=1", "--keep_checkpoints=6") == 0
    paths = sorted((run / "checkpoints").glob("*.pt"))
    states = [torch.load(path) for path in paths]
    assert [state["step"] for state in states] == [*range(1, 7)]
    for bad in (4, 6):
        before, behind = states[bad - 2], states[bad - 1]
        assert all(torch.equal(v, behind["model"][name]) for name, v in before["model"].items())
        assert behind["processes"][0]["position"]["samples"] == 8 * bad

    stopped = tmp_path / "stopped"
    asked = iter([0] * 4 + [2])  # first, whether the start failed anywhere
    with monkeypatch.context() as patch:
        patch.setattr("alignset.train.runs.processes.greatest_of_all", lambda _: next(asked))
        assert train(shards, stopped, "--trackers=", "--checkpoint_every=100") == 130
    (path,) = (stopped / "checkpoints").glob("*.pt")
    assert path.name == "step_000000004.pt"
    model = torch.load(path)["model"]
    assert all(torch.equal(v, model[name]) for name, v in states[3]["model"].items())


def test_a_run_is_seen_by_its_trackers(shards, tmp_path, capsys):
    TOLD.clear()
    trackers = f"--trackers=tensorboard,{__name__}:Listener"
    assert train(shards, tmp_path / "run", trackers) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("step ")]
    for word in ("loss", "accuracy", "temperature", "gradient norm", "samples/s", "left"):
        assert word in lines[0]
    rows = [json.loads(row) for row in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [3, 6]
    assert [(what, *rest) for what, *rest in TOLD if what == "start"] == [("start", "run", 8, 1)]
    scalars = [(step, numbers) for what, step, numbers in (t for t in TOLD if t[0] == "scalars")]
    assert scalars == [(row.pop("step"), row) for row in map(dict, rows)]
    shown = [t[1:] for t in TOLD if t[0] == "samples"]
    assert [(step, shape) for step, shape, _ in shown] == [(1, (8, 32, 32, 3)), (4, (8, 32, 32, 3))]
    assert all(len(texts) == 8 and "picture" in texts[0] for _, _, texts in shown)
    assert train(shards, tmp_path / "other", "--trackers=nowhere:Thing") == 2
    assert TOLD[-1][:2] == ("scalars", 6)  # it failed there, and was left out: no close
    losses = {step: v.simple_value for step, v in values(tmp_path / "run", "loss").items()}
    assert losses == {row["step"]: pytest.approx(row["loss"]) for row in rows}
    assert shown[1][2][0] in text(values(tmp_path / "run", "samples/texts/text_summary")[4])


def test_a_diverging_run_stops_with_a_line_and_keeps_no_checkpoint_of_it(shards, tmp_path, capsys):
    run = tmp_path / "run"
    assert train(shards, run, "--learning_rate=1000") == 1
    error = capsys.readouterr().err
    assert "try a lower --learning_rate or more --warmup_steps, in a new --output" in error
    assert error.startswith("reading 2 shards once")
    assert error.count("\n") == 4  # the memory of the first step, which went well
    assert not (run / "checkpoints").exists()
    assert not (run / "model").exists()


@pytest.mark.slow
def test_of_two_processes_that_diverge_one_says_so(shards, tmp_path):
    log, flags = tmp_path / "log", [*SMALL, "--learning_rate=1000"]
    started = start(["--shards", str(shards), "--run", str(tmp_path / "run"), *flags], 2, log)
    assert end(started) == [1, 1]
    said = log.read_text()
    assert (said.count("error:"), said.count("try a lower --learning_rate")) == (1, 1)
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert len([*(tmp_path / "run" / "tensorboard").iterdir()]) == 1  # the first one alone tracks


def test_tensorboard_holds_what_it_was_told(tmp_path: Path):
    (tracker,) = open_trackers("tensorboard", tmp_path, TINY, 1)
    pixels = np.zeros((4, 8, 8, 3), np.uint8)
    pixels[1] = (250, 10, 20)
    tracker.samples(1, pixels, ["a dog", "*a*\nred <b>square</b>", "x", "y"])
    tracker.scalars(5, {"loss": 2.5, "epoch": 0})
    tracker.scalars(10, {"loss": 1.5, "epoch": 1})
    tracker.close()
    assert {step: v.simple_value for step, v in values(tmp_path, "loss").items()} == {
        5: 2.5,
        10: 1.5,
    }
    assert "    batch_size = 128" in text(values(tmp_path, "settings/text_summary")[0])
    lines = text(values(tmp_path, "samples/texts/text_summary")[1]).splitlines()
    assert lines[:2] == ["    1. a dog", "    2. *a* red <b>square</b>"]
    grid = Image.open(io.BytesIO(values(tmp_path, "samples/images")[1].image.encoded_image_string))
    assert grid.size == (32, 8)  # rows of up to eight
    assert [grid.getpixel((4 + 8 * i, 4)) for i in range(3)] == [(0,) * 3, (250, 10, 20), (0,) * 3]


def test_a_resumed_run_purges_what_it_does_again(tmp_path: Path):
    first = TensorBoard(tmp_path, {}, 1)
    first.scalars(10, {"loss": 1.0})
    first.close()
    again = TensorBoard(tmp_path, {}, 7)
    again.close()
    # TensorBoard hides what earlier files have at and after the step of such a session log.
    starts = [e.step for e in events(tmp_path) if e.HasField("session_log")]
    assert starts[-1] == 7


def test_a_full_disk_is_told_and_holds_nobody_up(tmp_path: Path):
    # A file that takes no more than 2,000 bytes, as of a full disk.
    tracker = TensorBoard(tmp_path, {}, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            all(tracker.scalars(step, {"loss": 1.0}) is None for step in range(1, 200))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_tracker_that_cannot_be_made_is_refused(tmp_path: Path):
    for name, says in (
        ("nowhere:A", "the tracker 'nowhere:A' can't be used"),
        ("alignset.train.runs.progress:B", "can't be used"),
        ("json:loads", "can't be used"),
    ):
        with pytest.raises(SettingsError, match=says) as raised:
            open_trackers(f"tensorboard,{name}", tmp_path, TINY, 1)
        assert "\n" not in str(raised.value)
    says = "there is no tracker 'wandb' here: pass tensorboard, or a class of your own"
    with pytest.raises(SettingsError, match=says):
        dataclasses.replace(TINY, trackers="tensorboard,wandb")


def test_points_are_read_of_rows_that_have_them(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    assert [read_points(path, name) for name in CURVES] == [[], []]
    rows = [{"step": 1, "loss": 2.5}, {"step": 2, "validation/R1": 7}, {"loss": 1}, [], 3]
    lines = [json.dumps(row) for row in rows]
    huge = "1" + "0" * 400
    lines += [f'{{"step": 5, "loss": {huge}}}', f'{{"step": {huge}, "loss": 1}}', "[" * 99_999]
    lines += ['{"step": 3, "loss": NaN}', "\udcff", '{"step": 4, "lo']
    path.write_text("\n".join(lines), errors="surrogateescape")
    assert [read_points(path, name) for name in CURVES] == [[(1, 2.5)], [(2, 7.0)]]


@pytest.mark.parametrize("count", [1, 2, 50_000])
def test_a_falling_loss_falls_and_a_rising_recall_rises(tmp_path: Path, count: int):
    steps = range(1, count + 1)
    loss = [(step, 4.0 - 3.0 * step / count) for step in steps]
    recall = [(step, 80.0 * step / count) for step in steps]
    draw_curve(loss, recall, tmp_path / "curve.png")
    pixels = np.array(Image.open(tmp_path / "curve.png"))
    assert pixels.shape == (360, 800, 3)
    falls, rises = heights(pixels, (31, 119, 180)), heights(pixels, (214, 96, 20))
    assert rises[-1] < 80  # px from above, at the last step
    if count == 50_000:
        assert falls[0] < rises[0] < 311 > falls[-1] > 200
        assert (np.diff(falls) >= 0).all()
        assert (np.diff(rises) <= 0).all()
    draw_curve([(5, 0.0), (10, 0.0)], [], tmp_path / "curve.png")  # neither validations nor a loss


def heights(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Where a line is, px from above, at columns between the scales."""
    inside = (pixels[50:310, 70:744] == colour).all(axis=2)
    columns = inside.any(axis=0)
    return 50 + np.array([np.flatnonzero(inside[:, x]).mean() for x in np.flatnonzero(columns)])


METRICS = [
    {"step": 4, "loss": 3.5, "samples_per_second": 7},
    {"step": 4, "validation/R1": 25.0},
    {"step": 8, "loss": 2.25},
    {"step": 8, "validation/R1": 20.0, "validation/n": 83},
]


def made_set(out: Path, manifest: object = None) -> tuple[str, ...]:
    """Two shards, and a manifest that has the sums of them where it is a dictionary."""
    (out / "shards").mkdir(parents=True)
    sums = {}
    for name in ("00000", "00001"):
        data = f"{out.name}/{name}".encode()
        (out / "shards" / f"{name}.tar").write_bytes(data)
        sums[name] = {"pairs": 3, "sha256": hashlib.sha256(data).hexdigest()}
    if isinstance(manifest, dict):
        manifest = json.dumps({"shards": sums} | manifest)
    if manifest is not None:
        text = manifest if isinstance(manifest, str) else json.dumps(manifest)
        (out / "manifest.json").write_text(text)
    return tuple(str(out / "shards" / f"{name}.tar") for name in sums)


def card_of(run: Path, *sets: ShardSet, settings: Settings = SETTINGS) -> str:
    run.mkdir(exist_ok=True)
    write_card(run, run, settings, list(sets))
    return (run / "README.md").read_text()


def test_a_card_tells_data_settings_and_course(tmp_path: Path):
    manifest = {
        "pairs": 3851,
        "input": [{}, {}],
        "rules": {"min_image_side": 200, "language": "en"},
        "evaluation_images": {"imagenet": {}},
        "holdout": {"00000": {"pairs": 80, "sha256": ""}, "00001": {"pairs": 3, "sha256": ""}},
        "fetched": {"first": "2026-11-25", "last": "2026-11-26"},
    }
    shards = made_set(tmp_path / "OUT", manifest)
    for number, earlier in enumerate(('{"evaluation_images": {"exam": {}}, "pairs": 7}', "[", "3")):
        folder = tmp_path / f"OUT/history/{number}"
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(earlier)
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in METRICS))
    card = card_of(run, ShardSet(shards), settings=replace(SETTINGS, seed=77, optimizer="adamw"))
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front)["library_name"] == "transformers"
    for told in (
        "2 shards, beginning with `00000.tar`",
        hashlib.sha256((tmp_path / "OUT" / "manifest.json").read_bytes()).hexdigest(),
        "| pairs | 3,851: 83 are held out and 3,768 are to train on |",
        "| images were fetched | from 2026-11-25 to 2026-11-26 |",
        "| input files | 2 |",
        "| rule `min_image_side` | 200 |",
        "kept out | imagenet |",
        "The sets that it was made of had, before that:\n\n| | |\n|---|---|\n| pairs | 7 |\n",
        "| evaluation images that were kept out | exam |",
        "| last loss | 2.25, at step 8 |",
        "| 20.0 %, among 83 images (by chance 1.2 %) |",
        "| the best, which `model-best` is of | 25.0 %, at step 4 |",
        "| `seed` | 77 |",
        "| `beta2` | 0.98 |",
        'from_pretrained("model")',
        "![The loss and what validations gave, by step](curve.png)",
    ):
        assert told in body
    assert "decode_threads" not in body  # which is not a matter of what was learned
    assert (run / "curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "manifest",
    [
        None,
        "{",
        "[1]",
        "[" * 100_000,
        {"rules": 3, "input": "x", "evaluation_images": [1]},
        {"rules": {"<script>`|": "</td>|\n# a heading\n" + "x" * 10_000, "\ud800": "\ud800"}},
    ],
    ids=["none", "cut", "a list", "deep", "other types", "markup"],
)
def test_a_card_of_any_manifest(tmp_path: Path, manifest):
    card = card_of(tmp_path / "run", ShardSet(made_set(tmp_path / "OUT", manifest)))
    assert "Nothing was measured on the way." in card
    assert not (tmp_path / "run" / "curve.png").exists()
    assert "<script>" not in card
    assert "\n# a heading" not in card
    assert max(map(len, card.splitlines())) < 400
    assert ("No manifest" in card) == (not isinstance(manifest, dict))


def test_no_secret_of_a_shards_name_is_told(tmp_path: Path):
    for shard, told in (
        ("pipe:curl -H 'Authorization: secret' https://a/0.tar -o -", "the output of a command"),
        ("https://host/b/00007.tar?signature=secret/x", "`00007.tar`"),
        ("gs://bucket/b/00007.tar", "`00007.tar`"),
    ):
        sets = ShardSet((shard,), 3.0), ShardSet(("/a/1.tar",))
        card = card_of(tmp_path / "run", *sets, settings=replace(SETTINGS, start_from="a|b"))
        assert f"1 shard, beginning with {told}, weight 3.\n" in card
        assert "secret" not in card
        assert "# ALIGN, from a&#124;b" in card


def test_each_folder_has_its_own_manifest_and_no_other(tmp_path: Path, monkeypatch):
    run, of_a = tmp_path / "run", made_set(tmp_path / "A", {"pairs": 111})
    of_b, of_c = made_set(tmp_path / "B", {"pairs": 222}), made_set(tmp_path / "C")
    card = card_of(run, ShardSet((*of_a, *of_b, *of_c)))
    assert [card.count(told) for told in ("| pairs | 111 |", "| pairs | 222 |")] == [1, 1]
    assert card.count("2 shards, beginning with `00000.tar`.") == 3
    assert card.count("No manifest") == 1
    monkeypatch.chdir(tmp_path / "A" / "shards")
    Path("manifest.json").write_text('{"pairs": 222}')
    commands = ("pipe:cat 00000.tar", "pipe:cat shards/00000.tar")
    for shards, counts in ((("00000.tar",), [1, 0]), (commands, [0, 0]), (of_a, [1, 0])):
        card = card_of(run, ShardSet(shards))  # a manifest is in the folder above its shards
        assert [card.count(f"| pairs | {n} |") for n in (111, 222)] == counts
    Path(of_a[0]).write_bytes(b"of another set")
    assert "No manifest" in card_of(run, ShardSet(of_a))
