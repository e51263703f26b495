import gzip
from pathlib import Path

import pytest

from tests.memory_files import FILES
from transforms.files import (
    exists,
    is_local,
    local_copy,
    open_to_read,
    publish,
    write_atomically,
)


@pytest.fixture(params=["local", "object store"])
def folder(request, tmp_path: Path) -> str:
    if request.param == "object store":
        FILES.clear()
        return "mem://bucket/folder"
    return str(tmp_path / "folder")


def read(path: str) -> bytes:
    with open_to_read(path) as source:
        return source.read()


@pytest.mark.parametrize(
    ("path", "local"),
    [("a/b", True), ("/a", True), ("C:\\a", True), ("gs://a/b", False), ("s3://a", False)],
)
def test_what_is_local(path: str, local: bool) -> None:
    assert is_local(path) == local


def test_a_file_is_there_once_it_is_written(folder: str) -> None:
    path = f"{folder}/deeper/a.bin"
    assert not exists(path)
    write_atomically(path, lambda sink: sink.write(b"one"))
    assert exists(path)
    assert read(path) == b"one"
    write_atomically(path, lambda sink: sink.write(b"2"))
    assert read(path) == b"2"


def test_a_compressed_file_reads_as_it_is(folder: str) -> None:
    body = gzip.compress(b"a dog")
    write_atomically(f"{folder}/a.gz", lambda sink: sink.write(body))
    assert read(f"{folder}/a.gz") == body


def test_a_write_that_fails_leaves_what_was_there(folder: str) -> None:
    def half(sink) -> None:
        sink.write(b"half")
        raise RuntimeError("killed")

    write_atomically(f"{folder}/old", lambda sink: sink.write(b"whole"))
    for name in ("old", "new"):
        with pytest.raises(RuntimeError, match="killed"):
            write_atomically(f"{folder}/{name}", half)
    assert read(f"{folder}/old") == b"whole"
    names = [one.name for one in Path(folder).iterdir()] if is_local(folder) else list(FILES)
    assert names == ["old" if is_local(folder) else f"{folder}/old"]


def test_nothing_is_seen_under_its_name_before_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    seen = []

    def write(sink) -> None:
        sink.write(b"a")
        seen.append([path.exists(), *(one.name.startswith(".") for one in tmp_path.iterdir())])

    write_atomically(str(path), write)
    assert seen == [[False, True]]


def test_a_finished_file_is_published(folder: str, tmp_path: Path) -> None:
    body = b"x" * 3_000_000  # several pieces
    (tmp_path / "made").write_bytes(body)
    publish(tmp_path / "made", f"{folder}/a.tar")
    assert read(f"{folder}/a.tar") == body


def test_a_local_copy(folder: str) -> None:
    path = f"{folder}/set.u64"
    write_atomically(path, lambda sink: sink.write(b"12345678"))
    copy = local_copy(path)
    assert Path(copy).read_bytes() == b"12345678"
    assert local_copy(path) == copy
    assert (copy == path) == is_local(path)
    if not is_local(path):
        Path(copy).unlink()
