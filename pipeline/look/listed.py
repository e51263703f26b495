"""The kept pairs that are on blocklists, and beside them the images of a list that they show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import pyarrow as pa

from alignset.pipeline.datasets.set_files import SetFiles, find_set
from alignset.pipeline.datasets.stored_images import stored_image
from alignset.pipeline.inputs.find_blocklists import find_blocklists
from alignset.pipeline.look.sample import Overlap, Pair, pair_of
from alignset.pipeline.look.shown_pairs import NothingToShow, ShownPairs
from alignset.pipeline.rules import Rules
from alignset.pipeline.shown_texts import counted, printable
from alignset.transforms.blocklists.blocklists import Blocklists
from alignset.transforms.columns.rejects import key_column
from alignset.transforms.decontamination.evaluation_files import set_folders
from alignset.transforms.decontamination.overlap_settings import EvaluationFile
from alignset.transforms.shards.image_places import read_places
from alignset.transforms.shards.listed_pairs import listed_in_shard, listed_texts
from alignset.transforms.shards.shard_places import ShardPlaces
from alignset.transforms.storage.parquet_files import batches_of, schema_of

_COLUMNS = ("key", "url", "caption", "width", "height")


def find_listed_pairs(
    out: str, blocklist: str, count: int, distances: tuple[int, int]
) -> ShownPairs:
    """The pairs to show: the first that are found, of as few files as have so many.

    Args:
      distances: bits, from which on an image is another than a listed phash or PDQ hash.

    Raises:
      UsageError: there is no such dataset, or a list is not one.
      NothingToShow: no kept pair is on a list.
    """
    names = ("min_blocked_phash_distance", "min_blocked_pdq_distance")
    replace(Rules(), **dict(zip(names, distances, strict=True)))  # checks them
    lists, files = find_blocklists(blocklist, *distances), find_set(out)
    # The sheet finds them as it finds evaluation images.
    list_files = [EvaluationFile(of.name, path) for of in lists.lists for path in of.files]
    folders = set_folders([(file.name, file.path) for file in list_files])
    pairs = list[Pair]()
    files_read = 0
    of_folder = dict(_keys_in_folder(out, lists)) if files.is_foreign else None
    for path in files.kept_files:
        if of_folder is not None:
            keys = of_folder.get(path, set())
        else:
            keys = (
                _keys_in_shard(path, lists) if files.is_of_shards else _keys_of_texts(path, lists)
            )
        # Each has the bytes of its image.
        pairs += islice(_of_file(path, keys, files, lists, folders), count - len(pairs))
        files_read += 1
        if len(pairs) >= count:
            break
    if not pairs:
        raise NothingToShow(f"no kept pair of {files.out} is on the list")
    subtitle = f"{len(pairs):,} kept pairs on {printable(blocklist)}, "
    kinds = ("shard",) if files.is_of_shards else ("file of pairs", "files of pairs")
    subtitle += f"from {files_read:,} of {counted(len(files.kept_files), *kinds)}"
    files = replace(files, evaluation=list_files)
    return ShownPairs(files, pairs, printable(files.out), subtitle)


def _keys_in_shard(path: str, lists: Blocklists) -> set[str]:
    on_list = listed_in_shard(path.removesuffix(".parquet"), lists, original=True)
    return {*key_column(on_list["key"].to_numpy()).to_pylist()}


def _keys_of_texts(path: str, lists: Blocklists) -> set[str]:
    parts = (listed_texts(pa.Table.from_batches([batch]), lists) for batch in batches_of(path))
    return {key for part in parts for key in key_column(part["key"].to_numpy()).to_pylist()}


def _keys_in_folder(out: str, lists: Blocklists) -> Iterator[tuple[str, set[str]]]:
    """The listed keys of a folder of another tool, by the paths of its sidecars."""
    from alignset.pipeline.datasets.folder_listed import find_in_folder  # which decodes images
    from alignset.pipeline.datasets.folders import read_folder

    folder = read_folder(out.rstrip("/") or out)
    assert folder is not None, "it has been read"
    places = ShardPlaces(folder.place)
    numbers = {shard: number for number, shard in enumerate(folder.shards)}
    for shard, listed in find_in_folder(folder, lists):
        number = numbers[shard]
        if (rows := read_places(places.tar(number))) is not None:
            columns = rows["key"].to_pylist(), rows["tar"].to_pylist(), rows["name"].to_pylist()
            names = {(tar, name.encode("utf-8", "surrogateescape")) for tar, name in listed.samples}
            pairs = zip(*columns, strict=True)
            yield places.sidecar(number), {key for key, *name in pairs if (*name,) in names}


def _rows(path: str) -> Iterator[dict[str, Any]]:
    names = [name for name in _COLUMNS if name in schema_of(path).names]
    for batch in batches_of(path, names):
        yield from batch.to_pylist()


def _of_file(
    path: str, keys: set[str], files: SetFiles, lists: Blocklists, folders: dict[str, str]
) -> Iterator[Pair]:
    stem = path.removesuffix(".parquet")
    for row in _rows(path) if keys else ():
        if row["key"] not in keys:
            continue
        pair = pair_of(row, path)
        body = stored_image(f"{stem}.tar", row["key"]) if stem in files.tars else None
        copy = lists.listed_copy(body) if body else None
        if body and copy:
            name = copy.path.removeprefix(folders[copy.name])
            pair = replace(pair, overlap=Overlap(copy.name, name, copy.distance, body))
        yield pair
