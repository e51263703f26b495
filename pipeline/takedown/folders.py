"""A takedown from a folder of another tool: its shards are copied without what is on the lists,
each with its sidecar and its stats, into a new folder or in their place."""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alignset.pipeline.datasets.find_listed import Outcome, find_in_shards
from alignset.pipeline.datasets.folder_samples import FolderShard
from alignset.pipeline.datasets.folders import Folder
from alignset.pipeline.errors import UsageError
from alignset.pipeline.report.page import REPORT
from alignset.transforms.blocklists.blocklists import Blocklists
from alignset.transforms.shards.image_places import read_places
from alignset.transforms.shards.listed_pairs import Removal, keys_of
from alignset.transforms.shards.shard_places import ShardPlaces
from alignset.transforms.storage.files import (
    copy_file,
    exists,
    match,
    open_to_read,
    remove,
    write_atomically,
)
from alignset.transforms.storage.parquet_files import batches_of
from alignset.transforms.storage.tar_members import BLOCK, tar_members

_PIECE, _ROWS_AT_ONCE = 1 << 20, 1000


def take_down_folder(folder: Folder, lists: Blocklists, target: str) -> Outcome:
    """Writes a folder without what is on the lists.

    Args:
      target: the new folder, or the folder itself; "" writes nothing.

    Raises:
      UsageError: a file cannot be read to its end.
    """
    if target and folder.faults:
        raise UsageError(f"{folder.faults[0]} Replace it, or take it away: it may hold anything")
    places = ShardPlaces(folder.place)
    holding = [n for n in range(len(folder.shards)) if exists(places.sidecar(n))]
    matches = find_in_shards(folder.place, holding, lists, original=True)
    removals = dict(_removals(folder, Removal(matches.rows, lists)))
    if target and removals:
        _write(folder, removals, target)
    pairs, others = len(matches.rows), sum(map(len, removals.values())) - len(matches.rows)
    return Outcome(matches.details, pairs, max(0, others), len(removals), len(folder.shards), 0)


def _removals(folder: Folder, removal: Removal) -> Iterator[tuple[int, set[str]]]:
    """The names of the samples and rows that go, by the number of their shard."""
    for number in range(len(folder.shards)):
        places = ShardPlaces(folder.place)
        if (rows := read_places(places.tar(number))) is None:
            continue
        keys = removal.rows["key"].combine_chunks()
        for batch in batches_of(places.rejected(number)):
            on_list = batch.filter(removal.details_of_dropped(batch).is_valid())
            keys = pa.concat_arrays([keys, pa.array(keys_of(on_list["key"]))])
        own = pc.is_in(pa.array(keys_of(rows["key"])), value_set=keys)
        if names := set(rows["name"].filter(own).to_pylist()):
            yield number, names


def _write(folder: Folder, removals: Mapping[int, set[str]], target: str) -> None:
    in_place = target == folder.path
    rest = {path for path, _ in match(folder.path, links=True)} if not in_place else set()
    report = f"{folder.path.rstrip('/')}/{REPORT}"  # which shows images of what leaves
    rest.discard(report)
    if in_place and exists(report):
        remove(report)

    def place(path: str) -> str:
        return f"{target.rstrip('/')}{path.removeprefix(folder.path.rstrip('/'))}"

    for number, shard in enumerate(folder.shards):
        if names := removals.get(number):
            samples = read_places(ShardPlaces(folder.place).tar(number))
            assert samples is not None, "some of them go"
            rest -= set(_write_shard(shard, names, len(samples) - len(names), place))
    for path in sorted(rest):
        copy_file(path, place(path))


def _write_shard(
    shard: FolderShard, names: Collection[str], rest: int, place: Callable[[str], str]
) -> Iterator[str]:
    """Writes the files of a shard without some samples, where a rest stays; returns the paths. The
    images go last: by them a command that was killed finds again what is to do."""
    if shard.sidecar:
        _write_sidecar(shard.sidecar, names, place(shard.sidecar))
        yield shard.sidecar
    stats = shard.path.removesuffix(".tar") + "_stats.json"
    if exists(stats):
        _write_stats(stats, rest, shard.sidecar, place)
        yield stats
    yield from _write_samples(shard.path, names, place)


def _write_samples(path: str, names: Collection[str], place: Callable[[str], str]) -> Iterator[str]:
    if path.endswith(".tar"):
        with open_to_read(path) as source:
            write_atomically(place(path), lambda sink: _copy_tar(source, names, sink))
        yield path
        return
    for file, _ in match(path):
        if file.rpartition("/")[2].partition(".")[0] in names:
            if place(file) == file:
                remove(file)
            yield file


def _copy_tar(source: BinaryIO, names: Collection[str], sink: BinaryIO) -> None:
    """Copies the members of other samples, headers and all."""
    for member in tar_members(source):
        folder, _, base = member.name.removeprefix("./").rpartition("/")
        if "/".join(filter(None, (folder, base.partition(".")[0]))) in names:
            continue
        end = member.at + member.size if member.plain else member.at
        source.seek(member.start)
        rest = end - member.start
        while piece := source.read(min(rest, _PIECE)):
            sink.write(piece)
            rest -= len(piece)
        sink.write(bytes(-(end - member.start) % BLOCK))
    sink.write(bytes(tarfile.RECORDSIZE))


def _write_sidecar(path: str, names: Collection[str], target: str) -> None:
    with open_to_read(path) as source, pq.ParquetFile(source) as file:

        def write(sink: BinaryIO) -> None:
            with pq.ParquetWriter(sink, file.schema_arrow, compression="zstd") as writer:
                for batch in file.iter_batches(_ROWS_AT_ONCE):
                    keys = batch["key"].cast(pa.string())
                    others = pc.invert(pc.is_in(keys, value_set=pa.array(names, pa.string())))
                    writer.write_batch(batch.filter(pc.fill_null(others, True)))

        write_atomically(target, write)


def _write_stats(path: str, rest: int, sidecar: str, place: Callable[[str], str]) -> None:
    """Counts anew by the sidecar; where there is none, the samples that stay are the successes."""
    with open_to_read(path) as source:
        stats = json.loads(source.read())
    ends = Counter(stats.get("status_dict") or {})
    if sidecar:
        with open_to_read(place(sidecar)) as source:
            rows = pq.read_table(source, columns=["status", "error_message"]).to_pylist()
        ends = Counter(row["error_message"] or row["status"] for row in rows)
        statuses = Counter(row["status"] for row in rows)
        stats |= {name: statuses[name] for name in ("failed_to_download", "failed_to_resize")}
        stats |= {"count": len(rows), "successes": statuses["success"]}
    else:
        count = max(0, stats.get("successes", rest) - rest)  # 0 after a kill behind this
        ends["success"] -= count
        stats |= {name: stats.get(name, count) - count for name in ("count", "successes")}
    stats["status_dict"] = dict(+ends)
    write_atomically(place(path), lambda sink: sink.write(json.dumps(stats, indent=4).encode()))
