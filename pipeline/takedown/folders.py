"""A takedown from a folder of another tool: its shards are copied without what is on the lists,
each with its sidecar and its stats, into a new folder or in their place."""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from alignset.pipeline.datasets.find_listed import Outcome
from alignset.pipeline.datasets.folder_listed import (
    ROWS_AT_ONCE,
    ListedInShard,
    base_name,
    find_in_folder,
    unreadable,
)
from alignset.pipeline.datasets.folder_samples import FolderShard, is_text
from alignset.pipeline.datasets.folders import Folder
from alignset.pipeline.errors import UsageError
from alignset.pipeline.report.page import REPORT
from alignset.pipeline.shown_texts import printable
from alignset.transforms.blocklists.blocklists import Blocklists
from alignset.transforms.storage.broken_files import broken_file
from alignset.transforms.storage.files import (
    copy_file,
    exists,
    is_aside,
    match,
    open_to_read,
    remove,
    write_atomically,
)
from alignset.transforms.storage.parquet_files import RowWriter
from alignset.transforms.storage.tar_members import Member, copy_without

_MOST_NAMED = 5
_MOST_STATS = 1 << 20  # bytes; img2dataset's have some hundreds
_COUNTS = ("count", "successes", "failed_to_download", "failed_to_resize")


def take_down_folder(folder: Folder, lists: Blocklists, target: str) -> Outcome:
    """Writes a folder without what is on the lists. Each shard is looked through before the first
    file changes.

    Args:
      target: the new folder, or the folder itself; "" writes nothing.

    Raises:
      UsageError: a file cannot be read to its end, or cannot be written without what is listed.
    """
    if target and folder.faults:
        raise UsageError(f"{folder.faults[0]} Replace it, or take it away: it may hold anything")
    changes = [_Change(*found) for found in find_in_folder(folder, lists)]
    if target and changes:
        _write(folder, changes, target)
    kept = Counter(why for change in changes for why in change.kept)
    others = sum(change.entries for change in changes) - kept.total()
    details = dict(sorted(kept.items()))
    return Outcome(details, kept.total(), others, len(changes), len(folder.shards), 0)


def _write(folder: Folder, changes: list[_Change], target: str) -> None:
    in_place = target == folder.path
    rest = {path for path, _ in match(folder.path, links=True, hidden=True) if not is_aside(path)}
    report = f"{folder.path.rstrip('/')}/{REPORT}"  # which shows images of what leaves
    rest.discard(report)
    _tell_unread(folder, rest)
    if in_place and exists(report):
        remove(report)

    def place(path: str) -> str:
        return f"{target.rstrip('/')}{path.removeprefix(folder.path.rstrip('/'))}"

    # Shards that only have rows of an image of another shard go first: by it they are found again.
    for change in sorted(changes, key=lambda change: bool(change.kept)):
        rest -= change.write(place)
    for path in sorted(rest) if not in_place else ():
        copy_file(path, place(path))


def _tell_unread(folder: Folder, paths: Collection[str]) -> None:
    """Names the files that are of no shard, which nobody has looked into."""
    stems = [shard.path.removesuffix(".tar") for shard in folder.shards]
    known = {f"{stem}{end}" for stem in stems for end in (".tar", ".parquet", "_stats.json")}
    others = [p for p in paths if p not in known and p.rpartition("/")[0] not in stems]
    if others:
        names = ", ".join(printable(path) for path in sorted(others)[:_MOST_NAMED])
        more = f" and {len(others) - _MOST_NAMED:,} more" if len(others) > _MOST_NAMED else ""
        print(f"not searched, and left as they are: {names}{more}", file=sys.stderr)


class _Change:
    """The samples and rows that leave a shard.

    Attributes:
      kept: the lists of the samples that leave and whose image can be read.
      entries: how many samples leave, and rows without a sample.

    Raises:
      UsageError: a file cannot be written without it.
    """

    def __init__(self, shard: FolderShard, listed: ListedInShard) -> None:
        self.shard, self.kept = shard, listed.kept
        self.listed_rows = listed.rows  # of the sidecar, by their places, as are the next two
        self.removed = listed.names & listed.samples.keys()
        by_key = dict(_rows_by_key(shard.sidecar, listed)) if shard.sidecar else {}
        self.rows = by_key.keys() | listed.rows
        self.only_by_key = by_key.keys() - listed.rows
        names = {name for _, name in self.removed}
        names |= {base_name(name) for name in names}
        self.entries = len(self.removed) + sum(by_key.get(row) not in names for row in self.rows)
        self.stats_path = shard.path.removesuffix(".tar") + "_stats.json"
        self.stats = None
        if exists(self.stats_path):
            self.stats = self._new_stats(len(listed.names) - len(self.removed))
        with tempfile.TemporaryFile() as aside:
            path = shard.sidecar or shard.path
            try:
                if shard.sidecar:
                    _copy_sidecar(shard.sidecar, self.rows, aside)
                path = shard.path
                if path.endswith(".tar"):
                    with open_to_read(path) as source:
                        copy_without(source, self._leaves, None)
            except Exception as error:
                if (fault := broken_file(path, error)) is None:
                    raise
                raise unreadable(path, fault.fault) from error

    def write(self, place: Callable[[str], str]) -> set[str]:
        """Writes the files of the shard, and returns their paths.

        In their own place, a row that is listed goes last, and a row of a sample that is listed
        goes first: so a command that was killed finds again what is left.
        """
        sidecar, path = self.shard.sidecar, self.shard.path
        in_place = place(path) == path
        first_rows, last_rows = (
            (self.only_by_key, self.listed_rows) if in_place else (self.rows, ())
        )
        if sidecar and (first_rows or not in_place):
            _write_sidecar(sidecar, first_rows, place(sidecar))
        if self.stats is not None:
            body = json.dumps(self.stats, indent=4).encode()
            write_atomically(place(self.stats_path), lambda sink: sink.write(body))
        written = {path for path in (sidecar, self.stats_path) if path}
        if not path.endswith(".tar"):
            written |= set(self._write_files(path, place))
        elif self.removed or not in_place:
            with open_to_read(path) as source:
                write_atomically(place(path), lambda sink: copy_without(source, self._leaves, sink))
            written.add(path)
        if last_rows:
            earlier = np.array(sorted(first_rows), np.int64)
            rest = {row - int(np.searchsorted(earlier, row)) for row in last_rows}
            _write_sidecar(sidecar, rest, sidecar)
        return written

    def _write_files(self, path: str, place: Callable[[str], str]) -> Iterator[str]:
        """The paths of the files of samples that leave, which are not copied, or removed."""
        for file, _ in match(path, hidden=True):
            if (0, file.rpartition("/")[2].partition(".")[0]) in self.removed:
                if place(file) == file:
                    remove(file)
                yield file

    def _leaves(self, member: Member) -> bool:
        folder, _, base = member.name.rpartition("/")
        name = "/".join(filter(None, (folder, base.partition(".")[0])))
        return (member.tar, name.removeprefix("./")) in self.removed

    def _new_stats(self, rest: int) -> dict[str, Any]:
        """The counts of the samples that stay, by the sidecar's statuses or else by their number.

        Args:
          rest: how many samples stay.
        """
        stats = _read_stats(self.stats_path)
        rows = _statuses(self.shard.sidecar, self.rows) if self.shard.sidecar else None
        if rows is None:
            # 0 behind a kill after this was written.
            gone = max(0, stats.get("successes", 0) - rest)
            ends = Counter[str](stats.get("status_dict") or {})
            ends["success"] -= gone
            numbers = {name: stats[name] - gone for name in _COUNTS[:2] if name in stats}
        else:
            statuses, ends = rows
            numbers = {name: statuses[name] for name in _COUNTS[2:]}
            numbers |= {"count": statuses.total(), "successes": statuses["success"]}
        return stats | numbers | {"status_dict": dict(+ends)}


def _read_stats(path: str) -> dict[str, Any]:
    """The counts of a shard.

    Raises:
      UsageError: they are not in img2dataset's form.
    """
    with open_to_read(path) as source:
        body = source.read(_MOST_STATS + 1)
    stats: Any = None
    if len(body) <= _MOST_STATS:
        with suppress(ValueError, RecursionError):
            stats = json.loads(body)
    if isinstance(stats, dict):
        ends = stats.get("status_dict") or {}
        counts = [stats.get(name, 0) for name in _COUNTS]
        if isinstance(ends, dict) and all(type(n) is int for n in (*counts, *ends.values())):
            return stats
    raise unreadable(path, "it has no counts as img2dataset writes them")


def _rows_by_key(path: str, listed: ListedInShard) -> Iterator[tuple[int, str]]:
    """The places and keys of a sidecar's rows whose sample leaves.

    Raises:
      UsageError: a row may belong to several samples.
    """
    with open_to_read(path) as source:
        schema = pq.read_schema(source)
    if "key" not in schema.names or not is_text(schema.field("key").type):
        raise unreadable(path, "it has no column key of texts, by which a sample's row is found")
    gone = {name for _, name in listed.samples}
    stays = {name for _, name in listed.names - listed.samples.keys()}
    bases_gone, bases_stay = ({base_name(name) for name in names} for names in (gone, stays))
    rows: dict[str, list[int]] = {}
    for row, key in enumerate(_keys(path)):
        if key is not None and (key in gone or (key in bases_gone and key not in stays)):
            rows.setdefault(key, []).append(row)
    for key, of_key in rows.items():
        is_unclear = key in stays or (key not in gone and key in bases_stay) or len(of_key) > 1
        if is_unclear and not listed.rows.issuperset(of_key):
            raise unreadable(path, f"its key {printable(key)} is of several samples or rows")
        yield from ((row, key) for row in of_key)


def _keys(path: str) -> Iterator[str | None]:
    with open_to_read(path) as source, pq.ParquetFile(source) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=["key"]):
            yield from batch["key"].to_pylist()


def _statuses(path: str, rows: Collection[int]) -> tuple[Counter[str], Counter[str]] | None:
    """The statuses of a sidecar's rows without some, and how fetches ended; None: it has none."""
    names = ["status", "error_message"]
    with open_to_read(path) as source, pq.ParquetFile(source) as file:
        schema = file.schema_arrow
        names = [n for n in names if n in schema.names and is_text(schema.field(n).type)]
        if "status" not in names:
            return None
        statuses, ends, start = Counter[str](), Counter[str](), 0
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=names):
            for at, row in enumerate(batch.to_pylist(), start):
                if at not in rows:
                    statuses[row["status"] or ""] += 1
                    ends[row.get("error_message") or row["status"] or ""] += 1
            start += len(batch)
    return statuses, ends


def _write_sidecar(path: str, rows: Collection[int], target: str) -> None:
    write_atomically(target, lambda sink: _copy_sidecar(path, rows, sink))


def _copy_sidecar(path: str, rows: Collection[int], sink: BinaryIO) -> None:
    """Copies a sidecar without some of its rows."""
    left_out, start = np.array(sorted(rows), np.int64), 0
    with (
        open_to_read(path) as source,
        pq.ParquetFile(source) as file,
        pq.ParquetWriter(sink, file.schema_arrow, compression="zstd") as writer,
    ):
        groups = RowWriter(writer)
        for batch in file.iter_batches(ROWS_AT_ONCE):
            first, last = np.searchsorted(left_out, [start, start + len(batch)])
            stays = np.ones(len(batch), np.bool_)
            stays[left_out[first:last] - start] = False
            groups.write(batch.filter(pa.array(stays)))
            start += len(batch)
        groups.finish()
