"""Which pairs of a finished dataset are on a blocklist: of its shards, and of what it dropped."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.blocklists import kinds as k
from alignset.transforms.blocklists.blocklists import Blocklists, word_of
from alignset.transforms.columns.hashing import UInt64s, string_hashes
from alignset.transforms.columns.records import LONGEST_TEXT, cut
from alignset.transforms.pairs.urls import url_hashes
from alignset.transforms.rules.catalogue import STEP_OF_TAKEDOWNS
from alignset.transforms.rules.given import TAKEN_DOWN
from alignset.transforms.shards.shard_places import moved_of
from alignset.transforms.storage.files import exists, open_to_read
from alignset.transforms.storage.parquet_files import read_rows
from alignset.transforms.storage.tar_members import tar_members

# Pairs that are on a list. `image` is the hash of the URL's identity, or 0 where the list tells of
# the pair alone, so that other pairs of its image stay. `url` is of the URL itself, `text` of the
# alt-text as reports record it. `content` is the beginning of the SHA-256.
LISTED = pa.schema(
    [
        ("key", pa.uint64()),
        ("detail", pa.string()),
        ("image", pa.uint64()),
        ("url", pa.uint64()),
        ("content", pa.uint64()),
        ("text", pa.uint64()),
    ]
)
Rows = TypeVar("Rows", pa.Table, pa.RecordBatch)
_COLUMNS = ("key", "url", "caption", "sha256", "phash")
_OF_ONE_PAIR = (k.TEXT, k.KEY)


def keys_of(column: pa.ChunkedArray | pa.Array) -> UInt64s:
    """uint64[n] of keys or perceptual hashes that are written as 16 hex digits; 0 of a null."""
    digits = pc.fill_null(column, "0" * 16).to_pylist()
    return np.frombuffer(bytes.fromhex("".join(digits)), ">u8").astype(np.uint64)


def contents(sha256: pa.ChunkedArray | pa.Array) -> UInt64s:
    """uint64[n], the beginnings of SHA-256 in hex; 0 of a null."""
    return keys_of(pc.utf8_slice_codeunits(sha256, 0, 16))


def listed_in_shard(stem: str, lists: Blocklists, *, original: bool) -> pa.RecordBatch:
    """The pairs of a shard that are on a list, as LISTED.

    Args:
      stem: the path of its tar or its sidecar, without its ending.
      original: whether its tar has the files as they were fetched; else their MD5 and SHA-1 are not
        known.
    """
    rows = read_rows(f"{stem}.parquet", _COLUMNS).combine_chunks()
    details = _of_pairs(rows, lists).to_pylist()
    moved = _by_first_url(stem, rows, lists, details)
    _by_sidecar(rows, lists, details)
    unsure = _unsure(rows, lists, details, original=original)
    for key, body in stored_images(f"{stem}.tar") if unsure else ():
        if key in unsure:
            details[unsure[key]] = _by_image(body, lists, original=original)
    return _listed_rows(rows, details, moved)


def listed_texts(rows: pa.Table, lists: Blocklists) -> pa.RecordBatch:
    """The same of a file of `pairs/`, of a dataset whose images were not fetched."""
    return _listed_rows(rows, _of_pairs(rows, lists).to_pylist())


def _of_pairs(rows: pa.Table, lists: Blocklists) -> pa.StringArray:
    urls, captions = (_filled(rows[name]) for name in ("url", "caption"))
    return lists.of_pairs(urls, captions, keys_of(rows["key"]))


def _filled(column: pa.ChunkedArray) -> pa.StringArray:
    whole = pc.fill_null(column, "")
    return whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole


def _by_first_url(
    stem: str, rows: pa.Table, lists: Blocklists, details: list[str | None]
) -> set[int]:
    """The rows whose pair had a listed URL, and then got the URL of an image with equal bytes."""
    if not lists.have(*k.OF_URLS) or not exists(path := moved_of(stem)):
        return set()
    moved = read_rows(path)
    urls = moved["url"].take(pc.index_in(rows["key"], moved["key"].combine_chunks()))
    first = _of_pairs(rows.set_column(rows.schema.get_field_index("url"), "url", urls), lists)
    found = {n for n, why in enumerate(first.to_pylist()) if why and details[n] is None}
    for row in found:
        details[row] = first[row].as_py()
    return found


def _by_sidecar(rows: pa.Table, lists: Blocklists, details: list[str | None]) -> None:
    if not lists.have(k.SHA256, k.PHASH):
        return
    digests, phashes = rows["sha256"].to_pylist(), keys_of(rows["phash"])
    for row, detail in enumerate(details):
        if detail is None:
            near = lists.near(k.PHASH, phashes[row : row + 1]) if lists.have(k.PHASH) else None
            details[row] = lists.of_file(bytes.fromhex(digests[row] or "")) or (near and near[0])


def _unsure(
    rows: pa.Table, lists: Blocklists, details: list[str | None], *, original: bool
) -> dict[str, int]:
    """The rows, by their keys, whose images must be looked at."""
    keys = rows["key"].to_pylist()
    rest = {keys[row]: row for row, detail in enumerate(details) if detail is None}
    if lists.have(k.PDQ, k.IMAGE) or (original and lists.have(k.MD5, k.SHA1)):
        return rest
    if not lists.have(k.PHASH):
        return {}
    phashes = keys_of(rows["phash"])
    return {
        key: row
        for key, row in rest.items()
        if lists.near(k.PHASH, phashes[row : row + 1], k.QUICK_ERROR)
    }


def _by_image(body: bytes, lists: Blocklists, *, original: bool) -> str | None:
    if original and (detail := lists.of_file(None, body)):
        return detail
    # Decoders, which most lists have no use for.
    from alignset.transforms.images.examine import Image, examine
    from alignset.transforms.images.pdq import pdq_words

    image = examine(body, in_full=True)
    if not isinstance(image, Image):
        return None
    near = lists.near(k.PHASH, word_of(image.phash)) if lists.have(k.PHASH) else None
    if near is None and lists.have(k.PDQ):
        words = pdq_words(body, image)
        near = None if words is None else lists.near(k.PDQ, words)
    if near is None and (copy := lists.listed_copy(body)):
        return copy.detail
    return near and near[0]


def stored_images(
    tar: str, wanted_keys: Container[int] | None = None
) -> Iterator[tuple[str, bytes]]:
    """The images of a shard, by the keys of their pairs; all where none are wanted."""
    with open_to_read(tar) as source:
        for member in tar_members(source):
            key, _, extension = member.name.partition(".")
            if extension not in ("json", "txt") and (
                wanted_keys is None or int(key, 16) in wanted_keys
            ):
                source.seek(member.at)
                yield key, source.read(member.size)


def _listed_rows(
    rows: pa.Table, details: list[str | None], moved: Container[int] = ()
) -> pa.RecordBatch:
    """The rows with a detail, as LISTED.

    Args:
      moved: those whose image, by now, is at a URL that is not on the list.
    """
    of_one = [
        n in moved or detail.rpartition(":")[2] in _OF_ONE_PAIR
        for n, detail in enumerate(details)
        if detail is not None
    ]
    column = pa.array(details, pa.string())
    rows, column = rows.filter(column.is_valid()), column.drop_null()
    urls = _filled(rows["url"])
    images = url_hashes(urls)[0]
    images[of_one] = 0
    nulls = pa.nulls(len(rows), pa.string())
    content = contents(rows["sha256"] if "sha256" in rows.column_names else nulls)
    texts = [cut(text, LONGEST_TEXT) for text in _filled(rows["caption"]).to_pylist()]
    own = string_hashes(urls), content, string_hashes(pa.array(texts, pa.string()))
    columns = [keys_of(rows["key"]), column, images, *own]
    return pa.record_batch([pa.array(one) for one in columns], schema=LISTED)


@dataclass(frozen=True)
class Removal:
    """Pairs to remove from a dataset.

    Attributes:
      rows: LISTED, of all shards. lists: what they are on.
      forget: whether pairs that lists of the same names took out before count too.
    """

    rows: pa.Table
    lists: Blocklists
    forget: bool = False
    joining: ClassVar[None] = None  # nothing joins a shard
    steps: ClassVar[Mapping[str, str]] = STEP_OF_TAKEDOWNS

    def reasons_of(self, keys: UInt64s) -> pa.StringArray:
        """The reason for which each of some kept pairs is taken out, or null: string[n]."""
        leaves = self.details_of(keys).is_valid()
        return pc.if_else(leaves, pa.scalar(TAKEN_DOWN), pa.scalar(None, pa.string()))

    def details_of(self, keys: UInt64s) -> pa.StringArray:
        """Why each of some kept pairs is taken out, or null: string[n]."""
        at = pc.index_in(pa.array(keys), self.rows["key"].combine_chunks())
        return self.rows["detail"].combine_chunks().take(at)

    def pictured_keys(self, _: UInt64s) -> set[int]:
        """Those of some kept pairs of which an image stays: none."""
        return set()

    def rest_of(self, rows: Rows) -> Rows:
        """Some kept pairs without those that are taken out."""
        return rows.filter(self.details_of(keys_of(rows["key"])).is_null())

    def details_of_dropped(self, rows: pa.RecordBatch) -> pa.StringArray:
        """Why each of some rows of `rejected/` may never be read again, or null: string[n]. It is
        on a list itself, or is of a pair or of an image that is taken out."""
        keys = keys_of(rows["key"])
        table = pa.Table.from_batches([rows])
        own, of_pair = _of_pairs(table, self.lists), self.details_of(keys)
        images = url_hashes(_filled(table["url"]))[0]
        at = pc.index_in(pa.array(images), self.rows["image"].combine_chunks())
        at = pc.if_else(pa.array(images != 0), at, pa.scalar(None, at.type))
        of_image = self.rows["detail"].combine_chunks().take(at)
        details = pc.coalesce(own, of_pair, of_image)
        is_taken = pc.equal(rows["reason"], TAKEN_DOWN)
        none = pa.scalar(None, pa.string())
        for of in self.lists.lists if self.forget else ():  # of images, whose hashes no row has
            before = pc.and_(is_taken, pc.starts_with(rows["detail"], f"{of.name}:"))
            details = pc.coalesce(details, pc.if_else(before, rows["detail"], none))
        holds = rows["url"].is_valid()
        holds = holds if self.forget else pc.and_(holds, pc.invert(is_taken))
        return pc.if_else(holds, details, none)

    def details_of_texts(self, texts: pa.StringArray) -> pa.StringArray:
        """Why a pair of each of some texts is taken out, or null: string[n]."""
        at = pc.index_in(pa.array(string_hashes(texts)), self.rows["text"].combine_chunks())
        return self.rows["detail"].combine_chunks().take(at)
