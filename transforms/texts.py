"""Alt-texts: the form that is kept, the identity by which they are counted, and their words.

Plain ASCII rows never leave Arrow and numba; a row with an entity, other white space or any
other script goes through Python's own Unicode tables, which are the definition.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from transforms.hashing import UInt64s, string_buffers, xxh64

_SPACE = ord(" ")


def kept_text(text: str) -> str:
    """One alt-text as it is kept: entities decoded, NFC, white space collapsed and trimmed."""
    return " ".join(unicodedata.normalize("NFC", html.unescape(text)).split())


def text_words(identity: str) -> list[str]:
    """The words of one alt-text's identity: split at spaces, stripped of all but letters and
    digits at both ends, empties dropped."""
    return [word for word in map(_strip_word, identity.split(" ")) if word]


def _strip_word(word: str) -> str:
    start, stop = 0, len(word)
    while start < stop and not word[start].isalnum():
        start += 1
    while stop > start and not word[stop - 1].isalnum():
        stop -= 1
    return word[start:stop]


@njit(nogil=True, cache=True)
def _find_uneven(data, offsets, uneven, foreign):  # type: ignore[no-untyped-def]
    """Marks rows that `kept_text` might change, and rows with a byte beyond ASCII."""
    for row in range(len(uneven)):
        before = _SPACE  # so that a leading space counts as doubled
        odd = False
        wide = False
        for at in range(offsets[row], offsets[row + 1]):
            byte = data[at]
            wide |= byte >= 0x80
            odd |= byte < _SPACE or byte == ord("&") or (byte == _SPACE and before == _SPACE)
            before = byte
        uneven[row] = odd or wide or (before == _SPACE and offsets[row + 1] > offsets[row])
        foreign[row] = wide


def _marks(column: pa.StringArray) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    data, offsets = string_buffers(column)
    uneven = np.empty(len(column), np.bool_)
    foreign = np.empty(len(column), np.bool_)
    _find_uneven(data, offsets, uneven, foreign)
    return uneven, foreign


def _rewrite(
    column: pa.StringArray, rows: npt.NDArray[np.bool_], rule: Callable[[str], str]
) -> pa.StringArray:
    """The column with `rule` applied to the marked rows; the others are not touched."""
    if not rows.any():
        return column
    mask = pa.array(rows)
    changed = [rule(text) for text in column.filter(mask).to_pylist()]
    return pc.replace_with_mask(column, mask, pa.array(changed, pa.string()))


def kept_texts(captions: pa.StringArray) -> pa.StringArray:
    """Alt-texts as they are kept: string[n] in and out, no nulls, valid UTF-8."""
    return _rewrite(captions, _marks(captions)[0], kept_text)


def text_identities(kept: pa.StringArray) -> pa.StringArray:
    """What alt-texts are counted by: the kept text, case-folded; string[n] in and out."""
    return _rewrite(pc.ascii_lower(kept), _marks(kept)[1], str.casefold)


@njit(nogil=True, cache=True)
def _join_words(data, offsets, letter, joined, ends, counts):  # type: ignore[no-untyped-def]
    """Writes each row's stripped words, one space between them, behind one another."""
    end = 0
    for row in range(len(counts)):
        first = end
        at, stop = offsets[row], offsets[row + 1]
        words = 0
        while at < stop:
            while at < stop and not letter[data[at]]:  # leading marks and spaces
                at += 1
            if at == stop:
                break
            last = at
            start = at
            while at < stop and data[at] != _SPACE:
                if letter[data[at]]:
                    last = at
                at += 1
            if end > first:
                joined[end] = _SPACE
                end += 1
            joined[end : end + last + 1 - start] = data[start : last + 1]
            end += last + 1 - start
            words += 1
        ends[row + 1] = end
        counts[row] = words


# Rows beyond ASCII come to the kernel already stripped, so any byte of theirs is a letter's.
_LETTER = np.array([chr(b).isalnum() if b < 0x80 else True for b in range(256)])


def word_columns(identities: pa.StringArray) -> tuple[pa.StringArray, npt.NDArray[np.int32]]:
    """The words of each alt-text.

    Args:
      identities: string[n], no nulls.

    Returns:
      string[n], the words with one space between them, and int32[n], how many there are.
    """
    foreign = _marks(identities)[1]
    source = _rewrite(identities, foreign, lambda text: " ".join(text_words(text)))
    data, offsets = string_buffers(source)
    joined = np.empty(int(offsets[-1] - offsets[0]), np.uint8)
    ends = np.zeros(len(source) + 1, np.int32)
    counts = np.zeros(len(source), np.int32)
    _join_words(data, offsets, _LETTER, joined, ends, counts)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(joined[: ends[-1]])]
    return pa.StringArray.from_buffers(len(source), buffers[1], buffers[2]), counts


@njit(nogil=True, cache=True)
def _hash_ngrams(data, offsets, hashes):  # type: ignore[no-untyped-def]
    out = 0
    for row in range(len(offsets) - 1):
        stop = offsets[row + 1]
        before = -1  # where the word before this one starts
        start = offsets[row]
        while start < stop:
            end = start
            while end < stop and data[end] != _SPACE:
                end += 1
            hashes[out] = xxh64(data, start, end)
            out += 1
            if before >= 0:
                hashes[out] = xxh64(data, before, end)
                out += 1
            before = start
            start = end + 1


def ngram_hashes(words: pa.StringArray, counts: npt.NDArray[np.int32]) -> UInt64s:
    """Hashes of all unigrams and bigrams, row after row.

    Args:
      words: string[n], words with one space between them.
      counts: int32[n], how many words each row has; a row has max(0, 2 * count - 1) n-grams.

    Returns:
      uint64[sum of n-grams]. A bigram's hash is that of its two words and the space between.
    """
    hashes = np.empty(int(ngram_counts(counts).sum()), np.uint64)
    data, offsets = string_buffers(words)
    _hash_ngrams(data, offsets, hashes)
    return hashes


def ngram_counts(counts: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """How many unigrams and bigrams a text of `counts` words has: int64[n]."""
    return np.maximum(0, 2 * counts.astype(np.int64) - 1)


@njit(nogil=True, cache=True)
def _any_missing(found, ngrams_per_row, missing):  # type: ignore[no-untyped-def]
    at = 0
    for row in range(len(missing)):
        missing[row] = False
        for _ in range(ngrams_per_row[row]):
            missing[row] |= not found[at]
            at += 1


def has_rare_token(
    found: npt.NDArray[np.bool_], counts: npt.NDArray[np.int32]
) -> npt.NDArray[np.bool_]:
    """Whether any n-gram of each text is outside the vocabulary.

    Args:
      found: bool[sum of n-grams], whether each n-gram is in the vocabulary, row after row.
      counts: int32[n], words of each text.

    Returns:
      bool[n].

    Source: ALIGN (Jia et al., 2021), section 3, "rare tokens".
    """
    missing = np.empty(len(counts), np.bool_)
    _any_missing(found, ngram_counts(counts), missing)
    return missing
