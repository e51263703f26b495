import gzip
from pathlib import Path

import numpy as np
import pytest

from alignset.transforms.storage.files import (
    PIECE,
    PieceFile,
    exists,
    is_local,
    local_copy,
    move,
    publish,
    write_atomically,
)
from tests.support.memory_files import FILES, read


def test_a_file_is_there_once_it_is_written(folder: str) -> None:
    path = f"{folder}/deeper/a.bin"
    assert not exists(path)
    write_atomically(path, lambda sink: sink.write(b"one"))
    assert exists(path)
    assert read(path) == b"one"
    body = gzip.compress(b"a dog")  # is read as it is
    write_atomically(path, lambda sink: sink.write(body))
    assert read(path) == body


def test_a_write_that_fails_leaves_what_was_there(folder: str) -> None:
    def half(sink) -> None:
        sink.write(b"half")
        raise RuntimeError("killed")

    write_atomically(f"{folder}/old", lambda sink: sink.write(b"whole"))
    for name in ("old", "new"):
        with pytest.raises(RuntimeError, match="killed"):
            write_atomically(f"{folder}/{name}", half)
    assert read(f"{folder}/old") == b"whole"
    names = [path.name for path in Path(folder).iterdir()] if is_local(folder) else list(FILES)
    assert names == ["old" if is_local(folder) else f"{folder}/old"]


def test_nothing_is_seen_under_its_name_before_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    looks = []

    def write(sink) -> None:
        sink.write(b"a")
        looks.append([path.exists(), *(file.name.startswith(".") for file in tmp_path.iterdir())])

    write_atomically(str(path), write)
    assert looks == [[False, True]]


def test_a_finished_file_is_published(folder: str, tmp_path: Path) -> None:
    body = b"x" * 3_000_000  # several pieces
    (tmp_path / "made").write_bytes(body)
    publish(tmp_path / "made", f"{folder}/a.tar")
    assert read(f"{folder}/a.tar") == body


def test_a_finished_file_is_moved_once(folder: str) -> None:
    source, path = f"{folder}/_work/set", f"{folder}/set"
    with pytest.raises(FileNotFoundError, match="_work/set is gone"):
        move(source, path)
    write_atomically(path, lambda sink: sink.write(b"of an earlier attempt"))
    write_atomically(source, lambda sink: sink.write(b"12345678"))
    move(source, path)
    assert read(path) == b"12345678"
    if is_local(folder):
        assert not exists(source)
    move(source, path)  # as a run that was killed right after it
    assert read(path) == b"12345678"


def test_a_local_copy(folder: str) -> None:
    path = f"{folder}/set.u64"
    write_atomically(path, lambda sink: sink.write(b"12345678"))
    copy = local_copy(path)
    assert Path(copy).read_bytes() == b"12345678"
    assert local_copy(path) == copy
    assert (copy == path) == is_local(path)
    if not is_local(path):
        Path(copy).unlink()


@pytest.mark.parametrize("size", [0, PIECE // 8, PIECE // 8 + 1, 5 * PIECE // 8])
def test_large_writes_are_whole_and_a_full_disk_is_told(tmp_path: Path, size: int) -> None:
    numbers = np.arange(size, dtype="<u8")
    with PieceFile(tmp_path / "numbers", "wb") as file:
        assert file.write(numbers) == 8 * size
    assert (tmp_path / "numbers").read_bytes() == numbers.tobytes()
    with pytest.raises(OSError, match="No space left"), PieceFile("/dev/full", "wb") as file:
        file.write(b"x" * 3 * PIECE)
