"""Pairs that leave finished files of a dataset: which are on a blocklist, of its shards and of what
it dropped; and all of them written down before the first file changes.

They are in a folder that is laid out as the output: `rejected/images-00012.parquet` names what
leaves shard 12, and which rows of that file of `rejected/` are taken down. So a worker reads only
what concerns its file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alignset.transforms.blocklists import kinds as k
from alignset.transforms.blocklists.blocklists import Blocklists
from alignset.transforms.columns.hashing import UInt64s
from alignset.transforms.columns.records import key_column, key_hashes, keys_of
from alignset.transforms.pairs.urls import url_hashes
from alignset.transforms.rules.given import TAKEN_DOWN
from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces, older_of
from alignset.transforms.storage.files import exists, match, write_atomically
from alignset.transforms.storage.parquet_files import read_rows
from alignset.transforms.storage.tar_members import stored_images

# Pairs that are on a list. `image` is the hash of the URL's identity, or 0 where the list tells of
# the pair alone, so that other pairs of its image stay.
LISTED = pa.schema([("key", pa.uint64()), ("detail", pa.string()), ("image", pa.uint64())])
_COLUMNS = ("key", "url", "caption", "sha256", "phash")
OF_ONE_PAIR = (k.TEXT, k.KEY)
_OF_IMAGES = (*k.OF_FILES, *k.OF_PICTURES, k.IMAGE)


def listed_in_shard(stem: str, lists: Blocklists, *, original: bool) -> pa.RecordBatch:
    """The pairs of a shard that are on a list, as LISTED.

    Args:
      stem: the path of its tar or its sidecar, without its ending.
      original: whether its tar has the files as they were fetched; else their MD5 and SHA-1 are not
        known.
    """
    rows = read_rows(f"{stem}.parquet", _COLUMNS).combine_chunks()
    found = _match_pairs(rows, lists)
    by_url = found.is_valid()
    if lists.have(*k.OF_URLS) and exists(path := older_of(stem)[-1]):
        # Version 0.2 gave a pair the URL of an image with equal bytes; its own is on the list.
        moved = read_rows(path)
        urls = moved["url"].take(pc.index_in(rows["key"], moved["key"].combine_chunks()))
        at = rows.schema.get_field_index("url")
        found = pc.coalesce(found, _match_pairs(rows.set_column(at, "url", urls), lists))
    of_first_url = pc.and_(found.is_valid(), pc.invert(by_url))
    details = found.to_pylist()
    if lists.have(k.SHA256, k.PHASH):
        digests, phashes = rows["sha256"].to_pylist(), keys_of(rows["phash"])
        for row in (row for row, detail in enumerate(details) if detail is None):
            near = lists.find_nearest(k.PHASH, phashes[row : row + 1])
            details[row] = lists.match_file(bytes.fromhex(digests[row] or "")) or near
    if lists.have(k.PDQ, k.IMAGE) or (original and lists.have(k.MD5, k.SHA1)):
        keys = rows["key"].to_pylist()
        rest = {keys[row]: row for row, detail in enumerate(details) if detail is None}
        for key, body in stored_images(f"{stem}.tar") if rest else ():
            if key in rest:
                details[rest[key]] = listed_image(body, lists, original=original)
    return _listed_rows(rows, pa.array(details, pa.string()), of_first_url)


def listed_texts(rows: pa.Table, lists: Blocklists) -> pa.RecordBatch:
    """The same of a file of `pairs/`, of a dataset whose images were not fetched."""
    return _listed_rows(rows, _match_pairs(rows, lists))


def _match_pairs(rows: pa.Table, lists: Blocklists) -> pa.StringArray:
    urls, captions = (_filled(rows[name]) for name in ("url", "caption"))
    return lists.match_pairs(urls, captions, keys_of(rows["key"]))


def _filled(column: pa.ChunkedArray) -> pa.StringArray:
    whole = pc.fill_null(column, "")
    return whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole


def listed_image(body: bytes, lists: Blocklists, *, original: bool) -> str | None:
    """Which list an image file is on, by its digests but SHA-256, or by how it looks."""
    if original and (detail := lists.match_file(None, body)):
        return detail
    # Decoders, which most lists have no use for.
    from alignset.transforms.images.decode import turn_of_file
    from alignset.transforms.images.examine import Image, examine
    from alignset.transforms.images.file_formats import FileLook

    look = FileLook(body)
    with turn_of_file(look):
        image = examine(look, keep_grey=True, keep_picture=True)
        return lists.match_picture(body, image) if isinstance(image, Image) else None


def _listed_rows(
    rows: pa.Table, details: pa.StringArray, of_one: pa.BooleanArray | None = None
) -> pa.RecordBatch:
    """The rows with a detail, as LISTED.

    Args:
      of_one: those whose image, by now, is at a URL that is not on the list.
    """
    images = url_hashes(_filled(rows["url"]))[0]
    kinds = [detail.rpartition(":")[2] if detail else "" for detail in details.to_pylist()]
    images[[kind in OF_ONE_PAIR for kind in kinds]] = 0
    if of_one is not None:
        images[of_one.to_numpy(zero_copy_only=False)] = 0
    columns = [pa.array(keys_of(rows["key"])), details, pa.array(images)]
    return pa.record_batch(columns, schema=LISTED).filter(details.is_valid())


def listed_rejects(rows: pa.RecordBatch, lists: Blocklists, found: pa.Table) -> pa.StringArray:
    """Why each of some rows of `rejected/` may never be read again, or null: string[n]. It is on a
    list itself, or is of a pair or of an image that is taken out, or left as a copy of an image
    that is taken out for how it looks.

    Args:
      found: LISTED, of the whole dataset.
    """
    table = pa.Table.from_batches([rows])
    details = found["detail"].combine_chunks()
    of_pair = pc.index_in(pa.array(keys_of(rows["key"])), found["key"].combine_chunks())
    images = url_hashes(_filled(table["url"]))[0]
    of_image = pc.index_in(pa.array(images), found["image"].combine_chunks())
    of_image = pc.if_else(pa.array(images != 0), of_image, pa.scalar(None, of_image.type))
    is_image = pc.match_substring_regex(details, f":({'|'.join(_OF_IMAGES)})$")
    looked_at = found.filter(is_image)["key"].to_numpy()
    of_copy = pc.index_in(rows["detail"], key_column(looked_at))
    return pc.coalesce(
        *(_match_pairs(table, lists), details.take(of_pair), details.take(of_image)),
        details.filter(is_image).take(of_copy),
    )


Rows = TypeVar("Rows", pa.Table, pa.RecordBatch)
# `near`: the image that is kept in its place is another file.
LEAVING = pa.schema(
    [
        *(("key", pa.uint64()), ("reason", pa.string()), ("detail", pa.string())),
        ("near", pa.bool_()),
    ]
)
MOST_PICTURED = 200  # of a shard: as many as `alignset look` shows, by the hashes of their keys


def leaving_of(keys: UInt64s, reason: str, details: pa.StringArray | None = None) -> pa.Table:
    """Pairs that leave for one reason, as LEAVING.

    Args:
      keys: uint64[n]. details: string[n]; None where there are none.
    """
    count = len(keys)
    near = pa.array(np.zeros(count, np.bool_))
    details = pa.nulls(count, pa.string()) if details is None else details
    return pa.table([pa.array(keys), pa.repeat(reason, count), details, near], LEAVING)


def write_leaving(folder: str, name: str, rows: pa.Table) -> None:
    """Writes down what leaves; nothing where no row is given.

    Args:
      name: of the file of `rejected/`, below the output. rows: LEAVING, each key once.
    """
    if len(rows):
        write_atomically(f"{folder}/{name}", lambda sink: pq.write_table(rows, sink))


def leaving_files(folder: str) -> list[str]:
    """The names of all files that were written down."""
    return [path.removeprefix(f"{folder}/") for path, _ in match(folder)]


def read_leaving(folder: str, name: str) -> Leaving:
    """Reads the pairs that leave with a file of `rejected/`; perhaps none."""
    path = f"{folder}/{name}"
    return Leaving(read_rows(path) if exists(path) else LEAVING.empty_table())


def name_of(shard: int) -> str:
    """The name of a shard's file of `rejected/`."""
    return ShardPlaces("").rejected(shard).removeprefix("/")


def shard_of(name: str) -> int | None:
    """The number of the shard whose file of `rejected/` has a name; None of other files."""
    kind, _, number = PurePosixPath(name).stem.partition("-")
    first = {"images": 0, "holdout": HOLDOUT}.get(kind)
    shard = None if first is None or not number.isdecimal() else first + int(number)
    return shard if shard is not None and name_of(shard) == name else None


@dataclass(frozen=True)
class Leaving:
    """Pairs that leave a file.

    Attributes:
      rows: LEAVING, each key once.
    """

    rows: pa.Table

    def of(self, name: str, keys: UInt64s) -> pa.Array:
        """A column for pairs with some keys; null where a pair stays: [n]."""
        at = pc.index_in(pa.array(keys), self.rows["key"].combine_chunks())
        return self.rows[name].combine_chunks().take(at)

    def pictured_keys(self, keys: UInt64s) -> set[int]:
        """The kept pairs, among some, whose image is shown beside the one that is kept."""
        near = keys[pc.fill_null(self.of("near", keys), False).to_numpy(zero_copy_only=False)]
        return set(near[np.argsort(key_hashes(near))][:MOST_PICTURED].tolist())

    def rest_of(self, rows: Rows) -> Rows:
        """Some kept pairs without those that leave."""
        return rows.filter(self.of("reason", keys_of(rows["key"])).is_null())


def may_be_taken(rows: pa.RecordBatch, *, forget: bool) -> pa.BooleanArray:
    """Which rows of `rejected/` a takedown may mark: those that still name a URL, and were not
    taken down before, or are to be forgotten."""
    holds = rows["url"].is_valid()
    return holds if forget else pc.and_(holds, pc.not_equal(rows["reason"], TAKEN_DOWN))
