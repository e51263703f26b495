"""Trackers: TensorBoard's files read back, one of a user's own, and one that fails."""

import io
import resource
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alignset.train.errors import SettingsError
from alignset.train.presets import TINY
from alignset.train.runs.trackers import TensorBoard, open_trackers
from tests.support.small_training import SETTINGS
from tests.support.tensorboard_files import events, text, values


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


def test_a_tracker_that_cannot_be_made_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)  # not installed
    for name in ("nowhere:A", "alignset.train.runs.trackers:B", "train", "json:loads", "mlflow"):
        with pytest.raises(SettingsError, match="tracker '" + name) as raised:
            open_trackers(f"tensorboard,{name}", tmp_path, TINY, 1)
        assert "\n" not in str(raised.value)


# Stand-ins with the signatures of Weights & Biases and of MLflow, which record how they are called.
WANDB = """
CALLS = []

class Image:
    def __init__(self, data_or_path, mode=None, caption=None):
        self.shape, self.caption = data_or_path.shape, caption

class Run:
    def __init__(self, id):
        self.id = id

    def log(self, data, step=None, commit=None):
        CALLS.append(("log", data, step))

    def finish(self, exit_code=None):
        CALLS.append(("finish",))

def init(
    entity=None, project=None, dir=None, id=None, name=None, tags=None, config=None, resume=None
):
    CALLS.append(("init", project, name, id, dir, config["steps"], resume, entity, tags))
    return Run(id or f"made{len(CALLS)}")
"""
MLFLOW = """
from types import SimpleNamespace

CALLS = []

def set_experiment(experiment_name=None, experiment_id=None):
    CALLS.append(("experiment", experiment_name))

def start_run(run_id=None, experiment_id=None, run_name=None):
    CALLS.append(("start", run_id, run_name))
    return SimpleNamespace(info=SimpleNamespace(run_id=run_id or "abc"))

def log_params(params, synchronous=None):
    CALLS.append(("params", params["steps"]))

def log_metrics(metrics, step=None, synchronous=None):
    CALLS.append(("metrics", metrics, step))

def log_image(image, artifact_file=None):
    CALLS.append(("image", image.shape, artifact_file))

def log_text(text, artifact_file):
    CALLS.append(("text", text, artifact_file))

def end_run(status="FINISHED"):
    CALLS.append(("end",))
"""
PIXELS = np.zeros((2, 8, 8, 3), np.uint8)


@pytest.fixture
def calls(request, tmp_path: Path, monkeypatch):
    """Has a stand-in imported for the package; gives how it was called."""
    name, source = request.param
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    yield lambda: sys.modules[name].CALLS
    sys.modules.pop(name, None)


@pytest.mark.parametrize("calls", [("wandb", WANDB)], indirect=True)
def test_wandb(calls, tmp_path: Path):
    (tracker,) = open_trackers("wandb", tmp_path, SETTINGS, 1)
    tracker.scalars(3, {"loss": 1.5})
    tracker.samples(4, PIXELS, ["a", "b"])
    tracker.close()
    init, log, samples, finish = calls()
    told = (str(tmp_path), SETTINGS.steps, "allow", None, [])
    assert init == ("init", "alignset", tmp_path.name, None, *told)
    assert log == ("log", {"loss": 1.5}, 3)
    shown = [(image.shape, image.caption) for image in samples[1]["samples"]]
    assert (shown, samples[2]) == ([((8, 8, 3), "a"), ((8, 8, 3), "b")], 4)
    assert finish == ("finish",)
    open_trackers("wandb", tmp_path, SETTINGS, 5)
    assert calls()[-1] == ("init", "alignset", tmp_path.name, "made1", *told)
    names = {"wandb_project": "p", "wandb_entity": "team", "wandb_name": "n", "wandb_tags": "a, b"}
    open_trackers("wandb", tmp_path, replace(SETTINGS, **names), 5)
    assert calls()[-1] == ("init", "p", "n", "made1", *told[:3], "team", ["a", "b"])


@pytest.mark.parametrize("calls", [("mlflow", MLFLOW)], indirect=True)
def test_mlflow_goes_on_with_its_run(calls, tmp_path: Path):
    (tracker,) = open_trackers("mlflow", tmp_path, SETTINGS, 1)
    tracker.scalars(3, {"loss": 1.5})
    tracker.samples(4, PIXELS, ["a", "b"])
    tracker.close()
    assert calls() == [
        ("experiment", "alignset"),
        ("start", None, tmp_path.name),
        ("params", SETTINGS.steps),
        ("metrics", {"loss": 1.5}, 3),
        ("image", (8, 8, 3), "samples/000000004_00.png"),
        ("image", (8, 8, 3), "samples/000000004_01.png"),
        ("text", "a\nb", "samples/000000004.txt"),
        ("end",),
    ]
    open_trackers("mlflow", tmp_path, SETTINGS, 5)
    assert calls()[-1] == ("start", "abc", None)
