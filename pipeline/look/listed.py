"""The kept pairs that are on blocklists, and beside them the images of a list that they show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from alignset.pipeline.datasets.set_files import SetFiles, find_set
from alignset.pipeline.datasets.stored_images import stored_image
from alignset.pipeline.inputs.find_blocklists import find_blocklists
from alignset.pipeline.look.sample import Overlap, Pair, pair_of
from alignset.pipeline.look.shown_pairs import NothingToShow, ShownPairs
from alignset.pipeline.rules import Rules
from alignset.pipeline.shown_texts import counted, printable
from alignset.transforms.blocklists.blocklists import Blocklists
from alignset.transforms.decontamination.evaluation_index import set_folders
from alignset.transforms.decontamination.overlap_settings import EvaluationFile
from alignset.transforms.shards.listed_pairs import listed_in_shard
from alignset.transforms.storage.parquet_files import read_rows

_COLUMNS = ("key", "url", "caption", "width", "height")


def find_listed_pairs(out: str, blocklist: str, count: int) -> ShownPairs:
    """The pairs to show: the first that are found, of as few shards as have so many.

    Raises:
      UsageError: there is no such dataset, or a list is not one.
      NothingToShow: no kept pair is on a list.
    """
    rules = Rules()
    distances = rules.min_blocked_phash_distance, rules.min_blocked_pdq_distance
    lists, files = find_blocklists(blocklist, *distances), find_set(out)
    # The sheet finds them as it finds evaluation images.
    list_files = [EvaluationFile(of.name, path) for of in lists.lists for path in of.files]
    folders = set_folders([(file.name, file.path) for file in list_files])
    pairs = list[Pair]()
    shards_read = 0
    for path in files.kept_files if files.is_of_shards else ():
        # Each has the bytes of its image.
        pairs += islice(_of_shard(path, files, lists, folders), count - len(pairs))
        shards_read += 1
        if len(pairs) >= count:
            break
    if not pairs:
        raise NothingToShow(f"no kept pair of {files.out} is on the list")
    subtitle = f"{len(pairs):,} kept pairs on {printable(blocklist)}, "
    subtitle += f"from {shards_read:,} of {counted(len(files.kept_files), 'shard')}"
    files = replace(files, evaluation=list_files)
    return ShownPairs(files, pairs, printable(files.out), subtitle)


def _of_shard(
    path: str, files: SetFiles, lists: Blocklists, folders: dict[str, str]
) -> Iterator[Pair]:
    stem = path.removesuffix(".parquet")
    on_list = listed_in_shard(stem, lists, original=True).to_pylist()
    keys = {f"{row['key']:016x}" for row in on_list}
    rows = read_rows(path, _COLUMNS).to_pylist() if keys else []
    for row in rows:
        if row["key"] not in keys:
            continue
        pair = pair_of(row, path)
        body = stored_image(f"{stem}.tar", row["key"]) if stem in files.tars else None
        copy = lists.listed_copy(body) if body else None
        if body and copy:
            name = copy.path.removeprefix(folders[copy.name])
            pair = replace(pair, overlap=Overlap(copy.name, name, copy.distance, body))
        yield pair
