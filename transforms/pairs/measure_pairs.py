"""Facts of the text stage about each pair: its identities, words and n-grams; and how the second
reading is given what the first has measured."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.columns.hashing import (
    Bools,
    UInt64s,
    pair_keys,
    string_buffers,
    string_hashes,
)
from alignset.transforms.columns.pair_columns import PAGE_URL
from alignset.transforms.pairs.texts import measure_texts
from alignset.transforms.pairs.urls import has_blank_edges, url_hashes
from alignset.transforms.rules.verdicts import first_of
from alignset.transforms.storage.blocks import batch_of

NO_URL, NOT_HTTP, NO_TEXT, NOT_UTF8 = "no_url", "not_http", "no_text", "not_utf8"


class NGrams(NamedTuple):
    """The unigrams and bigrams of texts.

    Fields:
      hashes: uint64[m]. first: int64[n], where each text's begin.
    """

    hashes: UInt64s
    first: npt.NDArray[np.int64]


class Pairs(NamedTuple):
    """A batch of pairs, measured.

    Fields:
      url: string[n], trimmed. text: string[n], as kept; both without nulls.
      malformed: string[n], what makes the pair unusable, or null.
      url_hash, text_hash: uint64[n], of the identities. key: uint64[n], of both.
      own_url: bool[n], whether `url_hash` is known to be the hash of the URL itself.
      word_count: int32[n]; a malformed pair has no words.
      page: string[n], URL of the page that each pair is from, or null; None where none is known.
      ngrams: None where they were used up, or are not remembered.
    """

    url: pa.StringArray
    text: pa.StringArray
    malformed: pa.StringArray
    url_hash: UInt64s
    text_hash: UInt64s
    key: UInt64s
    own_url: Bools
    word_count: npt.NDArray[np.int32]
    page: pa.StringArray | None = None
    ngrams: NGrams | None = None

    def usable(self) -> npt.NDArray[np.bool_]:
        """bool[n]: which pairs are not malformed."""
        return self.malformed.is_null().to_numpy(zero_copy_only=False)

    def exact_hash(self) -> UInt64s:
        """uint64[n]: hash of the very strings, to choose between pairs of one identity. A page
        that is null adds nothing, whatever other rows of the batch have."""
        url_hash = self.url_hash.copy()
        rows = np.flatnonzero(~self.own_url)
        url_hash[rows] = string_hashes(self.url.take(pa.array(rows)))
        strings = pair_keys(url_hash, string_hashes(self.text))
        return strings if self.page is None else mixed(strings, self.page)


def mixed(hashes: UInt64s, strings: pa.StringArray) -> UInt64s:
    """Hashes that further strings are hashed into: uint64[n]; a null adds nothing."""
    both = pair_keys(hashes, string_hashes(strings))
    return np.where(strings.is_valid(), both, hashes) if strings.null_count else both


def _fill_nulls(values: pa.BinaryArray) -> pa.BinaryArray:
    """Empty where it was null; not copied where the nulls take no bytes, as readers leave them."""
    if not values.null_count:
        return values
    _, offsets = string_buffers(values)
    if np.any(np.diff(offsets)[values.is_null().to_numpy(zero_copy_only=False)]):
        return pc.fill_null(values, b"")
    buffers = [None, *values.buffers()[1:]]
    return pa.BinaryArray.from_buffers(values.type, len(values), buffers, 0, values.offset)


def _readable(values: pa.Array) -> tuple[pa.StringArray, npt.NDArray[np.bool_]]:
    """The column as valid UTF-8 without nulls, and which rows were not valid."""
    text = _fill_nulls(values.cast(pa.binary())).view(pa.string())
    is_broken = np.zeros(len(text), np.bool_)
    data, offsets = string_buffers(text)
    if data[offsets[0] : offsets[-1]].max(initial=0) < 0x80:
        return text, is_broken
    try:
        text.validate(full=True)
        return text, is_broken
    except pa.ArrowInvalid:
        raw = text.view(pa.binary()).to_pylist()
    readable = [row.decode("utf-8", errors="replace") for row in raw]
    return pa.array(readable, pa.string()), np.array(
        [row != text.encode() for row, text in zip(raw, readable, strict=True)]
    )


def measure(batch: pa.RecordBatch) -> Pairs:
    """Measures a batch of pairs as they were read.

    Args:
      batch: columns `url` and `caption`, each string or binary[n], nulls and any bytes allowed, and
        where a source has them `malformed`, string[n]: why it could not read the row, and
        `page_url`, of the type of `url`; bytes that are not UTF-8 are shown with U+FFFD there.
    """
    urls, bad_url = _readable(batch["url"])
    texts, bad_text = _readable(batch["caption"])
    url = pc.utf8_trim_whitespace(urls) if has_blank_edges(*string_buffers(urls)) else urls
    url_hash, usable, own_url = url_hashes(url)
    text = measure_texts(texts, usable & ~bad_url & ~bad_text)
    faults = first_of(
        {
            NOT_UTF8: bad_url | bad_text,
            NO_URL: np.diff(string_buffers(url)[1]) == 0,
            NOT_HTTP: ~usable,
            NO_TEXT: np.diff(string_buffers(text.kept_texts)[1]) == 0,
        }
    )
    if "malformed" in batch.schema.names:
        faults = pc.coalesce(batch["malformed"], faults)
    page = None
    if PAGE_URL in batch.schema.names:
        page = _readable(batch[PAGE_URL])[0]
        page = pc.if_else(pc.equal(page, ""), pa.scalar(None, pa.string()), page)
    # A pair without an identity still needs a key to be named by.
    unusable = np.flatnonzero(~usable)
    url_hash[unusable] = string_hashes(url.take(pa.array(unusable)))
    key = pair_keys(url_hash, text.hash)
    return Pairs(
        url=url,
        text=text.kept_texts,
        malformed=faults,
        url_hash=url_hash,
        text_hash=text.hash,
        key=key,
        own_url=own_url,
        word_count=text.word_count,
        page=page,
        ngrams=NGrams(text.ngrams, text.first_ngram),
    )


# What the second reading needs of the first. Each text's n-grams would take as much again, and are
# quick.
_REMEMBERED = ("url", "text", "malformed", "url_hash", "text_hash", "word_count")


def remembered(pairs: Pairs, batch: pa.RecordBatch) -> pa.RecordBatch:
    """A measured batch as columns, for `recalled`; with the source's own columns."""
    columns = {name: getattr(pairs, name) for name in _REMEMBERED}
    if pairs.page is not None:
        columns[PAGE_URL] = pairs.page
    columns |= {name: batch[name] for name in batch.schema.names if name.startswith("source_")}
    return batch_of(columns)


def is_remembered(batch: pa.RecordBatch) -> bool:
    """Whether a batch is measured, and not as it was read."""
    return "url_hash" in batch.schema.names


def recalled(batch: pa.RecordBatch) -> Pairs:
    """The pairs of a batch that was `remembered`, without their n-grams."""
    url, text, malformed, *numbers = (batch[name] for name in _REMEMBERED)
    url_hash, text_hash, word_count = (column.to_numpy() for column in numbers)
    return Pairs(
        url=url,
        text=text,
        malformed=malformed,
        url_hash=url_hash,
        text_hash=text_hash,
        key=pair_keys(url_hash, text_hash),
        own_url=np.zeros(len(batch), np.bool_),
        word_count=word_count,
        page=batch[PAGE_URL] if PAGE_URL in batch.schema.names else None,
    )
