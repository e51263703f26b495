"""What is in a dataset's folder, while its run is under way too, and which pairs are shown."""

from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.datasets.sample import ENOUGH_FILES, LONGEST, Pair, take_sample
from alignset.pipeline.datasets.set_files import find_set, rename_answers, sort_by_hash
from alignset.pipeline.errors import UsageError
from alignset.transforms.storage.parquet_files import read_columns
from tests.support.small_sets import keys, put, put_funnel, put_rejected, put_shard, put_table


def names(paths: list[str]) -> set[str]:
    return {Path(path).name.removesuffix(".parquet") for path in paths}


def shown(files: list[str], count: int, **values: str) -> list[str]:
    return [pair.key for pair in take_sample(files, count, **values)[0]]


def test_the_files_of_a_dataset(folder: str):
    put(f"{folder}/pairs/00000.parquet", b"")
    files = find_set(folder)
    assert (names(files.kept_files), files.is_of_shards) == ({"00000"}, False)
    put_shard(folder, 0, 2)
    put_shard(folder, 1, 2, finished=False)
    for number in range(2):
        put(f"{folder}/holdout/{number:05d}.parquet", b"")  # the run is not as far as 1
        for kind in ("text", "images", "holdout"):
            put_rejected(folder, f"{kind}-{number:05d}", [("too_small", None)])
    put(f"{folder}/holdout/00000_stats.json", b"{}")
    put_rejected(folder, "copy", [("too_small", None)])  # by hand: no part of the dataset
    files = find_set(f"{folder}/")
    assert files.kept_files == [f"{folder}/{name}/00000.parquet" for name in ("shards", "holdout")]
    texts, images = {"text-00000", "text-00001"}, {"images-00000", "holdout-00000"}
    for reason, of in (("rare_token", texts), ("too_small", images), ("other", texts | images)):
        assert names(files.rejected_for(reason)) == of
    assert files.is_of_shards
    assert files.funnel is None
    put_funnel(folder, 1, {}, {})
    assert find_set(folder).funnel is not None
    put(f"{folder}/funnel.json", b'{"pairs": "many"}')  # of another version
    assert find_set(folder).funnel is None
    paths = [f"/a/{n:05d}.parquet" for n in range(50)]
    moved = [f"s3://b/c/{n:05d}.parquet" for n in reversed(range(50))]
    assert [*map(Path, sort_by_hash(paths))] != [*map(Path, paths)]
    assert [Path(path).name for path in sort_by_hash(moved)] == [
        Path(p).name for p in sort_by_hash(paths)
    ]


def test_what_is_no_set_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="there is no folder"):
        find_set(str(tmp_path / "none"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.parquet").write_bytes(b"")
    with pytest.raises(UsageError, match="is not a dataset"):
        find_set(str(tmp_path / "other"))
    with pytest.raises(UsageError, match="is not a dataset"):
        find_set("mem://bucket/nothing")


def test_the_answers_of_an_older_version_become_responses(tmp_path: Path):
    for name in ("00000_answers.parquet", "holdout-00000_answers.parquet", "mine.txt"):
        put(f"{tmp_path}/answers/{name}", name.encode())
    for _ in range(2):  # as after a kill
        rename_answers(str(tmp_path))
    there = {str(p.relative_to(tmp_path)): p.read_text() for p in tmp_path.rglob("*.*")}
    assert there == {
        "answers/mine.txt": "mine.txt",
        "responses/00000_responses.parquet": "00000_answers.parquet",
        "responses/holdout-00000_responses.parquet": "holdout-00000_answers.parquet",
    }


def test_pairs_of_all_shards_are_shown_and_always_the_same(folder: str):
    own = [put_shard(folder, number, 30) for number in range(3)]
    files = find_set(folder).kept_files
    pairs, files_read, _ = take_sample(files, 12)
    assert [pair.key for pair in pairs] == shown(files, 12)
    assert {len(set(shard) & set(shown(files, 12))) > 0 for shard in own} == {True}
    assert shown(files, 12) != sorted(chain(*own))[:12]
    assert shown(files, 12)[:5] == shown(files, 5)
    assert sorted(shown(files, 100)) == sorted(chain(*own))
    assert files_read == 3
    assert {pair.file for pair in take_sample(files, 100)[0]} == set(files)


def test_no_more_files_are_read_than_needed(tmp_path: Path):
    files = list[str]()
    for number in range(ENOUGH_FILES + 4):
        table = pa.table({"key": keys(10 * number, 3), "url": ["http://a/b"] * 3})
        files.append(f"{tmp_path}/{number}.parquet")
        put_table(files[-1], table)
    assert take_sample(files, 20)[1] == ENOUGH_FILES
    assert take_sample(files, 3 * ENOUGH_FILES + 1)[1] == ENOUGH_FILES + 1
    assert take_sample([*files[:-1], f"{tmp_path}/gone.parquet"], 5)[1] == ENOUGH_FILES
    wanted = pa.array(keys(10, 3)[:2])
    pairs, files_read, _ = take_sample(files, 2, lambda _: wanted)
    assert (sorted(pair.key for pair in pairs), files_read) == (wanted.to_pylist(), 2)


def test_null_columns_missing_columns_and_repeats(tmp_path: Path):
    rows = {
        "key": pa.nulls(2, pa.string()),
        "url": ["http://a.org/1", "http://[broken"],
        "caption": pa.nulls(2),
        "width": pa.array([None, 3], pa.int32()),
        "score": pa.array([{"a": 1}, None]),
    }
    put_table(f"{tmp_path}/a.parquet", pa.table(rows))
    pairs = take_sample([f"{tmp_path}/a.parquet"], 5)[0]
    assert sorted((pair.url, pair.host, pair.caption, pair.size) for pair in pairs) == [
        ("http://[broken", "[broken", "", ""),
        ("http://a.org/1", "a.org", "", ""),
    ]
    assert Pair(url="HTTP://me:secret@Host.org:80/x").host == "host.org:80"
    put_table(f"{tmp_path}/b.parquet", pa.table({"other": [1]}))
    assert take_sample([f"{tmp_path}/b.parquet"], 5)[0] == []
    (key, other) = keys(0, 2)
    put_table(f"{tmp_path}/c.parquet", pa.table({"key": [key, key, other, key]}))
    assert sorted(shown([f"{tmp_path}/c.parquet"], 9)) == sorted([key, other])


@pytest.mark.parametrize(("dictionary", "hidden"), [(True, False), (True, True), (False, False)])
def test_one_text_that_stands_for_many_is_cut(tmp_path: Path, dictionary: bool, hidden: bool):
    """A file of 300 KB may hold 16,384 times 1 MB. Here 4,096 times: whole they take 4 GB. A row
    group may give its columns other names than the schema."""
    count = 4096 if dictionary else 3
    text = "w " * 500_000
    captions: pa.Array = pa.array([text] * 3)
    if dictionary:
        indices = pa.array(np.zeros(count, np.int32))
        captions = pa.DictionaryArray.from_arrays(indices, pa.array([text]))
    own = keys(7, count)
    table = pa.table({"key": own, "url": ["http://a/b"] * count, "caption": captions})
    put_table(f"{tmp_path}/a.parquet", table)
    if hidden:
        body = (tmp_path / "a.parquet").read_bytes()
        at = body.rindex(b"\x07caption")  # its length and name, behind those of the schema
        put(f"{tmp_path}/a.parquet", body[:at] + b"\x07another" + body[at + 8 :])
        assert pq.read_metadata(f"{tmp_path}/a.parquet").row_group(0).column(2).path_in_schema == (
            "another"
        )
    before = pa.total_allocated_bytes()
    schema = pa.schema([(n, pa.string()) for n in ("key", "url", "caption", "detail")])
    (rows,) = read_columns(f"{tmp_path}/a.parquet", schema, LONGEST)
    assert rows["detail"].null_count == count
    assert rows["caption"].to_pylist() == [text[:LONGEST]] * count
    assert pa.total_allocated_bytes() - before < 100e6
    assert sorted(shown([f"{tmp_path}/a.parquet"], 9999)) == own
