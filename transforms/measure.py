"""What the text plane knows of each pair: its identities, words and n-grams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms.batches import batch_of, unpack_each
from transforms.hashing import Bools, UInt64s, pair_keys, string_buffers, string_hashes
from transforms.texts import measure_texts
from transforms.urls import has_blank_edges, url_hashes

NO_URL, NOT_HTTP, NO_TEXT, NOT_UTF8 = "no_url", "not_http", "no_text", "not_utf8"
PAGE_URL = "page_url"  # the column for the page that a pair is from, where that is known
UNREADABLE = "unreadable_row"  # a line of a text file that is no row; a source says so


class Pairs(NamedTuple):
    """A batch of pairs, measured.

    Fields:
      url: string[n], trimmed. text: string[n], as kept; both without nulls.
      malformed: string[n], what makes the pair unusable, or null.
      url_hash, text_hash: uint64[n], of the identities. key: uint64[n], of both.
      own_url: bool[n], whether `url_hash` is known to be that of the URL itself.
      word_count, ngrams, first_ngram: as in `Texts`; a malformed pair has none.
      page: string[n], URL of the page that each pair is from, or null; None where none is known.
      has_ngrams: whether `ngrams` and `first_ngram` are there; they are not remembered.
      distinct: ascending uint64 arrays that hold each n-gram of the rows that counted; None where
        they are not known.
    """

    url: pa.StringArray
    text: pa.StringArray
    malformed: pa.StringArray
    url_hash: UInt64s
    text_hash: UInt64s
    key: UInt64s
    own_url: Bools
    word_count: npt.NDArray[np.int32]
    ngrams: UInt64s
    first_ngram: npt.NDArray[np.int64]
    page: pa.StringArray | None = None
    has_ngrams: bool = True
    distinct: Sequence[UInt64s] | None = None

    def usable(self) -> npt.NDArray[np.bool_]:
        """bool[n]: which pairs are not malformed."""
        return self.malformed.is_null().to_numpy(zero_copy_only=False)

    def exact_hash(self) -> UInt64s:
        """uint64[n]: hash of the very strings, to choose between pairs of one identity."""
        url_hash = self.url_hash.copy()
        spelled = np.flatnonzero(~self.own_url)
        url_hash[spelled] = string_hashes(self.url.take(pa.array(spelled)))
        strings = pair_keys(url_hash, string_hashes(self.text))
        return strings if self.page is None else pair_keys(strings, string_hashes(self.page))


# What the second reading needs of the first. Each text's n-grams would take as much again, and are
# quick; the distinct ones come from the blocks that were counted.
_REMEMBERED = ("url", "text", "malformed", "url_hash", "text_hash", "word_count")


def remembered(pairs: Pairs, batch: pa.RecordBatch) -> pa.RecordBatch:
    """A measured batch as columns, for `recalled`; with the source's own columns."""
    columns = {name: getattr(pairs, name) for name in _REMEMBERED}
    if pairs.page is not None:
        columns[PAGE_URL] = pairs.page
    columns |= {name: batch[name] for name in batch.schema.names if name.startswith("source_")}
    return batch_of(columns)


class Remembered(NamedTuple):
    """A batch as it was `remembered`, and its distinct n-grams, as in `Pairs`."""

    batch: pa.RecordBatch
    distinct: Sequence[UInt64s] | None


def recalled_each(blocks: pa.RecordBatch) -> Iterator[Remembered]:
    """What references lead to: of each batch blocks of its n-grams, and then the batch itself."""
    distinct: list[UInt64s] = []
    for block in unpack_each(blocks):
        if "ngram" in block.schema.names:
            distinct.append(block["ngram"].to_numpy())
        else:
            yield Remembered(block, distinct or None)  # none where none were counted
            distinct = []


def recalled(batch: pa.RecordBatch, distinct: Sequence[UInt64s] | None = None) -> Pairs:
    """The pairs of a batch that was `remembered`; of their n-grams at most the distinct ones."""
    url, text, malformed, *numbers = (batch[name] for name in _REMEMBERED)
    url_hash, text_hash, words = (column.to_numpy() for column in numbers)
    return Pairs(
        url,
        text,
        malformed,
        url_hash,
        text_hash,
        pair_keys(url_hash, text_hash),
        np.zeros(len(batch), np.bool_),
        words,
        np.zeros(0, np.uint64),
        np.zeros(len(batch), np.int64),
        batch[PAGE_URL] if PAGE_URL in batch.schema.names else None,
        has_ngrams=False,
        distinct=distinct,
    )


def _without_nulls(values: pa.BinaryArray) -> pa.BinaryArray:
    """Empty where it was null; not copied where the nulls take no bytes, as readers leave them."""
    if not values.null_count:
        return values
    _, offsets = string_buffers(values)
    if np.any(np.diff(offsets)[values.is_null().to_numpy(zero_copy_only=False)]):
        return pc.fill_null(values, b"")
    buffers = [None, *values.buffers()[1:]]
    return pa.BinaryArray.from_buffers(values.type, len(values), buffers, 0, values.offset)


def _trimmed(urls: pa.StringArray) -> pa.StringArray:
    return pc.utf8_trim_whitespace(urls) if has_blank_edges(*string_buffers(urls)) else urls


def _readable(values: pa.Array) -> tuple[pa.StringArray, npt.NDArray[np.bool_]]:
    """The column as valid UTF-8 without nulls, and which rows were not valid."""
    text = _without_nulls(values.cast(pa.binary())).view(pa.string())
    broken = np.zeros(len(text), np.bool_)
    data, offsets = string_buffers(text)
    if data[offsets[0] : offsets[-1]].max(initial=0) < 0x80:
        return text, broken
    try:
        text.validate(full=True)
        return text, broken
    except pa.ArrowInvalid:
        raw = text.view(pa.binary()).to_pylist()
    shown = [row.decode("utf-8", errors="replace") for row in raw]
    return pa.array(shown, pa.string()), np.array(
        [row != text.encode() for row, text in zip(raw, shown, strict=True)]
    )


def _is_empty(strings: pa.StringArray) -> Bools:
    return np.diff(string_buffers(strings)[1]) == 0


def first_of(marks: Mapping[str, Bools]) -> pa.StringArray:
    """The name of the first mark that each row has, or null: string[n]."""
    first = np.zeros(len(next(iter(marks.values()))), np.int8)
    for place, mark in reversed(list(enumerate(marks.values(), 1))):
        first[mark] = place
    return pa.array([None, *marks], pa.string()).take(pa.array(first))


def _pages(batch: pa.RecordBatch) -> pa.StringArray | None:
    if PAGE_URL not in batch.schema.names:
        return None
    pages = _readable(batch[PAGE_URL])[0]
    return pc.if_else(pc.equal(pages, ""), pa.scalar(None, pa.string()), pages)


def measure(batch: pa.RecordBatch) -> Pairs:
    """Measures a batch of pairs as they were read.

    Args:
      batch: columns `url` and `caption`, each string or binary[n], nulls and any bytes allowed,
        and where a source has them `malformed`, string[n]: why it could not read the row, and
        `page_url`, of the type of `url`; bytes that are no UTF-8 are shown with U+FFFD there.
    """
    urls, bad_url = _readable(batch["url"])
    texts, bad_text = _readable(batch["caption"])
    url = _trimmed(urls)
    url_hash, usable, own_url = url_hashes(url)
    text = measure_texts(texts, usable & ~bad_url & ~bad_text)
    faults = first_of(
        {
            NOT_UTF8: bad_url | bad_text,
            NO_URL: _is_empty(url),
            NOT_HTTP: ~usable,
            NO_TEXT: _is_empty(text.kept),
        }
    )
    if "malformed" in batch.schema.names:
        faults = pc.coalesce(batch["malformed"], faults)
    # A pair without an identity still needs a key to be named by.
    unusable = np.flatnonzero(~usable)
    url_hash[unusable] = string_hashes(url.take(pa.array(unusable)))
    key = pair_keys(url_hash, text.hash)
    return Pairs(
        url,
        text.kept,
        faults,
        url_hash,
        text.hash,
        key,
        own_url,
        text.word_count,
        text.ngrams,
        text.first_ngram,
        _pages(batch),
    )
