"""Checkpoints and folders: whole or not at all, also in place of others; a damaged one is named."""

import errno
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from alignset.train.__main__ import main
from alignset.train.data.whole_files import put_back, save_folder
from alignset.train.errors import TrainingError
from alignset.train.runs import checkpoints
from alignset.train.runs.checkpoints import CheckpointWriter, load_last_checkpoint, save_checkpoint
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


def test_a_failed_checkpoint_ends_a_run_before_the_next_is_due(tmp_path: Path, monkeypatch, capsys):
    steps = []

    def failing(folder, state, *, keep):
        raise OSError(errno.ENOSPC, "no space left")

    def greatest_of_all(_: object) -> int:
        steps.append(1)
        while len(steps) > 4 and any(t.name == "checkpoint" for t in threading.enumerate()):
            pass
        return 0

    monkeypatch.setattr(checkpoints, "save_checkpoint", failing)
    monkeypatch.setattr("alignset.train.runs.processes.greatest_of_all", greatest_of_all)
    flags = ["--crop_px=32", "--resize_px=36", "--batch_size=8", "--trackers=", "--steps=6"]
    flags += ["--checkpoint_every=3", "--vocabulary_size=60", "--shuffle_samples=10"]
    where = ["--shards", str(colour_shards(tmp_path / "shards")), "--run", str(tmp_path / "run")]
    assert main([*where, *flags]) == 1
    assert "no space left" in capsys.readouterr().err
    assert len(steps) in (4, 5)  # the first of them is the start


def saver(text: str):
    def save(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / text).write_text(text)

    return save


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_takes_the_place_of_another_and_files_of_others_stay(tmp_path: Path):
    for name in ("a.old", "a.new", ".a.mine.new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes").write_text("mine")
    save_folder(tmp_path / "a", saver("one"), saver("two"))
    (tmp_path / "a" / "engine").mkdir()
    (tmp_path / "a" / "engine" / "plan").write_text("mine")
    (tmp_path / "a" / "link").symlink_to("nowhere")
    save_folder(tmp_path / "a", saver("three"), saver("two"), replaced=["one"])
    beside = [".a.mine.new/notes", "a.new/notes", "a.old/notes"]
    assert names(tmp_path) == sorted([*beside, "a/engine/plan", "a/three", "a/two"])
    assert (tmp_path / "a" / "engine" / "plan").read_text() == "mine"
    assert (tmp_path / "a" / "link").readlink() == Path("nowhere")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "a.old").stat().st_mode


def test_one_that_fails_leaves_the_former(tmp_path: Path):
    save_folder(tmp_path / "a", saver("one"))

    def fail(folder: Path) -> None:
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        save_folder(tmp_path / "a", saver("two"), fail)
    assert names(tmp_path / "a") == ["one"]
    save_folder(tmp_path / "a", saver("two"), replaced=["one"])
    assert names(tmp_path) == ["a/two"]


# Saves to the folder; it ends itself at the call of the given number.
KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from alignset.train.data import whole_files

calls = int(sys.argv[2])

def dying(call):
    def wrapped(*args, **kwargs):
        global calls
        calls -= 1
        if calls == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    return wrapped

def save(folder):
    folder.mkdir()
    for name in ("one", "two"):
        dying((folder / name).write_text)("new")

os.replace, os.link, shutil.rmtree = map(dying, (os.replace, os.link, shutil.rmtree))
whole_files.save_folder(Path(sys.argv[1]), save)
"""


def test_killed_anywhere_the_former_folder_or_the_new_one_is_there(tmp_path: Path):
    folder, killed = tmp_path / "a", 0
    for call in range(1, 12):
        save_folder(folder, saver("one"), saver("two"), saver("mine"))
        ended = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(call)], check=False)
        killed += ended.returncode == -signal.SIGKILL
        put_back(folder)
        put_back(folder)
        assert names(tmp_path) == ["a/mine", "a/one", "a/two"]
        texts = {(folder / name).read_text() for name in ("one", "two")}
        assert texts in ({"new"}, {"one", "two"})
        assert (folder / "mine").read_text() == "mine"
        for path in folder.iterdir():
            path.unlink()
    assert killed == 9  # two files, a link, two renames, and removals of what lies aside
