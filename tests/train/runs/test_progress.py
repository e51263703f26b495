"""What a run shows: measures by hand, trackers told, and a run that diverges is stopped."""

import json
import math
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch

from alignset.train.__main__ import main
from alignset.train.errors import Diverged
from alignset.train.optim.guarded_step import GuardedStep
from alignset.train.optim.optimizer import make_optimizer
from alignset.train.runs.progress import StepOutput, in_batch_accuracy, measure
from alignset.train.step import step_gradients
from tests.support.forks import start
from tests.support.small_training import SETTINGS
from tests.support.tensorboard_files import text, values
from tests.support.train_shards import colour_shards

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


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    return colour_shards(tmp_path_factory.mktemp("shards"))


def train(shards: Path, run: Path, *flags: str) -> int:
    return main(["--shards", str(shards), "--run", str(run), *SMALL, *flags])


def measured(*, loss: float = 2.0, temperature: float = 0.5, gradient: float = 3.0) -> dict:
    """Of a step whose other gradient is 4. Image 0 is nearest to its own text, image 1 to text 0;
    both texts to their own image."""
    model = torch.nn.Linear(2, 1)
    model.temperature, model.min_temperature = torch.tensor(temperature), MIN_TEMPERATURE
    model.weight.grad, model.bias.grad = torch.tensor([[gradient, 0.0]]), torch.tensor([4.0])
    guard = GuardedStep(model, make_optimizer(model, SETTINGS), SETTINGS)
    guard.step(9)
    images = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    return measure(9, StepOutput(torch.tensor(loss), images, torch.eye(2), None), model, guard)


def test_measures_by_hand():
    some = {"accuracy": 0.75, "temperature": 0.5}
    assert measured() == {"loss": 2, "gradient_norm": 5} | some
    assert measured(loss=math.nan, gradient=math.inf) == some | {"skipped_steps": 1}
    rows = torch.eye(1030)  # more than are looked at at once
    assert in_batch_accuracy(rows, rows.roll(1, 0)).item() == 0
    assert in_batch_accuracy(rows, rows).item() == 1
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
    asked = iter([False] * 4 + [True])  # first, whether the start failed anywhere
    with monkeypatch.context() as patch:
        patch.setattr("alignset.train.runs.processes.any_of_all", lambda _: next(asked))
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
    assert "try a lower --learning_rate or more --warmup_steps, in a new --run" in error
    assert error.startswith("reading 2 shards once")
    assert error.count("\n") == 3  # the memory of the first step, which went well
    assert not (run / "checkpoints").exists()
    assert not (run / "model").exists()


@pytest.mark.slow
def test_of_two_processes_that_diverge_one_says_so(shards, tmp_path):
    flags = ["--shards", shards, "--run", tmp_path / "run", *SMALL, "--learning_rate=1000"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    both = [
        start(
            "alignset.train.__main__:main",
            *flags,
            env=os.environ | group | {"RANK": str(rank)},
        )
        for rank in range(2)
    ]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [1, 1]
    assert "try a lower --learning_rate" in said[0]
    assert "error:" not in said[1]
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert len([*(tmp_path / "run" / "tensorboard").iterdir()]) == 1  # the first one alone tracks
