"""A run that goes on differently: more steps, other micro-batches, other processes, a stop."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from alignset.train.__main__ import main
from alignset.train.runs.run_folder import hold_run
from tests.support.killed_runs import SMALL, end, outcome, start
from tests.support.root import ROOT
from tests.support.train_shards import colour_files, colour_shards, write_tar

pytestmark = pytest.mark.numeric

FLAGS = (*SMALL, "--batch_size=12", "--max_skipped_share=0.5")
# A tracker, by which a step takes longer than the command's watch over signals has patience.
SLOW = """
import time
class Slow:
    def __init__(self, *about): pass
    def scalars(self, step, values): time.sleep(0.5)
    def samples(self, step, pixels, texts): pass
    def close(self): pass
"""


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    write_tar(folder / "0.tar", colour_files(0, 31))
    write_tar(folder / "1.tar", colour_files(40, 1))
    write_tar(folder / "2.tar", colour_files(60, 7) | {"x.png": b"", "x.txt": b"bad"})
    return folder


def train(shards: Path, run: Path, *flags: str) -> int:
    return main(["--shards", str(shards), "--run", str(run), *FLAGS, *flags])


@pytest.fixture(scope="module")
def two_steps(shards, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    assert train(shards, run, "--steps=2") == 0
    return run


@pytest.fixture
def run(two_steps: Path, tmp_path: Path, capsys) -> Path:
    """A run of two steps that goes on."""
    capsys.readouterr()
    return shutil.copytree(two_steps, tmp_path / "run")


def test_more_steps_and_other_micro_batches_are_told_in_a_line(
    run: Path, shards, two_steps, capsys
):
    with hold_run(run):
        assert train(shards, run, "--steps=4", "--micro_batch_size=6") == 2
    assert "is being trained already" in capsys.readouterr().err
    assert train(shards, run, "--steps=4", "--micro_batch_size=6") == 0
    printed = capsys.readouterr().err.splitlines()
    assert printed[0] == (
        f"{run} resumes with other settings: steps was 2, is 4; micro_batch_size was 128, is 6"
    )
    assert "resuming after step 2 of 4" in printed
    model = "model/model.safetensors"
    assert (run / model).read_bytes() != (two_steps / model).read_bytes()
    config = (run / "config.json").read_bytes()
    assert json.loads(config)["settings"]["steps"] == 4
    assert train(shards, run, "--steps=3", "--micro_batch_size=12") == 0  # it has had as many
    assert capsys.readouterr().err.startswith(f"{run} is finished")
    assert (run / "config.json").read_bytes() == config  # it was made with this


def test_other_versions_are_told_in_a_line(run: Path, shards, capsys, monkeypatch):
    monkeypatch.setattr("alignset.train.runs.run_folder.version", lambda package: f"{package} 0")
    assert train(shards, run, "--steps=2") == 0
    assert "other versions" not in capsys.readouterr().err  # nothing is trained by them
    assert train(shards, run, "--steps=3") == 0
    line = capsys.readouterr().err.splitlines()[1]
    assert line.startswith(f"{run} resumes with other versions: numpy was '")
    assert "is 'torch 0'" in line
    assert json.loads((run / "config.json").read_text())["versions"]["torch"] == "torch 0"


def test_settings_of_an_older_version_have_their_default_or_are_gone(run: Path, shards, capsys):
    config = json.loads((run / "config.json").read_text())
    del config["settings"]["schedule"]
    config["settings"]["wandb_project"] = "mine"
    (run / "config.json").write_text(json.dumps(config))
    assert train(shards, run, "--steps=3", "--schedule=cosine") == 2
    assert "(schedule was 'linear', is 'cosine')" in capsys.readouterr().err
    assert train(shards, run, "--steps=2") == 0
    assert "schedule" not in capsys.readouterr().err


def test_a_kill_between_more_steps_and_the_first_of_them_loses_none(run: Path, shards, monkeypatch):
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("alignset.train.loop.read_shards", killed)
        assert train(shards, run, "--steps=3") == 130
    assert train(shards, run, "--steps=3") == 0
    assert (run / "checkpoints" / "step_000000003.pt").exists()


@pytest.mark.slow
def test_another_number_of_processes_begins_the_next_epoch(shards, tmp_path):
    """2, then 3, then 3 again, then 1, each within an epoch of 40 samples."""
    run, log = tmp_path / "run", tmp_path / "log"
    for processes, steps in ((2, 2), (3, 3), (3, 4), (1, 6)):
        flags = ["--shards", str(shards), "--run", str(run), *FLAGS, f"--steps={steps}"]
        flags += ["--keep_checkpoints=9", "--learning_rate=0.01", "--warmup_steps=1"]
        assert end(start(flags, processes, log)) == [0] * processes, log.read_text()
    printed = log.read_text()
    for line in (
        "resuming after step 2 of 3, with 3 processes, which were 2: they begin the next epoch",
        "resuming after step 3 of 4\n",
        "resuming after step 4 of 6, with 1 processes, which were 3: they begin the next epoch",
    ):
        assert line in printed
    cursors = {}
    for path in (run / "checkpoints").glob("*.pt"):
        state = torch.load(path)
        cursors[state["step"]] = [part["position"]["cursors"] for part in state["processes"]]
    epochs = {step: {epoch for ((epoch, _),) in of} for step, of in cursors.items()}
    assert epochs == {2: {0}, 3: {1}, 4: {1}, 6: {2}}
    # 24 pairs, and perhaps the bad one.
    (((_, taken),),) = cursors[6]
    assert taken in (24, 25)


@pytest.mark.slow
def test_tasks_of_slurm_are_one_run(shards, tmp_path):
    """Two tasks with the variables that srun sets, and no others, are stopped by a warning."""
    run, log, job = tmp_path / "run", tmp_path / "log", str(os.getpid())
    flags = ["--shards", str(shards), "--run", str(run), *FLAGS, "--checkpoint_every=1000"]
    command = [sys.executable, "-m", "alignset.train", *flags]

    def tasks(steps: int) -> list[subprocess.Popen]:
        started = []
        for rank in range(2):
            step = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": str(rank), "SLURM_JOB_ID": job}
            step |= {"SLURM_LOCALID": str(rank), "SLURM_STEP_NODELIST": "localhost"}
            with log.open("a") as file:
                more = {"PYTHONPATH": str(ROOT)} | step
                whole = [*command, f"--steps={steps}"]
                started.append(subprocess.Popen(whole, stderr=file, env=os.environ | more))
        return started

    first, other = tasks(10_000)
    metrics = run / "metrics.jsonl"
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 2:
        assert first.poll() is None, log.read_text()
        time.sleep(0.01)
    other.send_signal(signal.SIGUSR1)  # one is enough
    assert [first.wait(), other.wait()] == [130, 130], log.read_text()
    (kept,) = (run / "checkpoints").glob("*.pt")
    steps = int(kept.stem.removeprefix("step_"))
    assert len(torch.load(kept)["processes"]) == 2
    assert [process.wait() for process in tasks(steps + 1)] == [0, 0], log.read_text()
    assert f"resuming after step {steps} of {steps + 1}\n" in log.read_text()


def test_a_warning_before_the_first_step_ends_the_run_too(shards, tmp_path, monkeypatch):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    kept = {of: signal.getsignal(of) for of in (signal.SIGTERM, signal.SIGUSR1)}
    signal.signal(signal.SIGTERM, stop)  # as the command does
    warn = lambda *_: signal.raise_signal(signal.SIGUSR1)  # noqa: E731
    monkeypatch.setattr("alignset.train.loop.read_shards", warn)
    try:
        assert train(shards, tmp_path / "run", "--steps=3") == 130
    finally:
        for of, handler in kept.items():
            signal.signal(of, handler)


def test_checkpoints_come_by_the_clock_too(shards, tmp_path):
    flags = ["--checkpoint_every_minutes=1e-9", "--checkpoint_every=100", "--keep_checkpoints=9"]
    assert train(shards, tmp_path / "run", *flags, "--steps=3") == 0
    assert len([*(tmp_path / "run/checkpoints").glob("*.pt")]) == 3


def test_sigterm_is_a_checkpoint_and_then_the_end(tmp_path):
    """Between two checkpoints that are due; behind it, the run ends with the same bytes."""
    shards = colour_shards(tmp_path / "shards")
    flags = ["--shards", str(shards), *FLAGS, "--steps=12", "--checkpoint_every=1000"]
    assert main([*flags, "--run", str(tmp_path / "whole")]) == 0
    run = tmp_path / "run"
    log, metrics = tmp_path / "log", run / "metrics.jsonl"
    (tmp_path / "slow.py").write_text(SLOW)
    command = [sys.executable, "-m", "alignset.train", *flags, "--run", str(run)]
    # Other tests of this process may have set its threads, which share sums out differently.
    more = {"PYTHONPATH": f"{ROOT}:{tmp_path}", "OMP_NUM_THREADS": str(torch.get_num_threads())}
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, "--trackers=slow:Slow"], stderr=file, env=os.environ | more
        )
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 130
    assert log.read_text().endswith("stopped; the same command resumes from the last checkpoint\n")
    (kept,) = (run / "checkpoints").glob("*.pt")
    assert int(kept.stem.removeprefix("step_")) >= 2
    assert not (run / "model").exists()
    assert main([*flags, "--run", str(run)]) == 0
    ended, whole = outcome(run), outcome(tmp_path / "whole")
    assert {n: v for n, v in ended.items() if "numpy" not in n} == {  # nothing draws from it
        n: v for n, v in whole.items() if "numpy" not in n
    }
