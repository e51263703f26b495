"""What was taken down from the sets of an index: where it is told, and what of it holds."""

from pathlib import Path

import numpy as np
import pytest

from alignset.train.errors import SettingsError, TrainingError
from alignset.train.search.blocklist import datasets_of, parse_blocklist, read_blocklist
from alignset.train.search.find_results import sample_results
from alignset.train.search.make_index import remove_rows
from alignset.train.search.opened_index import OpenedIndex
from alignset.train.search.query import Filters
from tests.support.colour_search import index_of
from tests.support.train_shards import colour_shards


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
    assert not index.changed()
    take(finished, 3, 99)
    assert index.changed()
    index = OpenedIndex(tmp_path / "index")
    assert not index.changed()
    assert (len(index.rows), index.pictures) == (24, 23)
    assert index.row_of(f"{3:016x}") is None
    with pytest.raises(SettingsError, match="the index has no picture"):
        index.vector_of(f"{3:016x}")
    for filters in (Filters(), Filters(caption="picture")):
        wanted = index.wanted(filters)
        assert wanted is not None
        assert np.flatnonzero(~wanted).tolist() == [3]
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
    assert (again.document.rows, again.rows, again.taken_out) == (23, 0, 1)
    blocklist = parse_blocklist([f"key:{4:016x}"], "list")
    remove_rows(tmp_path / "index", blocklist, dry_run=False, say=print)
    assert OpenedIndex(tmp_path / "index").document.sets == [str(finished)]
    fresh = index_of(finished / "shards", tmp_path / "fresh")
    assert (fresh.rows, fresh.left_out["blocked"]) == (23, 1)
    take(finished, *range(24))
    emptied = index_of(finished / "shards", tmp_path / "index")
    assert (emptied.document.rows, emptied.taken_out) == (0, 22)
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
        with pytest.raises(TrainingError, match=r"no list of keys \(5 bytes\): run the takedown"):
            reads()
    take(finished, 255)
    assert read_blocklist(finished / "taken_down.u64").lines() == [f"key:{255:016x}"]
