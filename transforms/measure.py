"""What the text plane knows of each pair: its identities, words and n-grams."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms.hashing import UInt64s, pair_keys, string_hashes
from transforms.texts import kept_texts, ngram_hashes, text_identities, word_columns
from transforms.urls import url_hashes

NO_URL, NOT_HTTP, NO_TEXT, NOT_UTF8 = "no_url", "not_http", "no_text", "not_utf8"
UNREADABLE = "unreadable_row"  # a line of a text file that is no row; a source says so


class Pairs(NamedTuple):
    """A batch of pairs, measured.

    Fields:
      url: string[n], trimmed. text: string[n], as kept; both without nulls.
      malformed: string[n], what makes the pair unusable, or null.
      url_hash, text_hash: uint64[n], of the identities. key: uint64[n], of both.
      words: string[n], stripped words with one space between. word_count: int32[n].
    """

    url: pa.StringArray
    text: pa.StringArray
    malformed: pa.StringArray
    url_hash: UInt64s
    text_hash: UInt64s
    key: UInt64s
    words: pa.StringArray
    word_count: npt.NDArray[np.int32]

    def usable(self) -> npt.NDArray[np.bool_]:
        """bool[n]: which pairs are not malformed."""
        return self.malformed.is_null().to_numpy(zero_copy_only=False)

    def exact_hash(self) -> UInt64s:
        """uint64[n]: hash of the very strings, to choose between pairs of one identity."""
        return pair_keys(string_hashes(self.url), string_hashes(self.text))

    def ngram_hashes(self, rows: npt.NDArray[np.bool_] | None = None) -> UInt64s:
        """Hashes of the unigrams and bigrams of the marked rows, row after row."""
        if rows is None or rows.all():
            return ngram_hashes(self.words, self.word_count)
        return ngram_hashes(self.words.filter(pa.array(rows)), self.word_count[rows])


def _readable(values: pa.Array) -> tuple[pa.StringArray, npt.NDArray[np.bool_]]:
    """The column as valid UTF-8 without nulls, and which rows were not valid."""
    text = pc.fill_null(values.cast(pa.binary()), b"").view(pa.string())
    broken = np.zeros(len(text), np.bool_)
    try:
        text.validate(full=True)
        return text, broken
    except pa.ArrowInvalid:
        raw = text.view(pa.binary()).to_pylist()
    shown = [row.decode("utf-8", errors="replace") for row in raw]
    return pa.array(shown, pa.string()), np.array(
        [row != text.encode() for row, text in zip(raw, shown, strict=True)]
    )


def measure(batch: pa.RecordBatch) -> Pairs:
    """Measures a batch of pairs as they were read.

    Args:
      batch: columns `url` and `caption`, each string or binary[n], nulls and any bytes allowed,
        and where a source has it `malformed`, string[n]: why it could not read the row.
    """
    urls, bad_url = _readable(batch["url"])
    texts, bad_text = _readable(batch["caption"])
    url = pc.utf8_trim_whitespace(urls)
    text = kept_texts(texts)
    url_hash, usable = url_hashes(url)
    identity = text_identities(text)
    text_hash = string_hashes(identity)
    words, word_count = word_columns(identity)
    faults = pc.case_when(
        pc.make_struct(
            pa.array(bad_url | bad_text),
            pc.equal(url, ""),
            pa.array(~usable),
            pc.equal(text, ""),
        ),
        NOT_UTF8,
        NO_URL,
        NOT_HTTP,
        NO_TEXT,
    )
    if "malformed" in batch.schema.names:
        faults = pc.coalesce(batch["malformed"], faults)
    # A pair without an identity still needs a key to be named by.
    url_hash = np.where(usable, url_hash, string_hashes(url)) if not usable.all() else url_hash
    key = pair_keys(url_hash, text_hash)
    return Pairs(url, text, faults, url_hash, text_hash, key, words, word_count)
