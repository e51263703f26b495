import errno
import glob
import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from alignset.transforms.storage import files
from alignset.transforms.storage.files import (
    PIECE,
    PieceFile,
    create,
    exists,
    is_local,
    local_copy,
    match,
    move,
    publish,
    write_atomically,
)
from tests.support.memory_files import read


def write(path: str, body: bytes) -> None:
    write_atomically(path, lambda sink: sink.write(body))


def test_a_file_is_whole_or_not_there(folder: str, tmp_path: Path) -> None:
    path, half = f"{folder}/deeper/a.bin", b"half"

    def fail(sink) -> None:
        sink.write(half)
        assert not is_local(path) or not exists(f"{folder}/deeper/new")
        raise RuntimeError("killed")

    assert not exists(path)
    body = gzip.compress(b"a dog")  # is read as it is
    for written in (b"one", body):
        write(path, written)
        assert exists(path)
        assert read(path) == written
    for name in ("a.bin", "new"):
        with pytest.raises(RuntimeError, match="killed"):
            write_atomically(f"{folder}/deeper/{name}", fail)
    assert match(folder, hidden=True) == [(path, len(body))]
    body = b"x" * 3_000_000  # several pieces
    (tmp_path / "made").write_bytes(body)
    publish(tmp_path / "made", path)
    copy = local_copy(path)
    assert read(path) == Path(copy).read_bytes() == body
    assert local_copy(path) == copy
    assert (copy == path) == is_local(path)
    if not is_local(path):
        Path(copy).unlink()


def test_a_file_is_moved_and_gone_and_created_once(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, path = f"{folder}/_work/set", f"{folder}/set"
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            move(source, path)
        write(path, b"of an earlier attempt")
        write(source, b"12345678")
        move(source, path)
        assert read(path) == b"12345678"
        assert not exists(source)
    assert create(f"{folder}/winner", b"a")
    assert not create(f"{folder}/winner", b"b")
    assert read(f"{folder}/winner") == b"a"
    assert match(folder) == [(path, 8), (f"{folder}/winner", 1)]
    if is_local(folder):
        with pytest.raises(FileNotFoundError):
            create(f"{folder}/no folder/winner", b"a")
        monkeypatch.setattr(os, "link", no_links)
        assert create(f"{folder}/second", b"a")
        assert not create(f"{folder}/second", b"b")
        assert read(f"{folder}/second") == b"a"


def no_links(*_: object) -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("size", [0, PIECE // 8, PIECE // 8 + 1, 5 * PIECE // 8])
def test_large_writes_are_whole_and_a_full_disk_is_told(tmp_path: Path, size: int) -> None:
    numbers = np.arange(size, dtype="<u8")
    with PieceFile(tmp_path / "numbers", "wb") as file:
        assert file.write(numbers) == 8 * size
    assert (tmp_path / "numbers").read_bytes() == numbers.tobytes()
    with pytest.raises(OSError, match="No space left"), PieceFile("/dev/full", "wb") as file:
        file.write(b"x" * 3 * PIECE)


@pytest.fixture
def linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with links to a file, to a folder, and in circles; beside it what they point to."""
    monkeypatch.chdir(tmp_path)
    files.tell_links.cache_clear()
    for name in ("private/a.csv", "set/b.csv", "set/deep/er/c.csv", "set/deep/.hidden/d.csv"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"12345")
    for name in ("x", "y"):
        os.symlink(".", f"set/{name}")  # two: each `**` would have 2^40 paths
    os.symlink(tmp_path / "private/a.csv", "set/link.csv")
    os.symlink(tmp_path / "private", "set/deep/folder")
    os.symlink("nowhere", "set/gone.csv")
    return tmp_path / "set"


def test_links_in_a_folder_are_left_out_with_one_line(
    linked: Path, caplog: pytest.LogCaptureFixture
):
    for links in (False, True):
        for folder in ("set", "set/", str(linked)):
            names = [path for path, _ in match(folder, links=links)]
            root = folder.rstrip("/")
            assert names == [f"{root}/b.csv", f"{root}/deep/er/c.csv"]
    assert len(caplog.messages) == 2  # of each name of the folder once
    assert caplog.messages[0].startswith("'set' has 5 symbolic links, left out: ")


def test_a_link_is_followed_where_a_user_names_it(linked: Path, caplog: pytest.LogCaptureFixture):
    for pattern in ("set/link.csv", "set/l*.csv"):
        assert match(pattern, links=True) == [("set/link.csv", 5)]
        assert match(pattern) == []
    os.symlink(linked, "other")
    assert len(match("other", links=True)) == 2
    assert match("other") == []
    links = ["'set/link.csv'", "'set/l*.csv'", "'other'"]
    assert [text.split()[0] for text in caplog.messages if "a symbolic link," in text] == links


@pytest.mark.parametrize(
    "pattern",
    ["**", "**/*.csv", "**/er/*.csv", "*/**/c.csv", "**/deep/**/*.csv", "[s]*/**", "./**/b.csv"],
)
def test_two_stars_name_what_glob_names_where_there_is_no_link(linked: Path, pattern: str):
    names = [path for path, _ in match(pattern, links=True)]
    for name in ("x", "y", "link.csv", "gone.csv", "deep/folder"):
        (linked / name).unlink()
    expected = [path for path in glob.glob(pattern, recursive=True) if Path(path).is_file()]
    assert names == sorted({*expected})
    assert [path for path, _ in match(f"{Path.cwd()}/{pattern}")] == [
        f"{Path.cwd()}/{name}" for name in names
    ]
