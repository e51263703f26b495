"""What is in a dataset's folder, while its run is under way too."""

from pathlib import Path

import pytest

from alignset.pipeline.datasets.set_files import find_set, in_order
from alignset.pipeline.errors import UsageError
from tests.support.small_sets import put, put_funnel, put_rejected, put_shard


def names(paths: list[str]) -> set[str]:
    return {Path(path).name for path in paths}


def test_only_shards_with_stats_count_and_their_rejects(folder: str):
    put_shard(folder, 0, 2)
    put_shard(folder, 1, 2, finished=False)
    for name in ("text-00000", "images-00000", "images-00001"):
        put_rejected(folder, name, [("too_small", None)])
    files = find_set(f"{folder}/")
    assert names(files.kept_files) == {"00000.parquet"}
    assert names(files.rejected_files) == {"text-00000.parquet", "images-00000.parquet"}
    assert files.is_of_shards
    assert files.funnel is None


def test_what_is_held_out_is_of_the_set(folder: str):
    for number in (0, 1):
        put_shard(folder, number, 2)
        for name in (f"holdout/{number:05d}.parquet", f"holdout/{number:05d}.tar"):
            put(f"{folder}/{name}", b"")
        put_rejected(folder, f"holdout-{number:05d}", [("too_small", None)])
    put(f"{folder}/holdout/00000_stats.json", b"{}")
    files = find_set(folder)
    assert f"{folder}/holdout/00000.parquet" in files.kept_files
    assert f"{folder}/holdout/00001.parquet" not in files.kept_files  # its run is not that far
    assert names(files.rejected_files) == {"holdout-00000.parquet"}
    assert names(files.rejected_for("too_small")) == {"holdout-00000.parquet"}
    assert files.rejected_for("rare_token") == []
    assert files.is_of_shards


def test_a_shard_without_a_tar_is_one_of_the_set(folder: str):
    put(f"{folder}/shards/00000.parquet", b"")
    put(f"{folder}/shards/00000_stats.json", b"{}")
    files = find_set(folder)
    assert names(files.kept_files) == {"00000.parquet"}
    assert not files.tars


def test_a_text_only_set_has_pairs(folder: str):
    put(f"{folder}/pairs/00000.parquet", b"")
    files = find_set(folder)
    assert names(files.kept_files) == {"00000.parquet"}
    assert not files.is_of_shards


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("too_small", {"images-00000.parquet", "more.parquet"}),
        ("rare_token", {"text-00000.parquet", "more.parquet"}),
        ("of_the_future", {"images-00000.parquet", "text-00000.parquet", "more.parquet"}),
    ],
)
def test_a_reason_of_one_plane_is_not_looked_for_in_the_others(
    folder: str, reason: str, expected: set[str]
):
    put_shard(folder, 0, 1)
    for name in ("text-00000", "images-00000", "more"):
        put_rejected(folder, name, [("too_small", None)])
    assert names(find_set(folder).rejected_for(reason)) == expected


def test_the_order_of_files_is_by_their_names_alone():
    files = [f"/a/{n:05d}.parquet" for n in range(50)]
    moved = [f"s3://b/c/{n:05d}.parquet" for n in reversed(range(50))]
    ordered = in_order(files)
    assert [Path(path).name for path in in_order(moved)] == [Path(path).name for path in ordered]
    assert ordered != files


def test_a_funnel_of_another_version_is_as_none(folder: str):
    put_shard(folder, 0, 1)
    put_funnel(folder, 1, {}, {})
    assert find_set(folder).funnel is not None
    put(f"{folder}/funnel.json", b'{"pairs": "many"}')
    assert find_set(folder).funnel is None


@pytest.mark.parametrize("tar", [b"", bytes(1024)])
def test_a_folder_without_a_sample_is_refused(tmp_path: Path, tar: bytes):
    (tmp_path / "00000.tar").write_bytes(tar)
    with pytest.raises(UsageError, match="has no sample that can be read") as refused:
        find_set(str(tmp_path))
    assert ("00000.tar cannot be read to its end" in str(refused.value)) == (not tar)


def test_what_is_no_set_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="there is no folder"):
        find_set(str(tmp_path / "none"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.parquet").write_bytes(b"")
    with pytest.raises(UsageError, match="is not a dataset"):
        find_set(str(tmp_path / "other"))
    with pytest.raises(UsageError, match="is not a dataset"):
        find_set("mem://bucket/nothing")
