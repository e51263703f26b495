from itertools import cycle
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given
from hypothesis import strategies as st

from alignset.transforms.pairs.urls import url_hashes
from alignset.transforms.shards import plan_shards
from alignset.transforms.shards.plan_shards import (
    PlanShards,
    group_count,
    plan_path,
    shard_count,
    shards_of,
)
from alignset.transforms.storage.blocks import Blocks
from tests.support.made_batches import run_in_beam

TOP = 2**64 - 1
SCHEMES = ("http", "HTTP", "hTTp")


def test_the_number_of_shards_and_groups() -> None:
    sizes = [(0, 0), (1, 1), (10, 1), (11, 2), (20, 2), (21, 3)]
    assert [(pairs, shard_count(pairs, 10)) for pairs, _ in sizes] == sizes
    groups = {
        (10, 1): 1,
        (10_240_000, 1024): 1024,
        (10_240_001, 1025): 1024,
        (1_536_000_000, 153_600): 1024,
        (1_536_000_001, 153_601): 1025,
        (5_650_000_000, 1000): 1000,
    }
    assert {counts: group_count(*counts) for counts in groups} == groups


@given(st.lists(st.integers(0, TOP)), st.integers(1, 2**32 - 1))
def test_shards_are_equal_parts_of_all_hashes(keys: list[int], shards: int) -> None:
    numbers = shards_of(np.array(keys, np.uint64), shards).tolist()
    assert numbers == [(key >> 32) * shards >> 32 for key in keys]
    assert all(0 <= shard < shards for shard in numbers)


@pytest.mark.parametrize("by_reference", [False, True])
@pytest.mark.parametrize("groups", [2, 1024])
def test_plans_in_beam(tmp_path: Path, monkeypatch, by_reference: bool, groups: int) -> None:
    monkeypatch.setattr(plan_shards, "MAX_GROUPS", groups)  # neighbours that share a block
    (tmp_path / "blocks").mkdir()
    blocks = Blocks(str(tmp_path / "blocks") if by_reference else None)
    keys = np.random.default_rng(2).integers(0, TOP, 45, np.uint64)
    # Of every image three pairs, but for what tells its URLs apart to the eye alone.
    urls = [
        f"{scheme}://h{at // 3}.example/#{at}"
        for at, scheme in zip(range(45), cycle(SCHEMES), strict=False)
    ]
    # The second of an image's pairs comes from a shard, and so does one image alone.
    paths = ["x.tar" if at in (1, 4, 5) else None for at in range(45)]
    rows = pa.record_batch({"key": keys, "url": urls, "source_path": paths})
    places = shards_of(url_hashes(rows["url"])[0], 5)
    sizes = np.bincount(places, minlength=5).tolist()
    kept = [(split, rows.slice(at, 9)) for split, at in enumerate(range(0, 45, 9))]

    def build(pipeline: beam.Pipeline) -> None:
        total = pipeline | "Kept" >> beam.Create([len(rows)])
        plan = PlanShards(str(tmp_path / "plan"), 10, total, blocks)
        written = pipeline | "Pairs" >> beam.Create(kept) | plan
        assert_that(written.shards, equal_to([item for item in enumerate(sizes) if item[1]]))
        assert_that(written.stored | beam.CombineGlobally(sum), equal_to([6]), label="stored")

    run_in_beam(build)
    filled = [shard for shard in range(5) if sizes[shard]]
    for shard in filled:
        expected = pa.Table.from_batches([rows]).filter(pa.array(places == shard)).sort_by("key")
        assert pq.read_table(plan_path(str(tmp_path / "plan"), shard)).equals(expected)
        images = {url.lower().partition("#")[0] for url in expected["url"].to_pylist()}
        assert len(expected) == 3 * len(images)
    assert len(list((tmp_path / "plan").iterdir())) == len(filled) > 2
