"""The lines of a takedown's list, and what they block."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from alignset.train.errors import SettingsError, TrainingError
from alignset.train.search.blocklist import (
    datasets_of,
    parse_blocklist,
    read_blocklist,
    store_blocklist,
    stored_blocklist,
)
from alignset.train.search.find_results import sample_results
from alignset.train.search.make_index import remove_rows
from alignset.train.search.opened_index import OpenedIndex
from alignset.train.search.query import Filters
from tests.support.colour_search import index_of
from tests.support.train_shards import colour_shards

SHA256 = hashlib.sha256(b"a").hexdigest()
MD5 = hashlib.md5(b"a").hexdigest()
SHA1 = hashlib.sha1(b"a").hexdigest()
URL = "https://img.a.example/x/1.jpg"


def row(**fields: object) -> dict[str, object]:
    digests = {kind: hashlib.new(kind, b"a").digest() for kind in ("md5", "sha1", "sha256")}
    return {"key": "k1", "url": URL, "host": "img.a.example", **digests} | fields


LINES = {
    True: [
        *("key:k1", f"url:{URL}", URL, "prefix:https://img.a.example/x/", "host:IMG.a.example"),
        *("img.a.example", "img.a.example:8080", "domain:a.example", "domain:img.a.example"),
        *(f"sha256:{SHA256.upper()}", f"md5:{MD5}", f"sha1: {SHA1}"),
    ],
    False: [
        *("key:K1", "url:https://img.a.example/x/", "prefix:https://img.a.example/y"),
        *("host:a.example", "domain:ample", f"sha256:{'0' * 64}", "phash:0123"),
    ],
}


def test_each_kind_blocks_what_it_says() -> None:
    for blocked, lines in LINES.items():
        for line in lines:
            blocklist = parse_blocklist([f"  {line}\n", "\n", "# a note\n"], "list")
            expected = blocklist.lines() if blocked else []
            assert sorted(blocklist.lines_of(row())) == expected, line


def test_a_line_that_is_none_is_told_with_its_number() -> None:
    for line in ("sha256:12", "md5:xyz", "key:", "colour:red", "host:", "domain:a b", "host:a/b"):
        with pytest.raises(SettingsError, match="list, line 2: "):
            parse_blocklist(["key:k", line], "list")


def test_a_list_is_kept_with_the_index(tmp_path: Path) -> None:
    assert len(stored_blocklist(tmp_path)) == 0
    first, second = (parse_blocklist([line], "list") for line in ("key:k", "host:a.example"))
    store_blocklist(tmp_path, first.union(second))
    assert stored_blocklist(tmp_path).lines() == ["host:a.example", "key:k"]


def test_a_list_that_says_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("key:k1\n", encoding="utf-8-sig")
    assert read_blocklist(tmp_path / "list").lines() == ["key:k1"]
    (tmp_path / "empty").write_text("# nothing\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name, text in (("empty", "has no line"), ("binary", "cannot be read")):
        with pytest.raises(SettingsError, match=text):
            read_blocklist(tmp_path / name)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A set of two shards of twelve samples each, with the keys 0 to 23."""
    colour_shards(tmp_path / "set" / "shards")
    (tmp_path / "set" / "manifest.json").write_text("{}")
    return tmp_path / "set"


def take(finished: Path, *keys: int) -> None:
    np.array(keys, "<u8").tofile(finished / "new")
    (finished / "new").rename(finished / "taken_down.u64")


def test_a_dataset_is_told_from_a_folder_of_shards(finished: Path, tmp_path: Path) -> None:
    def found(shards: Path) -> list[str]:
        return datasets_of(map(str, shards.iterdir()))

    assert found(finished / "shards") == [str(finished)]
    (tmp_path / "link").symlink_to(finished / "shards")
    assert found(tmp_path / "link") == [str(finished)]
    assert datasets_of(["http://a.example/0.tar", "pipe:cat 0.tar"]) == []
    (finished / "manifest.json").unlink()
    assert found(finished / "shards") == []


def test_an_opened_index_gives_out_nothing_of_what_is_taken_down(
    finished: Path, tmp_path: Path
) -> None:
    index_of(finished / "shards", tmp_path / "index")
    index = OpenedIndex(tmp_path / "index")
    assert not index.has_changed()
    take(finished, 3, 99)
    assert index.has_changed()
    index = OpenedIndex(tmp_path / "index")
    assert not index.has_changed()
    assert (len(index.rows), index.pictures) == (24, 23)
    assert index.row_of(f"{3:016x}") is None
    with pytest.raises(SettingsError, match="the index has no image"):
        index.vector_of(f"{3:016x}")
    for filters in (Filters(), Filters(caption="picture")):
        row_mask = index.row_mask(filters)
        assert row_mask is not None
        assert np.flatnonzero(~row_mask).tolist() == [3]
    shown = [int(result["key"], 16) for result in sample_results(index, 24)]
    assert shown == [0, 1, 2, *range(4, 24)]
    take(finished, *range(24))
    assert sample_results(OpenedIndex(tmp_path / "index"), 24) == []
    finished.rename(tmp_path / "moved")  # then nothing can be told
    assert OpenedIndex(tmp_path / "index").pictures == 24


def test_made_again_it_holds_them_no_more_and_keeps_its_sets(
    finished: Path, tmp_path: Path
) -> None:
    index_of(finished / "shards", tmp_path / "index")
    take(finished, 3)
    again = index_of(finished / "shards", tmp_path / "index")
    assert (again.document.rows, again.rows, again.removed_rows) == (23, 0, 1)
    blocklist = parse_blocklist([f"key:{4:016x}"], "list")
    remove_rows(tmp_path / "index", blocklist, dry_run=False, say=print)
    assert OpenedIndex(tmp_path / "index").document.sets == [str(finished)]
    assert index_of(finished / "shards", tmp_path / "fresh").rows == 23
    take(finished, *range(24))
    emptied = index_of(finished / "shards", tmp_path / "index")
    assert (emptied.document.rows, emptied.removed_rows) == (0, 22)
    assert len(OpenedIndex(tmp_path / "index").rows) == 0


def test_rows_of_a_killed_command_do_not_come_in(finished: Path, tmp_path: Path) -> None:
    index_of(finished / "shards", tmp_path / "index")
    (tmp_path / "index" / "index.json").unlink()
    take(finished, 3)
    assert index_of(finished / "shards", tmp_path / "index").document.rows == 23
    index = OpenedIndex(tmp_path / "index")
    assert index.rows["key"].to_pylist() == [f"{n:016x}" for n in range(24) if n != 3]
    assert len([*(tmp_path / "index" / "parts").glob("*.arrow")]) == 2


def test_a_file_that_holds_no_keys_is_told(finished: Path, tmp_path: Path) -> None:
    index_of(finished / "shards", tmp_path / "index")
    (finished / "taken_down.u64").write_bytes(b"12345")
    for reads in (
        lambda: OpenedIndex(tmp_path / "index"),
        lambda: read_blocklist(finished / "taken_down.u64"),
    ):
        with pytest.raises(
            TrainingError, match=r"not a list of keys \(5 bytes\): run the takedown"
        ):
            reads()
    take(finished, 255)
    assert read_blocklist(finished / "taken_down.u64").lines() == [f"key:{255:016x}"]
