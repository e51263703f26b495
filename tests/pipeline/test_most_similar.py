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
from alignset.pipeline.runs.work_folder import WorkFolder
from alignset.transforms.columns.records import key_hashes
from alignset.transforms.shards.leaving_pairs import leaving_files, read_leaving
from alignset.transforms.shards.shard_places import ShardPlaces
from alignset.transforms.storage.blocks import Blocks

NOTHING = (None, math.nan)  # as similarities


def ranked(folder: Path, values: Sequence[float | None], share: float) -> set[int]:
    """The keys that leave two shards, whose pairs' keys are the places of their similarities."""
    for shard in range(2):
        own = range(shard, len(values), 2)
        keys = pa.array([f"{key:016x}" for key in own])
        rows = {"key": keys, "similarity": pa.array([values[key] for key in own], pa.float64())}
        path = Path(ShardPlaces(str(folder)).sidecar(shard))
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table(rows), path)
    work = WorkFolder(str(folder / "_temporary"))
    places = Places(str(folder), work, Blocks())
    found = []
    for again in (False, True):  # as by an attempt that was killed before it ended
        rank_pairs([0, 1], places, share)
        names = leaving_files(work.leaving)
        found.append([read_leaving(work.leaving, name).rows.to_pylist() for name in names])
        if not again:
            Path(work.ranking).unlink()
    assert found[0] == found[1]
    rows = [row for of in found[0] for row in of]
    assert {row["reason"] for row in rows} <= {"less_similar"}
    assert len({row["key"] for row in rows}) == len(rows)
    return {row["key"] for row in rows}


@pytest.mark.parametrize(("share", "kept"), [(0.29, 29), (0.5, 50), (1e-9, 0)])
def test_what_has_no_similarity_stays_and_takes_no_place(
    tmp_path: Path, share: float, kept: int
) -> None:
    values = [*(n / 100 for n in range(100)), *NOTHING * 30]
    assert ranked(tmp_path, values, share) == {*range(100 - kept)}


@pytest.mark.parametrize(("share", "ties"), [(0.5, 0), (0.75, 10), (1.0, 20)])
def test_among_equal_ones_the_smallest_hashes_of_keys_stay(
    tmp_path: Path, share: float, ties: int
) -> None:
    """Of 40 pairs 20 are better than the others, which are equal; the share is of all."""
    values = [0.5] * 20 + [0.9] * 20
    hashes = key_hashes(np.arange(20, dtype=np.uint64))
    stay = {*np.argsort(hashes)[: int(share * 40) - 20].tolist()}
    assert len(stay) == ties
    assert ranked(tmp_path, values, share) == {*range(20)} - stay
