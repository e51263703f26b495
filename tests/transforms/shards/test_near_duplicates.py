from collections import defaultdict
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given
from hypothesis import strategies as st

from alignset.transforms.shards.near_duplicates import CountNearDuplicates, count_near_duplicates
from alignset.transforms.shards.shard_stats import NearDuplicates
from alignset.transforms.storage.blocks import Blocks
from tests.support.made_batches import run_in_beam


def by_hand(images: list[tuple[int, int]]) -> NearDuplicates:
    urls = defaultdict(set)
    for phash, url in images:
        urls[phash].add(url)
    shared = [len(of_hash) for of_hash in urls.values() if len(of_hash) > 1]
    return NearDuplicates(sum(shared), len(shared))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5))))
def test_counts_equal_those_by_hand(images: list[tuple[int, int]]) -> None:
    columns = np.array(images, np.uint64).reshape(-1, 2)
    assert count_near_duplicates(columns[:, 0], columns[:, 1]) == by_hand(images)


@pytest.mark.parametrize("by_reference", [False, True])
def test_images_of_all_shards_are_compared(tmp_path: Path, by_reference: bool) -> None:
    print("seed 3")
    random = np.random.default_rng(3)
    images = [(int(h) << 55 | int(h), int(u)) for h, u in random.integers(0, 400, (300, 2))]
    (tmp_path / "shards").mkdir()
    for shard, rows in enumerate((images[:100], images[100:250], images[250:])):
        columns = {
            "phash": [format(phash, "016x") for phash, _ in rows],
            "url": [f"http://a/{url}" for _, url in rows],
        }
        pq.write_table(pa.table(columns), tmp_path / "shards" / f"{shard:05}.parquet")
    (tmp_path / "blocks").mkdir()
    blocks = Blocks(str(tmp_path / "blocks") if by_reference else None)

    def build(pipeline: beam.Pipeline) -> None:
        count = CountNearDuplicates(str(tmp_path), blocks)
        found = pipeline | "Shards" >> beam.Create([0, 1, 2]) | "Count" >> count
        assert_that(found, equal_to([by_hand(images)]))
        none = pipeline | "None" >> beam.Create([]) | "CountNone" >> count
        assert_that(none, equal_to([NearDuplicates()]), label="none")

    run_in_beam(build)
    assert by_hand(images).images > 50
