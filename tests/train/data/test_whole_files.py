"""Folders that appear whole or not at all, also in place of others."""

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


def test_a_folder_takes_the_place_of_another(tmp_path: Path):
    save_folder(tmp_path / "a", saver("one"), saver("two"))
    assert names(tmp_path) == ["a/one", "a/two"]
    save_folder(tmp_path / "a", saver("three"))
    assert names(tmp_path) == ["a/three"]


def test_one_that_fails_leaves_the_former(tmp_path: Path):
    save_folder(tmp_path / "a", saver("one"))

    def fail(folder: Path) -> None:
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        save_folder(tmp_path / "a", saver("two"), fail)
    assert names(tmp_path / "a") == ["one"]
    save_folder(tmp_path / "a", saver("two"))
    assert names(tmp_path) == ["a/two"]


def test_what_a_kill_left_between_the_two_names_is_put_back(tmp_path: Path):
    save_folder(tmp_path / "a", saver("one"))
    (tmp_path / "a").rename(tmp_path / "a.old")
    put_back(tmp_path / "a")
    put_back(tmp_path / "a")
    assert names(tmp_path) == ["a/one"]
