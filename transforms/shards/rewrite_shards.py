"""Finished files of a dataset written anew without the pairs that leave: no reader meets half.

A rewritten shard is written aside, read back and compared, and then published file by file: first
the rejects, so that no pair is lost where this is killed; then sidecar, tar and stats. At any
moment a reader finds each key of the sidecar in the tar. Done again, it does what is left.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alignset.transforms.columns.hashing import UInt64s
from alignset.transforms.columns.records import (
    LOOK_SCHEMA,
    REJECTED,
    clear_contents,
    extend_schema,
    keys_of,
    rejected_rows,
)
from alignset.transforms.pairs.urls import url_hashes
from alignset.transforms.rules.catalogue import STEP_OF_TAKEDOWNS, STEPS_OF_COPIES
from alignset.transforms.rules.given import OPTED_OUT, TAKEN_DOWN
from alignset.transforms.shards.leaving_pairs import (
    OF_ONE_PAIR,
    Leaving,
    may_be_taken,
    name_of,
    read_leaving,
)
from alignset.transforms.shards.shard_files import SHARD_SCHEMA, TarWriter, write_ledger_rows
from alignset.transforms.shards.shard_places import ShardPlaces, older_of
from alignset.transforms.shards.shard_stats import ShardStats, shard_stats
from alignset.transforms.storage.documents import read_document
from alignset.transforms.storage.files import (
    exists,
    open_to_read,
    publish,
    remove,
    write_atomically,
)
from alignset.transforms.storage.parquet_files import (
    batches_of,
    read_rows,
    schema_of,
    write_batches,
)
from alignset.transforms.storage.tar_members import Member, stored_images, tar_members

_OF_EVERY_RUN = {*SHARD_SCHEMA.names, *LOOK_SCHEMA.names, *REJECTED.names}
_MEASURED = {  # columns of `rejected/` by columns of sidecars
    "width": "original_width",
    "height": "original_height",
    "unsafe_score": "unsafe_score",
    "page_license": "page_license",
    "page_rsl": "page_rsl",
    "opted_out": "opted_out",
}
_STEPS = STEP_OF_TAKEDOWNS | STEPS_OF_COPIES  # by reason


def rewrite_shard(
    out: str, shard: int, folder: str, scratch: str | None, *, forget: bool = False
) -> None:
    """Takes pairs out of a shard.

    Args:
      out: the dataset. folder: names the pairs that leave, as `leaving_pairs.py` has it.
      scratch: a folder for what is written aside, on the disk of a local dataset; None for the
        system's own.
      forget: whether rows of what is taken down hold neither URL nor text any more.

    Raises:
      RuntimeError: what was written aside is not as it should be, or the command has ended
        meanwhile; the shard is as it was.
    """
    places, leaving = ShardPlaces(out), read_leaving(folder, name_of(shard))
    old = read_document(places.stats(shard), ShardStats)
    sidecar, tar, rejects = places.sidecar(shard), places.tar(shard), places.rejected(shard)
    rows = SHARD_SCHEMA.empty_table()  # none: by an attempt that was killed
    if exists(sidecar):
        rows = read_rows(sidecar)
    staying, sha256 = leaving.rest_of(rows), old.sha256
    is_changed = not len(staying) == len(rows) == old.successes  # stats are written last
    with tempfile.TemporaryDirectory(prefix="shard-", dir=scratch) as name:
        aside = Path(name)
        if is_changed:
            sha256 = _write_aside(staying, tar, aside) if len(staying) else None
        if not exists(f"{folder}/{name_of(shard)}"):  # shards may have other numbers by now
            raise RuntimeError(f"{tar} was to be rewritten for a command that has ended meanwhile")
        if exists(ledger := places.ledger(shard)):  # before the rejects, which may lose their URLs
            dropped = read_rows(rejects, ["key", "url"]) if exists(rejects) else rows.slice(0, 0)
            left = rest_of_ledger(read_rows(ledger), (rows, dropped), staying, leaving)
            write_atomically(ledger, partial(write_ledger_rows, left))
        kept = rows.combine_chunks().to_batches()
        _rewrite_rejects(rejects, rows.schema, kept, leaving, scratch, forget=forget, tar=tar)
        for path, new in ((sidecar, aside / "sidecar"), (tar, aside / "tar")) if is_changed else ():
            publish(new, path) if len(staying) else remove(path)
        for path in older_of(places.stem(shard)):
            if exists(path):
                before = read_rows(path)
                left = leaving.rest_of(before)
                if not len(left):
                    remove(path)
                elif len(left) < len(before):
                    pq.write_table(left, aside / "beside", compression="zstd")
                    publish(aside / "beside", path)
    ends = read_rows(rejects, ["reason", "detail"])
    # A copy's detail is a key, and would be alone in a count.
    is_copy = pc.is_in(ends["reason"], pa.array([*STEPS_OF_COPIES]))
    details = pc.if_else(is_copy, pa.scalar(None, pa.string()), ends["detail"]).to_pylist()
    reasons, kept_ends = ends["reason"].to_pylist(), [None] * len(staying)
    stats = shard_stats(
        *(shard, [*reasons, *kept_ends], [*details, *kept_ends]),
        size=old.bytes_downloaded,
        sha256=sha256,
        opted_out=staying["opted_out"].to_pylist(),
    )
    write_atomically(places.stats(shard), stats.encode())


def rest_of_ledger(
    ledger: pa.Table, pairs: Iterable[pa.Table], staying: pa.Table, leaving: Leaving
) -> pa.Table:
    """The rows of a ledger when pairs have left its shard. A row of an image that was taken down
    keeps `image` and the reason, so that it is not requested again. An image whose last pair was
    taken down for its text or its key has no row.

    Args:
      pairs: with columns key and url, of the shard as it was. staying: rows of the sidecar.
    """
    details: dict[int, str] = {}
    taken_alone = set[int]()
    for rows in pairs:
        keys, urls = keys_of(rows["key"]), pc.fill_null(rows["url"], "")
        is_taken = pc.fill_null(pc.equal(leaving.of("reason", keys), TAKEN_DOWN), False)
        why, images = leaving.of("detail", keys).filter(is_taken), _images_of(urls.filter(is_taken))
        for image, detail in zip(images, why.to_pylist(), strict=True):
            if (detail or "").rpartition(":")[2] in OF_ONE_PAIR:
                taken_alone.add(image)
            else:
                details[image] = detail
    first_keys: dict[tuple[int, str], str] = {}
    columns = (staying[name].to_pylist() for name in ("sha256", "key"))
    for image, sha256, key in zip(_images_of(staying["url"]), *columns, strict=True):
        first_keys.setdefault((image, sha256), key)
    left = []
    for row in ledger.to_pylist():
        image = row["image"]
        if image in details:
            row = {"image": image, "reason": TAKEN_DOWN, "detail": details[image]}
        elif row["key"]:
            row["key"] = first_keys.get((image, row["sha256"]))
        if row.get("key") or image not in taken_alone or image in details:
            left.append(row)
    return pa.Table.from_pylist(left, ledger.schema)


def _images_of(urls: pa.ChunkedArray) -> list[int]:
    """The hashes of URLs, as ledgers have them."""
    return url_hashes(urls.combine_chunks())[0].tolist() if len(urls) else []


def rewrite_texts(
    pairs: str, rejects: str, leaving: Leaving, scratch: str | None, *, forget: bool = False
) -> None:
    """Takes pairs out of a file of `pairs/`, if there is one, and adds them to its file of
    `rejected/`, in which it marks what is taken down.

    Args:
      scratch, forget: as `rewrite_shard` has them.
    """
    has_pairs = exists(pairs)
    schema, kept = schema_of(pairs if has_pairs else rejects), batches_of(pairs)
    kept = kept if has_pairs else iter(())
    _rewrite_rejects(rejects, schema, kept, leaving, scratch, forget=forget)
    if has_pairs:
        write_batches(pairs, schema, map(leaving.rest_of, batches_of(pairs)), scratch)


def _rewrite_rejects(
    path: str,
    pairs: pa.Schema,
    kept: Iterable[pa.RecordBatch],
    leaving: Leaving,
    scratch: str | None,
    *,
    forget: bool,
    tar: str = "",
) -> None:
    """Marks the rows of a file of `rejected/` that are taken down, and adds the kept pairs that
    leave behind them, where they are not there yet.

    Args:
      pairs: the columns of the kept pairs. tar: their shard, where they have one.
    """
    further = [field for field in pairs if field.name not in _OF_EVERY_RUN]
    full_schema = schema = extend_schema(REJECTED, further)
    rows: Iterable[pa.RecordBatch] = ()  # as in a dataset that was downloaded without rejected/
    dropped_keys = pa.array([], pa.string())
    if exists(path):
        schema = schema_of(path)
        rows = (_marked(of, leaving, forget=forget) for of in batches_of(path))
        reasons = pc.unique(leaving.rows["reason"])
        dropped = batches_of(path, ["key", "reason"])
        keys = [rows.filter(pc.is_in(rows["reason"], reasons))["key"] for rows in dropped]
        dropped_keys = pa.concat_arrays([dropped_keys, *keys])

    def new_rows(pairs: pa.RecordBatch) -> pa.RecordBatch:
        leaves = leaving.of("reason", keys_of(pairs["key"])).is_valid()
        is_there = pc.is_in(pairs["key"], value_set=dropped_keys)
        pairs = pairs.filter(pc.and_(leaves, pc.invert(is_there)))
        keys = keys_of(pairs["key"])
        measures = {field.name: pairs[field.name] for field in further}
        for name, of in _MEASURED.items():
            if of in pairs.schema.names:
                measures[name] = pairs[of].cast(REJECTED.field(name).type)
        measures["thumbnail"] = _thumbnails(tar, keys, leaving.pictured_keys(keys))
        why = leaving.of("reason", keys), leaving.of("detail", keys)
        pairs = pairs.set_column(0, "key", pa.array(keys))
        new = rejected_rows(pairs, *why, _STEPS, measures, full_schema)
        if forget:
            new = clear_contents(new, pc.equal(new["reason"], TAKEN_DOWN))
        columns = [  # of an older file; null where the rows have none
            new[field.name].cast(field.type)
            if field.name in full_schema.names
            else pa.nulls(len(new), field.type)
            for field in schema
        ]
        return pa.record_batch(columns, schema=schema)

    write_batches(path, schema, chain(rows, map(new_rows, kept)), scratch)


def _marked(rows: pa.RecordBatch, leaving: Leaving, *, forget: bool) -> pa.RecordBatch:
    """Rows of `rejected/`; those that may not be read again say so."""
    keys = keys_of(rows["key"])
    details = leaving.of("detail", keys)
    is_taken = pc.fill_null(pc.equal(leaving.of("reason", keys), TAKEN_DOWN), False)
    which = pc.and_(is_taken, may_be_taken(rows, forget=forget))
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
        "also_reasons": pa.scalar(None, pa.string()),
        "thumbnail": pa.scalar(None, pa.binary()),
    }
    columns = [
        pc.if_else(which, values[name], rows[name]) if name in values else rows[name]
        for name in rows.schema.names
    ]
    rows = pa.record_batch(columns, schema=rows.schema)
    return clear_contents(rows, which) if forget else rows


def _thumbnails(tar: str, keys: UInt64s, wanted_keys: set[int]) -> pa.BinaryArray:
    """binary[n], JPEGs of the images of some pairs of a shard; null of others."""
    if not wanted_keys:
        return pa.nulls(len(keys), pa.binary())
    # Decoders, which most rewriting has no use for.
    from alignset.transforms.images.thumbnail import thumbnail

    thumbnails: dict[int, bytes] = {}
    for key, body in stored_images(tar, wanted_keys):
        with suppress(Exception):  # whatever it is, the pair leaves without it
            thumbnails[int(key, 16)] = thumbnail(body)
    return pa.array([thumbnails.get(key) for key in keys.tolist()], pa.binary())


def _write_aside(rows: pa.Table, tar: str, folder: Path) -> str:
    """Writes the sidecar and the tar of some rows, and reads them back; returns the SHA-256 of the
    tar.

    Raises:
      RuntimeError: one lacks a pair, or has another, or its bytes are not those that were written.
    """
    keys = {*rows["key"].to_pylist()}
    pq.write_table(rows, folder / "sidecar", compression="zstd")
    with open_to_read(tar) as source, (folder / "tar").open("wb") as sink:
        writer = TarWriter(sink)
        for member in tar_members(source):
            if _key_of(member) in keys:
                source.seek(member.at)
                writer.add((member.name, source.read(member.size)))
        sha256 = writer.finish()
    with (folder / "tar").open("rb") as source:
        written = hashlib.file_digest(source, "sha256").hexdigest()
        tar_keys = {_key_of(member) for member in tar_members(source)}
    sidecar_keys = {*pq.read_table(folder / "sidecar", columns=["key"])["key"].to_pylist()}
    if written != sha256 or not tar_keys == sidecar_keys == keys:
        raise RuntimeError(
            f"a shard was not written as it should be ({len(tar_keys)} and {len(sidecar_keys)} of "
            f"{len(keys)} pairs): look at the disk, and run the same command again"
        )
    return sha256


def _key_of(member: Member) -> str:
    return member.name.partition(".")[0]
