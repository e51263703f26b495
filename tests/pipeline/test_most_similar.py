"""The best share of made shards: what has no similarity, and shares that no float holds."""

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.curate import Places
from alignset.pipeline.most_similar import rank_pairs
from alignset.pipeline.runs.work_folder import ImageSummary, WorkFolder, WrittenShard
from alignset.transforms.shards.changed_pairs import read_changes
from alignset.transforms.shards.shard_places import ShardPlaces
from alignset.transforms.storage.blocks import Blocks
from alignset.transforms.workers.counts import Counts
from alignset.transforms.workers.fencing import Fence

NOTHING = (None, math.nan)  # as similarities


@pytest.mark.parametrize(("share", "kept"), [(0.29, 29), (0.5, 50), (1e-9, 0)])
def test_what_has_no_similarity_stays_and_takes_no_place(
    tmp_path: Path, share: float, kept: int
) -> None:
    values = [*(n / 100 for n in range(100)), *NOTHING * 30]
    written = []
    for shard in range(2):
        own = [(f"{key:016x}", values[key], None) for key in range(shard, len(values), 2)]
        kinds = {"key": pa.string(), "similarity": pa.float64(), "opted_out": pa.string()}
        rows = [dict(zip(kinds, row, strict=True)) for row in own]
        path = Path(ShardPlaces(str(tmp_path)).sidecar(shard))
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, pa.schema(kinds)), path)
        written.append(WrittenShard(shard, len(rows), None))
    (tmp_path / "_temporary").mkdir()
    work = WorkFolder(str(tmp_path / "_temporary"))
    fence = Fence(work.start, "token")
    fence.take()
    places = Places(str(tmp_path), work, Blocks(), fence)
    found = rank_pairs(ImageSummary(written, Counts(), {}, [], {}), places, share)
    changes = [read_changes(found.copies_folder, shard).rows for shard in range(2)]
    gone = {key for rows in changes for key in rows["key"].to_pylist()}
    assert gone == {*range(100 - kept)}
    assert found.copies.dropped == {"less_similar": 100 - kept}
    assert rank_pairs(found, places, share) is found
