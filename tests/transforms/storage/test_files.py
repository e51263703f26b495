import errno
import glob
import gzip
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec import UNSET, UnsetType

from alignset.transforms.storage import files
from alignset.transforms.storage.broken_files import (
    MOST_NAMED,
    BrokenFile,
    BrokenFiles,
    FileFault,
    broken_file,
    sum_up,
)
from alignset.transforms.storage.documents import (
    DocumentError,
    encode_document,
    find_document,
    read_document,
    write_document,
)
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
from alignset.transforms.storage.parquet_files import ROWS_PER_GROUP, parquet_file, string_bytes
from alignset.transforms.storage.stores import RemoteError
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


# What of an error is a file's own fault, and what is not.

OF_THE_FILE = (
    (FileFault("wrong_format", "no tar"), "wrong_format", "no tar"),
    (OSError(errno.ENOENT, "No such file", "a"), "gone", "No such file or directory"),
    (OSError(errno.EACCES, "Permission denied", "a"), "no_access", "Permission denied"),
    (OSError(errno.EIO, "Input/output error", "a"), "damaged", "Input/output error"),
    (OSError("zlib inflate failed\nmore"), "damaged", "zlib inflate failed"),
    (EOFError(), "cut_short", "EOFError"),
    (pa.ArrowInvalid("x" * 500), "damaged", "x" * 200),
)
OF_OTHERS = (
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EMFILE, "Too many open files"),
    ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    *(TimeoutError(), RemoteError("a", 503), RemoteError("a", 400), RemoteError("no credentials")),
    RemoteError("a", 403),  # or a run whose credentials end would lose its input
    *(ValueError("of our own code"), KeyError("url")),
)


def test_what_is_the_fault_of_a_file() -> None:
    for error, detail, fault in OF_THE_FILE:
        assert broken_file("a", error) == BrokenFile("a", detail, fault)
    assert [error for error in OF_OTHERS if broken_file("a", error)] == []


def test_each_file_counts_once_and_the_first_by_path_are_named():
    files = [BrokenFile(f"{n:05d}", "gone", "x") for n in range(MOST_NAMED + 5)]
    again = [BrokenFile("00000", "damaged", "y"), BrokenFile("00000", "damaged", "x")]
    told = sum_up([*reversed(files), *again])
    assert told == sum_up([*again, *files])
    assert (told.broken, len(told.named)) == (MOST_NAMED + 5, MOST_NAMED)
    assert told.named[0] == BrokenFile("00000", "damaged", "x")
    assert told.details == {"damaged": 1, "gone": MOST_NAMED + 4}
    assert sum_up([]) == BrokenFiles()


# Documents are read as they were written, and whatever else is there is a fault that says so.


@dataclass(frozen=True)
class Part:
    name: str
    size: int = 0


@dataclass(frozen=True)
class Whole:
    second: float
    first: str | None
    parts: list[Part] = field(default_factory=list)
    by_name: dict[str, Part] | UnsetType = UNSET
    by_number: dict[int, int] = field(default_factory=dict)


def test_what_is_written_is_read(tmp_path: Path):
    path = str(tmp_path / "deep" / "whole.json")
    for whole in (
        Whole(0.5, None),
        Whole(1.0, "é", [Part("a")], {"b": Part("c", 2)}, {3: 40}),
        Whole(math.inf, ""),
    ):
        write_document(path, whole)
        assert read_document(path, Whole) == whole
    assert find_document(path, Whole) == whole
    assert find_document(f"{path}.no", Whole) is None


def test_fields_stand_in_their_order_and_unset_ones_not_at_all():
    text = encode_document(Whole(0.5, "é", [Part("a", 1)])).decode()
    assert text.index("second") < text.index("first") < text.index("parts")
    assert "by_name" not in text
    assert "é" in text
    assert text.endswith("}\n")


def test_what_is_no_such_document_is_an_error(tmp_path: Path):
    path = tmp_path / "whole.json"
    for encoded in (
        *(b"", b"[]", b"null", b"{}", b'{"second": 1}', b'{"second": "1", "first": null}'),
        b'{"second": 1, "first": null, "parts": [{"size": 1}]}',
        *(b'{"second": 1, "first": "\xff"}', b"[" * 100_000),
    ):
        path.write_bytes(encoded)
        with pytest.raises(DocumentError, match=r"whole\.json is not as it was written"):
            read_document(str(path), Whole)


# Parquet files whose bytes depend on their rows alone.

SCHEMA = pa.schema([("name", pa.string())])


def batches(rows: int, size: int) -> list[pa.RecordBatch]:
    names = [f"name {row % 977}" for row in range(rows)]
    return [
        pa.record_batch([names[start : start + size]], schema=SCHEMA)
        for start in range(0, rows, size)
    ]


def written(path: Path, parts: Iterable[pa.RecordBatch]) -> bytes:
    (path.parent / "scratch").mkdir(exist_ok=True)
    with parquet_file(str(path), SCHEMA, str(path.parent / "scratch")) as file:
        for batch in parts:
            file.write(batch)
    return path.read_bytes()


@pytest.mark.parametrize("rows", [0, 1, ROWS_PER_GROUP, 2 * ROWS_PER_GROUP + 5])
def test_the_same_bytes_for_other_batches(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "a.parquet"
    expected = written(path, batches(rows, 10_000))
    assert pq.read_table(path).num_rows == rows
    assert written(tmp_path / "b.parquet", batches(rows, 77_777)) == expected


def test_a_group_ends_by_its_bytes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or 65,536 rows of 10 MB would be held."""
    monkeypatch.setattr("alignset.transforms.storage.parquet_files.BYTES_PER_GROUP", 1000)
    path = tmp_path / "a.parquet"
    expected = written(path, batches(500, 500))
    groups = [pq.read_metadata(path).row_group(n).num_rows for n in range(4)]
    assert all(100 <= rows <= 150 for rows in groups)  # names of 6 to 8 bytes
    assert pq.read_table(path).to_batches()[0]["name"][0].as_py() == "name 0"
    assert written(tmp_path / "b.parquet", batches(500, 7)) == expected


def test_an_attempt_that_fails_publishes_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"

    def endless() -> Iterator[pa.RecordBatch]:
        yield from batches(3, 3)
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        written(path, endless())
    assert [p.name for p in tmp_path.rglob("*")] == ["scratch"]


def test_no_folder_of_a_run_that_has_ended_comes_back(tmp_path: Path) -> None:
    """A worker may have paused until after it."""
    path, scratch = str(tmp_path / "a.parquet"), str(tmp_path / "attempts/00003-x")
    with pytest.raises(FileNotFoundError), parquet_file(path, SCHEMA, scratch):
        pass
    assert not any(tmp_path.iterdir())


def test_a_part_of_a_batch_has_its_own_bytes() -> None:
    rows = pa.record_batch({"url": ["aaaa", "b", None, "cc"], "caption": ["d", "ee", "", "ü"]})
    assert string_bytes(rows).tolist() == [5, 8, 8, 12]
    assert string_bytes(rows.slice(1, 3)).tolist() == [3, 3, 7]
