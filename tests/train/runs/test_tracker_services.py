"""Weights & Biases and MLflow: stand-ins with their signatures record what they are told."""

import sys
from pathlib import Path

import numpy as np
import pytest

from alignset.train.errors import SettingsError
from alignset.train.runs.trackers import open_trackers
from tests.support.small_training import SETTINGS

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

def init(entity=None, project=None, dir=None, id=None, name=None, config=None, resume=None):
    CALLS.append(("init", project, name, id, dir, config["steps"], resume))
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
    told = (str(tmp_path), SETTINGS.steps, "allow")
    assert init == ("init", "alignset", tmp_path.name, None, *told)
    assert log == ("log", {"loss": 1.5}, 3)
    shown = [(image.shape, image.caption) for image in samples[1]["samples"]]
    assert (shown, samples[2]) == ([((8, 8, 3), "a"), ((8, 8, 3), "b")], 4)
    assert finish == ("finish",)
    open_trackers("wandb", tmp_path, SETTINGS, 5)
    assert calls()[-1] == ("init", "alignset", tmp_path.name, "made1", *told)


@pytest.mark.parametrize("calls", [("wandb", WANDB)], indirect=True)
def test_folders_of_one_name_are_two_runs_of_wandb(calls, tmp_path: Path):
    for experiment in ("A", "B", "A", "B"):
        run = tmp_path / experiment / "run"
        run.mkdir(parents=True, exist_ok=True)
        open_trackers("wandb", run, SETTINGS, 1)
    assert [call[3] for call in calls()] == [None, None, "made1", "made2"]


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


def test_a_package_that_is_not_installed_is_one_line(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(SettingsError, match="the tracker 'mlflow' can't be used") as raised:
        open_trackers("mlflow", tmp_path, SETTINGS, 1)
    assert "\n" not in str(raised.value)
