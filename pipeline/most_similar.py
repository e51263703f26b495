"""The pairs of a dataset whose image and text agree best: what leaves where a share is kept.

All shards are there, and none of them changes here. Pairs that leave are added to pairs that leave
for their copies, so that shards are rewritten once. The same shards give the same pairs on any
runner.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from alignset.pipeline.curate import Places
from alignset.pipeline.progress import say
from alignset.pipeline.shown_texts import counted
from alignset.transforms.columns.hashing import UInt64s
from alignset.transforms.columns.records import key_hashes
from alignset.transforms.columns.rejects import keys_of
from alignset.transforms.rules.catalogue import SIMILARITY
from alignset.transforms.rules.given import LESS_SIMILAR
from alignset.transforms.rules.verdicts import numbers_of
from alignset.transforms.shards.leaving_pairs import (
    Leaving,
    leaving_of,
    name_of,
    read_leaving,
    write_leaving,
)
from alignset.transforms.shards.shard_places import ShardPlaces
from alignset.transforms.storage.documents import write_document
from alignset.transforms.storage.files import exists
from alignset.transforms.storage.parquet_files import read_rows

_THREADS = 16  # since a store answers slowly


def rank_pairs(shards: Sequence[int], places: Places, share: float) -> None:
    """Writes down what leaves so that a share of the dataset is kept; done before, it stays.

    Args:
      shards: the numbers of those that hold something.
    """
    if not shards or exists(places.work.ranking):
        return
    folder = places.work.leaving

    def read(shard: int) -> tuple[Leaving, UInt64s, npt.NDArray[np.float64]]:
        """Reads the pairs that leave already, and keys and similarities of the others that have
        one."""
        leaving = read_leaving(folder, name_of(shard)).rows
        # An attempt that was killed may have written some for this reason.
        leaving = Leaving(leaving.filter(pc.not_equal(leaving["reason"], LESS_SIMILAR.reason)))
        rows = leaving.rest_of(
            read_rows(ShardPlaces(places.out).sidecar(shard), ["key", SIMILARITY])
        )
        values = numbers_of(rows[SIMILARITY])
        is_number = ~np.isnan(values)  # an input may have NaN, which is not a similarity
        return leaving, keys_of(rows["key"].filter(pa.array(is_number))), values[is_number]

    with ThreadPoolExecutor(_THREADS) as pool:
        by_shard = dict(zip(shards, pool.map(read, shards), strict=True))
    values = np.concatenate([numbers for _, _, numbers in by_shard.values()])
    kept_count = int(round(share * len(values), 6))  # 0.29 * 100 is a little less than 29
    threshold = float(np.partition(values, -kept_count)[-kept_count]) if kept_count else np.inf
    # Among the pairs as similar as the last one, the smallest hashes of keys stay.
    tied = np.sort(
        key_hashes(np.concatenate([k[numbers == threshold] for _, k, numbers in by_shard.values()]))
    )
    first_gone = tied[kept_count - int(np.count_nonzero(values > threshold)) :][:1]
    total = 0
    for shard, (leaving, keys, of_shard) in by_shard.items():
        leaves = of_shard < threshold
        if len(first_gone):
            leaves |= (of_shard == threshold) & (key_hashes(keys) >= first_gone[0])
        new = leaving_of(keys[leaves], LESS_SIMILAR.reason)
        write_leaving(folder, name_of(shard), pa.concat_tables([leaving.rows, new]))
        total += len(new)
    write_document(places.work.ranking, {"pairs": total})
    say(f"{counted(total, 'pair')} are less similar than the others, and leave")
