"""What leaves the shards of a dataset once all are there: copies of images, and pairs whose image
and text agree less than in the others.

No shard changes here. The same shards give the same pairs on any runner.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from alignset.pipeline.curate import Places
from alignset.pipeline.progress import say
from alignset.pipeline.settings import Settings
from alignset.pipeline.shown_texts import core_time, counted
from alignset.transforms.columns.hashing import UInt64s
from alignset.transforms.columns.records import key_hashes, keys_of
from alignset.transforms.duplicates.find_copies import FindCopies, bucket_count
from alignset.transforms.duplicates.find_near import cell_count
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
from alignset.transforms.workers.threads import map_in_threads

# CPU-seconds of a photograph of 640x480 that is decoded small and described; and in colour.
DESCRIBED_S, LOOKED_AT_S = 0.001, 0.002


def descriptors_folder(settings: Settings, places: Places) -> str:
    """Where training images are described while they come; "" where nothing asks for it."""
    return places.work.descriptors if settings.cleans_holdout else ""


def describing_cost(pairs: int, *, near: bool = False) -> str:
    """One line about the images of finished shards, which nobody has described."""
    if near:
        return f"looking at all images for near-duplicates: about {core_time(pairs * LOOKED_AT_S)}"
    return f"looking for held-out images in training: about {core_time(pairs * DESCRIBED_S)}"


def find_copies(settings: Settings, places: Places, pairs: int, descriptors: str) -> FindCopies:
    """Finds copies among so many pairs, about, and writes down what leaves.

    Args:
      descriptors: a folder of the training images' descriptors; "" where held-out images are only
        compared by their bytes.
    """
    how = places.blocks, bucket_count(pairs), cell_count(pairs), descriptors
    return FindCopies(places.out, places.work.leaving, places.work.path, settings, *how)


def rank_pairs(shards: Sequence[int], places: Places, share: float) -> None:
    """Writes down what leaves so that a share of the dataset is kept; done before, it stays.

    Args:
      shards: the numbers of shards that hold something.
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

    by_shard = dict(zip(shards, map_in_threads(read, shards), strict=True))
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
