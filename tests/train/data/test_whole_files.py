"""Folders that appear whole or not at all, also in place of others."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from alignset.train.data.whole_files import put_back, save_folder


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
