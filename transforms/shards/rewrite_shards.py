"""Finished files of a dataset written anew without some pairs, or with others: no reader meets
half.

A rewritten shard is written aside, read back and compared, and then published file by file: first
the rejects, so that no pair is lost where this is killed; then sidecar, tar and stats. At any
moment a reader finds each key of the sidecar in the tar. Done again, it does what is left.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec import UNSET

from alignset.transforms.columns.hashing import UInt64s
from alignset.transforms.columns.rejects import (
    REJECTED,
    rejected_rows,
    with_columns,
    without_contents,
)
from alignset.transforms.rules.catalogue import STEP_OF_TAKEDOWNS, STEPS_OF_COPIES
from alignset.transforms.rules.given import OPTED_OUT, TAKEN_DOWN
from alignset.transforms.shards.changed_pairs import Changes
from alignset.transforms.shards.joined_pairs import (
    MOVED,
    as_columns,
    key_of,
    with_first_urls,
    with_joined_responses,
    with_joined_rows,
    write_tar,
)
from alignset.transforms.shards.listed_pairs import Removal, keys_of, stored_images
from alignset.transforms.shards.shard_files import LOOK_SCHEMA, SHARD_SCHEMA, TarWriter
from alignset.transforms.shards.shard_places import ShardPlaces
from alignset.transforms.shards.shard_stats import ShardStats, shard_stats
from alignset.transforms.shards.stated_opt_outs import reported_opt_outs
from alignset.transforms.storage.documents import read_document
from alignset.transforms.storage.files import (
    exists,
    open_to_read,
    publish,
    remove,
    write_atomically,
)
from alignset.transforms.storage.parquet_files import (
    ROWS_AT_ONCE,
    batches_of,
    read_rows,
    schema_of,
    write_batches,
)
from alignset.transforms.storage.tar_members import tar_members

_OF_EVERY_RUN = {*SHARD_SCHEMA.names, *LOOK_SCHEMA.names, *REJECTED.names}


@dataclass(frozen=True)
class Rewriting:
    """Pairs to remove from a dataset, and how.

    Attributes:
      scratch: a folder for what is written aside, on the disk of a local set; None for the
        system's own.
      forget: whether rows of what is taken out hold neither URL nor text any more.
    """

    out: str
    removal: Removal | Changes
    scratch: str | None
    forget: bool

    @property
    def places(self) -> ShardPlaces:
        return ShardPlaces(self.out)

    def shard(self, shard: int) -> ShardStats:
        """Takes the pairs out of a shard; returns what its stats say then.

        Raises:
          RuntimeError: what was written aside is not as it should be; the shard is as it was.
        """
        places = self.places
        old = read_document(places.stats(shard), ShardStats)
        sidecar = SHARD_SCHEMA.empty_table()  # none: by an attempt that was killed
        if exists(places.sidecar(shard)):
            sidecar = read_rows(places.sidecar(shard))
        self._bring_rejects(places.rejected(shard), sidecar.schema)
        if self.scratch:
            Path(self.scratch).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="shard-", dir=self.scratch) as name:
            folder = Path(name)
            rejects = read_rows(places.rejected(shard))
            rejects = self._with_taken(rejects, sidecar, places.tar(shard))
            batches = rejects.to_batches(ROWS_AT_ONCE)
            write_batches(str(folder / "rejected"), rejects.schema, batches, str(folder))
            rest, sha256 = self._files_aside(places, shard, sidecar, folder)
            opted_out = reported_opt_outs(rest.select(["opted_out"]).to_pylist())
            reasons = rejects["reason"].to_pylist()
            # A copy's detail is a key, and would be alone in a count.
            pairs = zip(reasons, rejects["detail"].to_pylist(), strict=True)
            details = [None if why in STEPS_OF_COPIES else detail for why, detail in pairs]
            stats = shard_stats(
                shard,
                [*reasons, *[None] * len(rest)],
                [*details, *[None] * len(rest)],
                size=old.bytes_downloaded,
                sha256=sha256,
            )
            stats = replace(stats, opted_out=opted_out or UNSET)
            publish(folder / "rejected", places.rejected(shard))
            if len(rest):
                for name in ("sidecar", "tar", "joined"):
                    if (folder / name).exists():
                        path = places.tar(shard) if name == "tar" else places.sidecar(shard)
                        publish(folder / name, path)
            else:
                remove(places.sidecar(shard))
                remove(places.tar(shard))
            self._rewrite_beside(places.responses(shard), folder / "responses", None)
            self._rewrite_beside(places.moved(shard), folder / "moved", MOVED)
        write_atomically(places.stats(shard), lambda sink: sink.write(stats.encode()))
        return stats

    def _rewrite_beside(self, path: str, aside: Path, schema: pa.Schema | None) -> None:
        """Takes the pairs out of the responses or of the first URLs of a shard.

        Args:
          schema: of a file that may not be there yet.
        """
        joining = self.removal.joining
        if exists(path):
            before = read_rows(path)
        elif schema is None or joining is None:
            return
        else:
            before = schema.empty_table()
        rest = self.removal.rest_of(before)
        if joining is not None:
            rest = (with_joined_responses if schema is None else with_first_urls)(rest, joining)
        if not len(rest):
            remove(path)
        elif not rest.equals(before):
            pq.write_table(rest, aside, compression="zstd")
            publish(aside, path)

    def _bring_rejects(self, path: str, pairs: pa.Schema) -> None:
        """Writes a file of `rejected/` without rows where there is none, as in a dataset that was
        downloaded."""
        if not exists(path):
            further = [field for field in pairs if field.name not in _OF_EVERY_RUN]
            write_batches(path, with_columns(REJECTED, further), [], self.scratch)

    def _with_taken(self, rejects: pa.Table, sidecar: pa.Table, tar: str) -> pa.Table:
        """The rows of `rejected/`, with the removed pairs of a file behind them, where they are not
        there yet."""
        batches = rejects.to_batches(ROWS_AT_ONCE)
        before = self._keys_of_taken(batches)
        marked_rows = map(self.mark, batches)
        new = (_with_schema(rows, rejects.schema) for rows in self._new_rows(sidecar, before, tar))
        return pa.Table.from_batches([*marked_rows, *new], rejects.schema)

    def _new_rows(
        self, pairs: pa.Table, before: pa.Array, tar: str = ""
    ) -> Iterator[pa.RecordBatch]:
        """The rows of `rejected/` of kept pairs that are removed.

        Args:
          before: string[m], the keys of those that are there already. tar: of a shard.
        """
        leaves = self.removal.reasons_of(keys_of(pairs["key"])).is_valid()
        there = pc.is_in(pairs["key"], value_set=before)
        new = pairs.filter(pc.and_(leaves, pc.invert(there)))
        further = [field for field in pairs.schema if field.name not in _OF_EVERY_RUN]
        schema = with_columns(REJECTED, further)
        for batch in new.combine_chunks().to_batches():
            keys = keys_of(batch["key"])
            rows = batch.set_column(0, "key", pa.array(keys))
            measures = {field.name: batch[field.name] for field in further}
            why = self.removal.reasons_of(keys), self.removal.details_of(keys)
            measures["thumbnail"] = _thumbnails(tar, keys, self.removal.pictured_keys(keys))
            new_rows = rejected_rows(rows, *why, self.removal.steps, measures, schema)
            yield self._forgotten(new_rows, pa.array([True] * len(new_rows)))

    def _forgotten(self, rows: pa.RecordBatch, which: pa.BooleanArray) -> pa.RecordBatch:
        return without_contents(rows, which) if self.forget else rows

    def mark(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Rows of `rejected/`; rows that may not be read again say so."""
        details = self.removal.details_of_dropped(rows)
        which = details.is_valid()
        if not pc.any(which).as_py():
            return rows
        # What an owner has stated stays on record: "takedowns:host; opted_out: x_robots_tag".
        with_kind = pc.binary_join_element_wise(details, rows["detail"], f"; {OPTED_OUT}: ")
        details = pc.if_else(pc.equal(rows["reason"], OPTED_OUT), with_kind, details)
        details = pc.if_else(pc.equal(rows["reason"], TAKEN_DOWN), rows["detail"], details)
        values = {
            "step": pa.scalar(STEP_OF_TAKEDOWNS[TAKEN_DOWN]),
            "reason": pa.scalar(TAKEN_DOWN),
            "detail": details,
            "thumbnail": pa.scalar(None, pa.binary()),
        }
        columns = [
            pc.if_else(which, values[name], rows[name]) if name in values else rows[name]
            for name in rows.schema.names
        ]
        return self._forgotten(pa.record_batch(columns, schema=rows.schema), which)

    def _files_aside(
        self, places: ShardPlaces, shard: int, sidecar: pa.Table, folder: Path
    ) -> tuple[pa.Table, str | None]:
        """Writes sidecar and tar; gives the rows that are then there, and the tar's SHA-256.

        Where pairs join, `sidecar` is without them and `joined` with them: a sidecar's keys are in
        the tar, both before that is published and after it.
        """
        rows = self.removal.rest_of(sidecar)
        if not len(rows):
            return rows, None
        pq.write_table(rows, folder / "sidecar", compression="zstd")
        sources: dict[str, str] = {}
        if self.removal.joining is not None:
            rows, sources = with_joined_rows(rows, self.removal.joining)
            pq.write_table(rows, folder / "joined", compression="zstd")
        with open_to_read(places.tar(shard)) as source, (folder / "tar").open("wb") as sink:
            sha256 = write_tar(source, TarWriter(sink), rows, sources)
        keys = set(rows["key"].to_pylist())
        _check(folder / "tar", folder / ("joined" if sources else "sidecar"), keys, sha256)
        return rows, sha256

    def _keys_of_taken(self, rejects: Iterable[pa.RecordBatch]) -> pa.Array:
        """string[n]: the keys of the pairs that were taken out already."""
        reasons = pa.array([*self.removal.steps])
        keys = [rows.filter(pc.is_in(rows["reason"], reasons))["key"] for rows in rejects]
        return pa.concat_arrays(keys) if keys else pa.array([], pa.string())

    def dropped_file(self, path: str) -> None:
        """Marks the rows of a file of `rejected/`."""
        marked_rows = map(self.mark, batches_of(path))
        write_batches(path, schema_of(path), marked_rows, self.scratch)

    def texts(self, pairs: str, rejects: str) -> None:
        """Takes pairs out of a file of `pairs/`, and adds them to one of `rejected/`."""
        self._bring_rejects(rejects, schema_of(pairs))
        before = self._keys_of_taken(batches_of(rejects))
        schema = schema_of(rejects)
        new = (
            _with_schema(rows, schema)
            for batch in batches_of(pairs)
            for rows in self._new_rows(pa.Table.from_batches([batch]), before)
        )
        marked_rows = map(self.mark, batches_of(rejects))
        write_batches(rejects, schema, chain(marked_rows, new), self.scratch)
        write_batches(
            pairs, schema_of(pairs), map(self.removal.rest_of, batches_of(pairs)), self.scratch
        )


def _thumbnails(tar: str, keys: UInt64s, wanted_keys: set[int]) -> pa.BinaryArray:
    """binary[n], JPEGs of the images of some pairs of a shard; null of others."""
    if not wanted_keys:
        return pa.nulls(len(keys), pa.binary())
    # Decoders, which most removals have no use for.
    from alignset.transforms.images.examine import Image, examine
    from alignset.transforms.images.thumbnail import thumbnail

    thumbnails: dict[int, bytes] = {}
    for key, body in stored_images(tar, wanted_keys):
        if isinstance(image := examine(body), Image):
            with suppress(Exception):  # whatever it is, the pair leaves without it
                thumbnails[int(key, 16)] = thumbnail(body, image)
    return pa.array([thumbnails.get(key) for key in keys.tolist()], pa.binary())


def _with_schema(rows: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    (whole,) = as_columns(pa.Table.from_batches([rows]), schema).to_batches()
    return whole


def _check(tar: Path, sidecar: Path, expected_keys: set[str], sha256: str) -> None:
    """Reads what was written aside back.

    Raises:
      RuntimeError: it lacks a pair, or has another, or its bytes are not those that were written.
    """
    with tar.open("rb") as source:
        there = hashlib.file_digest(source, "sha256").hexdigest()
        keys = {key_of(member) for member in tar_members(source)}
    sidecar_keys = set(pq.read_table(sidecar, columns=["key"])["key"].to_pylist())
    if there != sha256 or not keys == sidecar_keys == expected_keys:
        raise RuntimeError(
            f"a shard was not written as it should be ({len(keys)} and {len(sidecar_keys)} of "
            f"{len(expected_keys)} pairs): look at the disk, and run the same command again"
        )
