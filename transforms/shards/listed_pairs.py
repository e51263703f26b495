"""Which pairs of a finished dataset are on a blocklist: of its shards, and of what it dropped."""

from __future__ import annotations

from collections.abc import Container, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.blocklists import kinds as k
from alignset.transforms.blocklists.blocklists import Blocklists
from alignset.transforms.columns.rejects import key_column, keys_of
from alignset.transforms.pairs.urls import url_hashes
from alignset.transforms.shards.shard_places import moved_of
from alignset.transforms.storage.files import exists, open_to_read
from alignset.transforms.storage.parquet_files import read_rows
from alignset.transforms.storage.tar_members import tar_members

# Pairs that are on a list. `image` is the hash of the URL's identity, or 0 where the list tells of
# the pair alone, so that other pairs of its image stay.
LISTED = pa.schema([("key", pa.uint64()), ("detail", pa.string()), ("image", pa.uint64())])
_COLUMNS = ("key", "url", "caption", "sha256", "phash")
_OF_ONE_PAIR = (k.TEXT, k.KEY)
_OF_IMAGES = (*k.OF_FILES, *k.OF_PICTURES, k.IMAGE)


def listed_in_shard(stem: str, lists: Blocklists, *, original: bool) -> pa.RecordBatch:
    """The pairs of a shard that are on a list, as LISTED.

    Args:
      stem: the path of its tar or its sidecar, without its ending.
      original: whether its tar has the files as they were fetched; else their MD5 and SHA-1 are not
        known.
    """
    rows = read_rows(f"{stem}.parquet", _COLUMNS).combine_chunks()
    found = _of_pairs(rows, lists)
    by_url = found.is_valid()
    if lists.have(*k.OF_URLS) and exists(path := moved_of(stem)):
        # Version 0.2 gave a pair the URL of an image with equal bytes; its own is on the list.
        moved = read_rows(path)
        urls = moved["url"].take(pc.index_in(rows["key"], moved["key"].combine_chunks()))
        at = rows.schema.get_field_index("url")
        found = pc.coalesce(found, _of_pairs(rows.set_column(at, "url", urls), lists))
    of_first_url = pc.and_(found.is_valid(), pc.invert(by_url))
    details = found.to_pylist()
    if lists.have(k.SHA256, k.PHASH):
        digests, phashes = rows["sha256"].to_pylist(), keys_of(rows["phash"])
        for row in (row for row, detail in enumerate(details) if detail is None):
            near = lists.near(k.PHASH, phashes[row : row + 1])
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
    return _listed_rows(rows, _of_pairs(rows, lists))


def _of_pairs(rows: pa.Table, lists: Blocklists) -> pa.StringArray:
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
    rows: pa.Table, details: pa.StringArray, of_one: pa.BooleanArray | None = None
) -> pa.RecordBatch:
    """The rows with a detail, as LISTED.

    Args:
      of_one: those whose image, by now, is at a URL that is not on the list.
    """
    images = url_hashes(_filled(rows["url"]))[0]
    kinds = [detail.rpartition(":")[2] if detail else "" for detail in details.to_pylist()]
    images[[kind in _OF_ONE_PAIR for kind in kinds]] = 0
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
        *(_of_pairs(table, lists), details.take(of_pair), details.take(of_image)),
        details.filter(is_image).take(of_copy),
    )
