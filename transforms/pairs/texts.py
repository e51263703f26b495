"""Alt-texts: the form that is kept, the identity by which they are counted, and their n-grams.

Three ways to one result. A plain row, ASCII that is kept as it is, is walked word by word; any
other character by character over Python's own Unicode tables; and an odd row goes through Python's
own functions first: one with an HTML entity, with characters that Unicode might compose or reorder,
or with a letter of a script without spaces, in whose words it is broken by ICU.
"""

from __future__ import annotations

import html
import re
import unicodedata
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from alignset.transforms.columns.hashing import Bools, UInt64s, string_buffers
from alignset.transforms.pairs.text_kernels import (
    COMBINES,
    LONGEST_RUN,
    ODD,
    ROWS_AT_ONCE,
    UNSPACED,
    characters,
    splice,
    walk,
    walk_plain,
)

Rows = npt.NDArray[np.intp]


class Texts(NamedTuple):
    """Facts about n alt-texts.

    Fields:
      kept_texts: string[n], as they are kept.
      hash: uint64[n], of their identities.
      word_count: int32[n].
      ngrams: uint64[m], hashes of the unigrams and bigrams, text by text; a bigram's is `pair_hash`
        of its words' hashes.
      first_ngram: int64[n], where each text's begin; it has `ngram_count` of them.
    """

    kept_texts: pa.StringArray
    hash: UInt64s
    word_count: npt.NDArray[np.int32]
    ngrams: UInt64s
    first_ngram: npt.NDArray[np.int64]


def kept_text(text: str) -> str:
    """One alt-text as it is kept: entities decoded, NFC, white space collapsed and trimmed."""
    return " ".join(_composed(text).split())


def _composed(text: str) -> str:
    plain = html.unescape(_LONG_NUMBER.sub("\ufffd", text))
    if len(plain) > LONGEST_RUN and not plain.isascii():
        # Longer runs of marks are parted, as by Unicode's Stream-Safe Text Format (UAX 15).
        plain = _long_run().sub(_parted, plain)
    return unicodedata.normalize("NFC", plain)


_LONG_NUMBER = re.compile("&#[0-9]{4300,};?")  # of these Python makes no number, but an error
_JOINER = "\u034f"  # shows nothing, and parts the marks before it from those behind


@lru_cache(maxsize=1)
def _long_run() -> re.Pattern[str]:
    """More marks in a row than `LONGEST_RUN`, all of them. Asked from each run's first mark alone,
    so that a text of many runs is read once."""
    marks = "".join(map(chr, np.flatnonzero(characters().flags & COMBINES)))
    return re.compile(f"[{marks}](?<![{marks}][{marks}])[{marks}]{{{LONGEST_RUN},}}")


def _parted(run: re.Match[str]) -> str:
    starts = range(run.start(), run.end(), LONGEST_RUN)
    return _JOINER.join(run.string[at : min(at + LONGEST_RUN, run.end())] for at in starts)


def measure_texts(
    captions: pa.StringArray, has_words: Bools, words: npt.NDArray[np.int32] | None = None
) -> Texts:
    """Measures alt-texts.

    Args:
      captions: string[n], no nulls, valid UTF-8.
      has_words: bool[n], which texts are to have words; the others have none.
      words: int32[n], where these are kept texts, measured before: how many words each has. Then
        only words and n-grams are measured; `kept_texts` and `hash` say nothing.
    """
    trusted = words is not None
    if words is not None:
        most = 2 * int(words[has_words].sum())
    else:
        # Two n-grams a word, and a byte a word at least; what is not filled takes no memory.
        most = 2 * int(np.ptp(string_buffers(captions)[1]))
    room = np.empty(most, np.uint64)
    texts, other = _walked_plain(captions, has_words, room, trusted=trusted)
    if len(other):
        behind = room[len(texts.ngrams) :]
        others = captions.take(pa.array(other))
        rest, odd = _walked(
            others, has_words[other], behind, UNSPACED if trusted else ODD | UNSPACED
        )
        if len(odd):
            raw = captions.take(pa.array(other[odd])).to_pylist()
            odd_texts = raw if trusted else [_composed(text) for text in raw]
            behind_them = behind[len(rest.ngrams) :]
            last = _measured_odd(odd_texts, has_words[other[odd]], behind_them, trusted=trusted)
            rest = _filled(rest, odd, last, behind)._replace(
                kept_texts=_spliced(rest.kept_texts, odd, last.kept_texts)
            )
        texts = _filled(texts, other, rest, room)
        if not trusted:
            texts = texts._replace(kept_texts=_spliced(texts.kept_texts, other, rest.kept_texts))
    return texts


def _measured_odd(texts: list[str], has_words: Bools, room: UInt64s, *, trusted: bool) -> Texts:
    """Measures texts whose entities are decoded and that are NFC, in scripts without spaces too."""
    word_texts = [text if has else "" for text, has in zip(texts, has_words, strict=True)]
    all_rows, column = np.ones(len(texts), np.bool_), pa.array(texts, pa.string())
    # As they are kept first, since that leaves n-grams by spaces in the room.
    whole = None if trusted else _walked(column, all_rows, room, 0)[0]
    words, _ = _walked(pa.array(separate_words(word_texts), pa.string()), has_words, room, 0)
    return words._replace(kept_texts=whole.kept_texts, hash=whole.hash) if whole else words


_AT_ONCE = 4096  # texts that ICU is given in one piece: a breaker for each takes twice as long


@lru_cache(maxsize=1)
def _letter_without_spaces() -> re.Pattern[str]:
    """Any letter of the scripts without spaces, as ranges."""
    codes = np.flatnonzero(characters().flags & UNSPACED)
    runs = np.split(codes, np.flatnonzero(np.diff(codes) > 1) + 1)
    return re.compile(f"[{''.join(f'{chr(run[0])}-{chr(run[-1])}' for run in runs)}]")


def separate_words(texts: list[str]) -> list[str]:
    """Case-folds texts and puts spaces around what ICU takes for words, in tokens with a letter of
    a script without spaces. All other tokens stay as they are."""
    has_letter = _letter_without_spaces().search
    apart: list[str] = []
    for first in range(0, len(texts), _AT_ONCE):
        tokens = [text.casefold().split() for text in texts[first : first + _AT_ONCE]]
        letter_tokens = [token for of_text in tokens for token in of_text if has_letter(token)]
        # A line end is a piece by itself, and is in no token.
        pieces = iter(_broken("\n".join(letter_tokens)).split(" \n "))
        apart += [
            " ".join(next(pieces) if has_letter(token) else token for token in of_text)
            for of_text in tokens
        ]
    return apart


def _broken(text: str) -> str:
    from icu4py.breakers import WordBreaker  # its dictionaries take 31 MB

    words = (word for word in WordBreaker(text, "en"))  # its own iterator begins anew
    # Joined by parts: a string of each word takes 50 bytes and more.
    return " ".join(iter(lambda: " ".join(islice(words, 1 << 16)), ""))


def _filled(texts: Texts, rows: Rows, rest: Texts, room: UInt64s) -> Texts:
    """Puts what is known of the rest in the place of some rows, but not the texts as they are kept;
    its n-grams lie behind the others in the room."""
    texts.hash[rows] = rest.hash
    texts.word_count[rows] = rest.word_count
    texts.first_ngram[rows] = rest.first_ngram + len(texts.ngrams)
    return texts._replace(
        ngrams=room[: len(texts.ngrams) + len(rest.ngrams)],
    )


def _spliced(column: pa.StringArray, rows: Rows, others: pa.StringArray) -> pa.StringArray:
    """A column with others in the place of some rows, which ascend."""
    data, offsets = string_buffers(column)
    more, ends_of_more = string_buffers(others)
    old_size = int((offsets[rows + 1] - offsets[rows]).sum())
    size = int(offsets[-1] - offsets[0]) - old_size + int(ends_of_more[-1] - ends_of_more[0])
    bytes_, ends = np.empty(size, np.uint8), np.empty(len(offsets), np.int32)
    splice((data, offsets), rows, (more, ends_of_more), bytes_, ends)
    return pa.StringArray.from_buffers(len(column), pa.py_buffer(ends), pa.py_buffer(bytes_))


def _columns(
    rows: int, room: UInt64s
) -> tuple[UInt64s, npt.NDArray[np.int32], UInt64s, npt.NDArray[np.int64], Bools]:
    """hash, word_count, ngrams, first_ngram, and which rows are left to others."""
    hashes, word_count = np.empty(rows, np.uint64), np.zeros(rows, np.int32)
    return hashes, word_count, room, np.zeros(rows, np.int64), np.empty(rows, np.bool_)


def _walked_plain(
    captions: pa.StringArray, has_words: Bools, room: UInt64s, *, trusted: bool
) -> tuple[Texts, Rows]:
    """Measures the plain rows; gives which rows are not."""
    data, offsets = string_buffers(captions)
    edges = np.append(offsets[::ROWS_AT_ONCE], offsets[-1])
    lower_text = np.empty(int(np.diff(edges).max()) + 8, np.uint8)
    out = _columns(len(captions), room)
    used = walk_plain(data, offsets, has_words, trusted, lower_text, out)
    hashes, word_count, _, first_ngram, other = out
    texts = Texts(captions, hashes, word_count, room[:used], first_ngram)
    return texts, np.flatnonzero(other)


def _walked(
    captions: pa.StringArray, has_words: Bools, room: UInt64s, odd_flags: int
) -> tuple[Texts, Rows]:
    """Measures all rows but the odd ones, and gives which those are.

    Args:
      room: for the n-grams.
      odd_flags: of the characters that make a row odd; without ODD all rows are trusted to be NFC,
        with their entities decoded.
    """
    data, offsets = string_buffers(captions)
    text_bytes = np.empty(int(offsets[-1] - offsets[0]), np.uint8)
    ends = np.zeros(len(offsets), np.int32)
    longest = int(np.diff(offsets).max(initial=0))
    identity = np.empty(3 * longest + 8, np.uint8)  # no character's folding is longer than that
    out = _columns(len(captions), room)
    tables, texts = tuple(characters()), (text_bytes, ends, identity)
    used = walk(data, offsets, has_words, tables, np.uint8(odd_flags), texts, out)
    text = pa.StringArray.from_buffers(
        len(captions), pa.py_buffer(ends), pa.py_buffer(text_bytes[: ends[-1]])
    )
    hashes, word_count, _, first_ngram, odd = out
    return Texts(text, hashes, word_count, room[:used], first_ngram), np.flatnonzero(odd)
