"""Near-duplicates over shards: what leaves, and how many images of a cell are held at once."""

from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.transforms.arrivals.image_looks import LOOK, look_columns
from alignset.transforms.columns.rejects import key_column
from alignset.transforms.duplicates import find_near, near_groups
from alignset.transforms.duplicates.contents import CopyRules
from alignset.transforms.duplicates.find_copies import FindCopies
from alignset.transforms.shards.leaving_pairs import leaving_files, name_of, read_leaving
from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces
from alignset.transforms.storage.blocks import Blocks
from tests.support.made_batches import run_in_beam

ROWS, MOST = 200, 100


def put_shards(out: Path, count: int) -> list[int]:
    """Shards of which the first half of the images look like one, and the largest is in the
    second shard."""
    rng = np.random.default_rng(0)
    one = rng.integers(-127, 128, 64)
    shards = [*range(count), HOLDOUT]
    for shard in shards:
        looks = np.zeros(ROWS, LOOK)
        vectors = rng.integers(-127, 128, (ROWS, 64))
        vectors[: ROWS // 2] = np.clip(one + rng.integers(-9, 10, (ROWS // 2, 64)), -127, 127)
        looks["descriptor"] = vectors
        looks["trimmed_phash"][ROWS // 2 :] = rng.integers(0, 1 << 63, ROWS // 2)
        sides = rng.integers(100, 900, (2, ROWS))
        sides[:, 0] = 1000 if shard == 1 else 999
        keys = key_column(np.sort(rng.integers(0, 1 << 63, ROWS).astype(np.uint64)))
        texts = pa.array([f"text {key}" for key in keys.to_pylist()])
        table = {"key": keys, "url": texts, "caption": texts}
        table |= {"sha256": pa.array([rng.bytes(32).hex() for _ in range(ROWS)])}
        table |= {"opted_out": pa.nulls(ROWS, pa.string())}
        table |= {f"original_{name}": sides[at] for at, name in enumerate(("width", "height"))}
        path = Path(ShardPlaces(str(out)).sidecar(shard))
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table(table | look_columns(looks)), path)
    return shards


@pytest.mark.parametrize("shards", [4, 8])
def test_one_of_a_group_stays_whatever_its_size_and_a_cell_is_held_in_part(
    shards: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    held, cells = [], []

    def noted(nodes: np.ndarray) -> near_groups.Clusters:
        held.append(len(nodes))
        cells.append(nodes["key"].tolist())
        return near_groups.cluster(nodes)

    monkeypatch.setattr(find_near, "MOST_IN_CELL", MOST)
    monkeypatch.setattr(find_near, "cluster", noted)
    numbers = put_shards(tmp_path, shards)
    rules = CopyRules(1000, once=True, near=True)
    find = FindCopies(str(tmp_path), f"{tmp_path}/plan", "", rules, Blocks(), 4, 3)
    run_in_beam(lambda pipeline: pipeline | beam.Create(numbers) | find)
    best = pq.read_table(ShardPlaces(str(tmp_path)).sidecar(1))["key"][0].as_py()
    left = 0
    for shard in range(shards):
        rows = read_leaving(f"{tmp_path}/plan", name_of(shard)).rows
        assert set(rows["detail"].to_pylist()) == {best}
        assert all(rows["near"].to_pylist())
        keys = pq.read_table(ShardPlaces(str(tmp_path)).sidecar(shard))["key"].to_pylist()
        # All that look alike are in the first half; the others are in none of their groups.
        assert {f"{key:016x}" for key in rows["key"].to_pylist()} == {*keys[: ROWS // 2]} - {best}
        left += len(rows)
    assert left == shards * ROWS // 2 - 1
    assert leaving_files(f"{tmp_path}/plan") == [name_of(shard) for shard in range(shards)]
    assert max(held) == MOST
    assert len({key for cell in cells for key in cell}) < shards * ROWS  # some only follow
