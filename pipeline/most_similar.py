"""The pairs of a dataset whose image and text agree best: what leaves where a share is kept.

All shards are there, and none of them changes here. Pairs that leave are added to pairs that leave
for their copies, so that shards are rewritten once. The same shards give the same pairs on any
runner.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from alignset.pipeline.curate import Places
from alignset.pipeline.progress import say
from alignset.pipeline.runs.work_folder import ImageSummary
from alignset.pipeline.shown_texts import counted
from alignset.transforms.columns.hashing import UInt64s, string_hashes
from alignset.transforms.columns.records import key_hashes
from alignset.transforms.duplicates.judge_contents import count_shared
from alignset.transforms.rules.catalogue import SIMILARITY
from alignset.transforms.rules.given import LESS_SIMILAR
from alignset.transforms.rules.verdicts import numbers_of
from alignset.transforms.shards.changed_pairs import LEAVING, ChangePlaces, read_changes
from alignset.transforms.shards.listed_pairs import contents, keys_of
from alignset.transforms.shards.shard_places import ShardPlaces
from alignset.transforms.shards.shard_stats import SharedContents
from alignset.transforms.shards.stated_opt_outs import reported_opt_outs
from alignset.transforms.storage.documents import write_document
from alignset.transforms.storage.files import write_atomically
from alignset.transforms.storage.parquet_files import read_rows

_THREADS = 16  # since a store answers slowly


def rank_pairs(images: ImageSummary, places: Places, share: float) -> ImageSummary:
    """Writes down what leaves so that a share of the dataset is kept, and returns the summary with
    it; done before, it stays as it is.
    """
    if images.ranked:
        return images
    shards = sorted(shard.number for shard in images.shards if shard.kept)
    folder = f"{places.work.path}/most-similar-{places.fence.token}"
    ranking = _Ranking(places, images.copies_folder, folder)
    copies = images.copies
    if shards:
        drop_counts, opt_outs = ranking.write_all(shards, share)
        shared = ranking.count_copies(shards) if copies.shared.images else copies.shared
        changed_shards = {*copies.shards, *(number for number, n in drop_counts.items() if n)}
        total = sum(drop_counts.values())
        copies = replace(
            copies,
            shards=sorted(changed_shards),
            dropped=copies.dropped | ({LESS_SIMILAR.reason: total} if total else {}),
            reported=dict(sorted((Counter(copies.reported) + opt_outs).items())),
            shared=shared,
        )
        say(f"{counted(total, 'pair')} are less similar than the others, and leave")
    ranked_images = replace(images, copies=copies, copies_folder=folder, ranked=True)
    places.fence.check()
    write_document(places.work.image_summary, ranked_images)
    return ranked_images


class _Ranking:
    """The pairs of shards by their similarity, without what leaves already."""

    def __init__(self, places: Places, before: str, folder: str) -> None:
        self._shards, self._fence = ShardPlaces(places.out), places.fence
        self._before, self._plan = before, ChangePlaces(folder)

    def write_all(self, shards: Sequence[int], share: float) -> tuple[dict[int, int], Counter[str]]:
        """How many pairs leave each shard, and the opt-outs that these only report."""
        with ThreadPoolExecutor(_THREADS) as pool:
            by_shard = dict(zip(shards, pool.map(self._read, shards), strict=True))
        values = np.concatenate([of for _, of in by_shard.values()])
        most = int(round(share * len(values), 6))  # 0.29 * 100 is a little less than 29
        least = float(np.partition(values, -most)[-most]) if most else np.inf
        # Among the pairs as similar as the last one, the smallest hashes of keys stay.
        tied = np.sort(key_hashes(np.concatenate([k[of == least] for k, of in by_shard.values()])))
        first_gone = tied[most - int(np.count_nonzero(values > least)) :][:1]
        drop_counts, opt_outs = {}, Counter[str]()
        for number, (keys, of_shard) in by_shard.items():
            leaves = of_shard < least
            if len(first_gone):
                leaves |= (of_shard == least) & (key_hashes(keys) >= first_gone[0])
            drop_counts[number] = int(np.count_nonzero(leaves))
            opt_outs += self._write(number, keys[leaves])
        return drop_counts, opt_outs

    def count_copies(self, shards: Sequence[int]) -> SharedContents:
        """Counts the images whose bytes another pair that stays has."""

        def left_in(shard: int) -> tuple[UInt64s, UInt64s]:
            rows = read_rows(self._shards.sidecar(shard), ["key", "sha256", "url"])
            rows = read_changes(self._plan.folder, shard).rest_of(rows)
            urls = [string_hashes(of) for of in rows["url"].chunks]
            return contents(rows["sha256"]), np.concatenate([np.zeros(0, np.uint64), *urls])

        with ThreadPoolExecutor(_THREADS) as pool:
            columns = zip(*pool.map(left_in, shards), strict=True)
            return count_shared(*(np.concatenate(column) for column in columns))

    def _read(self, shard: int) -> tuple[UInt64s, npt.NDArray[np.float64]]:
        """Keys and similarities of the pairs that have one and stay."""
        rows = self._rows(shard, ["key", SIMILARITY])
        values = numbers_of(rows[SIMILARITY])
        is_number = ~np.isnan(values)  # an input may have NaN, which is not a similarity
        return keys_of(rows["key"].filter(pa.array(is_number))), values[is_number]

    def _rows(self, shard: int, columns: list[str]) -> pa.Table:
        rows = read_rows(self._shards.sidecar(shard), columns)
        return read_changes(self._before, shard).rest_of(rows)

    def _write(self, shard: int, leaves: UInt64s) -> Counter[str]:
        """Writes down what leaves a shard, for its copies too; the opt-outs of those pairs."""
        before, count = read_changes(self._before, shard).rows, len(leaves)
        table = pa.table(
            [
                pa.array(leaves),
                pa.array([LESS_SIMILAR.reason] * count, pa.string()),
                pa.nulls(count, pa.string()),
                pa.array(np.zeros(count, np.bool_)),
            ],
            schema=LEAVING,
        )
        whole = pa.concat_tables([before, table])
        if len(whole):
            self._fence.check()
            path = self._plan.leaving(shard)
            write_atomically(path, lambda sink: pq.write_table(whole, sink))
        if not count:
            return Counter()
        rows = self._rows(shard, ["key", "opted_out"])
        leaving = pa.array(np.isin(keys_of(rows["key"]), leaves))
        opt_outs = rows.select(["opted_out"]).filter(leaving).to_pylist()
        return Counter(reported_opt_outs(opt_outs))
