"""The best share of made shards: what has no similarity, and shares that no float holds."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.curate import Places
from alignset.pipeline.most_similar import rank_pairs
from alignset.pipeline.runs.work_folder import ImageSummary, WorkFolder, WrittenShard
from alignset.transforms.columns.records import key_hashes
from alignset.transforms.shards.changed_pairs import read_changes
from alignset.transforms.shards.shard_places import ShardPlaces
from alignset.transforms.storage.blocks import Blocks
from alignset.transforms.workers.counts import Counts
from alignset.transforms.workers.fencing import Fence

NOTHING = (None, math.nan)  # as similarities


def ranked(folder: Path, values: Sequence[float | None], share: float) -> tuple[set[int], int]:
    """The keys that leave two shards, whose pairs' keys are the places of their similarities; and
    how many leave, as the summary has it."""
    written = []
    for shard in range(2):
        own = [(f"{key:016x}", values[key], None) for key in range(shard, len(values), 2)]
        kinds = {"key": pa.string(), "similarity": pa.float64(), "opted_out": pa.string()}
        rows = [dict(zip(kinds, row, strict=True)) for row in own]
        path = Path(ShardPlaces(str(folder)).sidecar(shard))
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, pa.schema(kinds)), path)
        written.append(WrittenShard(shard, len(rows), None))
    (folder / "_temporary").mkdir()
    work = WorkFolder(str(folder / "_temporary"))
    fence = Fence(work.start, "token")
    fence.take()
    places = Places(str(folder), work, Blocks(), fence)
    found = rank_pairs(ImageSummary(written, Counts(), {}, [], {}), places, share)
    assert rank_pairs(found, places, share) is found
    changes = [read_changes(found.copies_folder, shard).rows for shard in range(2)]
    gone = {key for rows in changes for key in rows["key"].to_pylist()}
    assert {*found.copies.dropped} <= {"less_similar"}
    return gone, found.copies.dropped.get("less_similar", 0)


@pytest.mark.parametrize(("share", "kept"), [(0.29, 29), (0.5, 50), (1e-9, 0)])
def test_what_has_no_similarity_stays_and_takes_no_place(
    tmp_path: Path, share: float, kept: int
) -> None:
    values = [*(n / 100 for n in range(100)), *NOTHING * 30]
    assert ranked(tmp_path, values, share) == ({*range(100 - kept)}, 100 - kept)


@pytest.mark.parametrize(("share", "ties"), [(0.5, 0), (0.75, 10), (1.0, 20)])
def test_among_equal_ones_the_smallest_hashes_of_keys_stay(
    tmp_path: Path, share: float, ties: int
) -> None:
    """Of 40 pairs 20 are better than the others, which are equal; the share is of all."""
    values = [0.5] * 20 + [0.9] * 20
    hashes = key_hashes(np.arange(20, dtype=np.uint64))
    stay = {*np.argsort(hashes)[: int(share * 40) - 20].tolist()}
    assert len(stay) == ties
    gone, count = ranked(tmp_path, values, share)
    assert gone == {*range(20)} - stay
    assert count == len(gone)
