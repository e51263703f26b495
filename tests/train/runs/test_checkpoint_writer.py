"""Checkpoints written beside the training: a copy, one at a time; what goes wrong is told early."""

import errno
import threading
from pathlib import Path

import pytest
import torch

from alignset.train.__main__ import main
from alignset.train.runs import checkpoint_writer
from alignset.train.runs.checkpoint_writer import CheckpointWriter
from alignset.train.runs.checkpoints import load_last_checkpoint, save_checkpoint
from tests.support.train_shards import colour_shards


def test_what_is_written_is_a_copy(tmp_path, monkeypatch):
    going = threading.Event()

    def slowly(folder, state, *, keep):
        going.wait()
        return save_checkpoint(folder, state, keep=keep)

    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", slowly)
    weights = torch.ones(3)
    with CheckpointWriter(tmp_path, keep=1) as writer:
        writer.save({"step": 1, "model": {"w": weights}, "processes": [weights, 2]})
        weights += 1
        writer.check()  # waits for nothing
        going.set()
        writer.wait()
        assert load_last_checkpoint(tmp_path)["model"]["w"].tolist() == [1, 1, 1]
        writer.save({"step": 2, "model": {"w": weights}})
    state = load_last_checkpoint(tmp_path)  # leaving has waited
    assert (state["step"], state["model"]["w"].tolist()) == (2, [2, 2, 2])
    assert len(list(tmp_path.glob("*.pt"))) == 1


@pytest.mark.parametrize("call", ["check", "wait", "save", "leaving"])
def test_an_error_is_raised_once_by_the_next_call(tmp_path, call: str):
    (tmp_path / "file").touch()
    writer = CheckpointWriter(tmp_path / "file", keep=1)

    def calls() -> None:
        with writer:
            writer.save({"step": 1})
            while any(thread.name == "checkpoint" for thread in threading.enumerate()):
                pass
            if call == "save":
                writer.save({"step": 2})
            elif call != "leaving":
                getattr(writer, call)()

    with pytest.raises(OSError, match="file"):
        calls()
    writer.check()


def test_a_failed_checkpoint_ends_a_run_before_the_next_is_due(tmp_path: Path, monkeypatch, capsys):
    steps = []

    def failing(folder, state, *, keep):
        raise OSError(errno.ENOSPC, "no space left")

    def after_step(_: object) -> bool:
        steps.append(1)
        while len(steps) > 3 and any(t.name == "checkpoint" for t in threading.enumerate()):
            pass
        return False

    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", failing)
    monkeypatch.setattr("alignset.train.runs.stopping.StopRequest.after_step", after_step)
    flags = ["--crop_px=32", "--resize_px=36", "--batch_size=8", "--trackers=", "--steps=6"]
    flags += ["--checkpoint_every=3", "--vocabulary_size=60", "--shuffle_samples=10"]
    where = ["--shards", str(colour_shards(tmp_path / "shards")), "--run", str(tmp_path / "run")]
    assert main([*where, *flags]) == 1
    assert "no space left" in capsys.readouterr().err
    assert len(steps) in (3, 4)
