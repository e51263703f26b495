"""Checkpoints: whole or not at all, kept so many, a damaged one refused by name; written beside the
training."""

import errno
import threading
from pathlib import Path

import pytest
import torch

from alignset.train.__main__ import main
from alignset.train.data.position import SKIPPED, Cursor, Position
from alignset.train.errors import TrainingError
from alignset.train.runs import checkpoints
from alignset.train.runs.checkpoints import (
    CheckpointWriter,
    capture,
    load_last_checkpoint,
    restore,
    save_checkpoint,
)
from tests.support.train_shards import colour_shards


def saved(folder: Path, *steps: int, keep: int = 2) -> list[Path]:
    return [
        save_checkpoint(folder, {"step": step, "x": torch.full((999,), step)}, keep=keep)
        for step in steps
    ]


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_the_last_few_are_kept(tmp_path: Path):
    assert load_last_checkpoint(tmp_path / "none") is None
    saved(tmp_path, 3, 6, 9)
    assert {path.name for path in tmp_path.iterdir()} == {"step_000000006.pt", "step_000000009.pt"}
    state = load_last_checkpoint(tmp_path)
    assert state["step"] == 9
    assert torch.equal(state["x"], torch.full((999,), 9))


def test_a_flipped_bit_is_noticed_or_changes_nothing(tmp_path: Path):
    """Some lie in names and in the zeros that fill blocks."""
    _, newest = saved(tmp_path, 3, 6)
    whole, noticed = newest.read_bytes(), 0
    for at in range(0, len(whole), 97):
        newest.write_bytes(whole)
        flip(newest, at)
        state = load_last_checkpoint(tmp_path)
        noticed += state["step"] == 3
        assert (state["x"] == state["step"]).all()
    assert noticed > 0.8 * len(whole) / 97


def test_a_damaged_one_is_named_and_the_one_before_it_used(tmp_path: Path, capsys):
    for number, damage in enumerate(
        (
            lambda path: flip(path, path.stat().st_size // 2),
            lambda path: path.write_bytes(path.read_bytes()[:-500]),
            lambda path: path.write_bytes(b""),
        )
    ):
        older, newest = saved(tmp_path / str(number), 3, 6)
        damage(newest)
        capsys.readouterr()
        assert load_last_checkpoint(older.parent)["step"] == 3
        printed = capsys.readouterr().err
        assert f"passed over the damaged checkpoint {newest}: " in printed
        assert printed.count("\n") == 1
        damage(older)
        with pytest.raises(TrainingError, match=r"no checkpoint in .* is whole \(step_000000006"):
            load_last_checkpoint(older.parent)


def test_what_is_left_of_a_kill_or_of_later_steps_goes(tmp_path: Path):
    saved(tmp_path, 3, 6)
    flip(tmp_path / "step_000000006.pt", 99)
    (tmp_path / "step_000000006.pt.sha256").write_text("as older versions had it")
    assert load_last_checkpoint(tmp_path)["step"] == 3
    saved(tmp_path, 4, keep=1)  # the damaged one must not push it out
    assert [path.name for path in sorted(tmp_path.glob("*.pt"))] == ["step_000000004.pt"]
    assert len(list(tmp_path.iterdir())) == 1


def test_all_that_the_next_step_depends_on_comes_back(tmp_path: Path):
    def made() -> tuple:
        model = torch.nn.Linear(3, 2)
        return model, torch.optim.AdamW(model.parameters())

    model, optimizer = made()
    model(torch.rand(5, 3)).sum().backward()
    optimizer.step()
    position = Position((Cursor(1, 2), Cursor()), 7, dict.fromkeys(SKIPPED, 1))
    save_checkpoint(tmp_path, capture(5, model, optimizer, position), keep=1)
    restored, other_optimizer = made()
    state = load_last_checkpoint(tmp_path)
    assert restore(state, restored, other_optimizer) == (5, position)
    assert torch.equal(restored.weight, model.weight)
    moments = [
        o.state[p]["exp_avg"]
        for o, p in ((optimizer, model.weight), (other_optimizer, restored.weight))
    ]
    assert torch.equal(*moments)


def test_what_is_written_is_a_copy(tmp_path, monkeypatch):
    going = threading.Event()

    def slowly(folder, state, *, keep):
        going.wait()
        return save_checkpoint(folder, state, keep=keep)

    monkeypatch.setattr(checkpoints, "save_checkpoint", slowly)
    weights = torch.ones(3)
    with CheckpointWriter(tmp_path, keep=1) as writer:
        writer.save({"step": 1, "model": {"w": weights}, "processes": [weights, 2]})
        weights += 1
        writer.check()  # waits for nothing
        going.set()
        writer.check(wait=True)
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
            if call == "save":
                writer.save({"step": 2})
            while call == "check":  # it waits for nothing
                writer.check()
            if call == "wait":
                writer.check(wait=True)

    with pytest.raises(OSError, match="file"):
        calls()
    writer.check()


def test_a_failed_checkpoint_ends_a_run_before_the_next_is_due(tmp_path: Path, monkeypatch, capsys):
    steps = []

    def failing(folder, state, *, keep):
        raise OSError(errno.ENOSPC, "no space left")

    def any_of_all(_: object) -> bool:
        steps.append(1)
        while len(steps) > 4 and any(t.name == "checkpoint" for t in threading.enumerate()):
            pass
        return False

    monkeypatch.setattr(checkpoints, "save_checkpoint", failing)
    monkeypatch.setattr("alignset.train.runs.processes.any_of_all", any_of_all)
    flags = ["--crop_px=32", "--resize_px=36", "--batch_size=8", "--trackers=", "--steps=6"]
    flags += ["--checkpoint_every=3", "--vocabulary_size=60", "--shuffle_samples=10"]
    where = ["--shards", str(colour_shards(tmp_path / "shards")), "--run", str(tmp_path / "run")]
    assert main([*where, *flags]) == 1
    assert "no space left" in capsys.readouterr().err
    assert len(steps) in (4, 5)  # the first of them is the start
