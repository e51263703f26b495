"""Alt-texts: the form that is kept, the identity by which they are counted, and their n-grams.

Three ways to one result. A plain row, ASCII that is kept as it is, is walked word by word; any
other character by character over Python's own Unicode tables; and a row with an HTML entity, or
with characters that Unicode might compose or reorder, goes through Python's own functions first.
"""

from __future__ import annotations

import html
import re
import unicodedata
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from transforms.characters import ALNUM, COMBINES, END, FOLDS, ODD, SPACE, characters
from transforms.hashing import (
    UInt64s,
    pair_begin,
    pair_end,
    read8,
    string_buffers,
    word_hash,
    xxh64,
)

_BLANK, _AMPERSAND, _SEMICOLON = ord(" "), ord("&"), ord(";")


Rows = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]


class Texts(NamedTuple):
    """What is known of n alt-texts.

    Fields:
      kept: string[n], as they are kept.
      hash: uint64[n], of their identities.
      word_count: int32[n].
      ngrams: uint64[m], hashes of the unigrams and bigrams, those of one text behind one another;
        a bigram's is `pair_hash` of its words' hashes.
      first_ngram: int64[n], where those of each text begin; it has `ngram_count` of them.
    """

    kept: pa.StringArray
    hash: UInt64s
    word_count: npt.NDArray[np.int32]
    ngrams: UInt64s
    first_ngram: npt.NDArray[np.int64]


def kept_text(text: str) -> str:
    """One alt-text as it is kept: entities decoded, NFC, white space collapsed and trimmed."""
    decoded = html.unescape(_LONG_NUMBER.sub("\ufffd", text))
    return " ".join(unicodedata.normalize("NFC", _with_short_runs(decoded)).split())


_LONG_NUMBER = re.compile("&#[0-9]{4300,};?")  # of these Python makes no number, but an error
_LONGEST_RUN = 255  # marks on one letter; NFC orders them in quadratic time
_JOINER = "\u034f"  # shows nothing, and parts the marks before it from those behind


def _with_short_runs(text: str) -> str:
    """Parts longer runs of combining marks, as Unicode's Stream-Safe Text Format does (UAX 15)."""
    if len(text) <= _LONGEST_RUN:
        return text
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    marks = characters().combining[np.minimum(codes, END - 1)] > 0
    letters = np.flatnonzero(np.concatenate([[True], ~marks, [True]]))
    long = np.flatnonzero(np.diff(letters) > _LONGEST_RUN + 1)
    cuts = [
        at
        for start, stop in zip(letters[long], letters[long + 1], strict=True)
        for at in range(start + _LONGEST_RUN, stop - 1, _LONGEST_RUN)
    ]
    return _JOINER.join(text[a:b] for a, b in pairwise([0, *cuts, len(text)]))


def text_identity(kept: str) -> str:
    """What an alt-text is counted by: the kept text, case-folded."""
    return kept.casefold()


def measure_texts(captions: pa.StringArray, wanted: Bools) -> Texts:
    """Measures alt-texts.

    Args:
      captions: string[n], no nulls, valid UTF-8.
      wanted: bool[n], which texts are to have words; the others have none.
    """
    data, offsets = string_buffers(captions)
    # So tight that the allocator keeps it for the next batch: fresh pages cost as much as the walk.
    room = np.empty(2 * (_count_separators(data, offsets) + len(captions)), np.uint64)
    texts, other = _walked_plain(captions, wanted, room)
    if len(other):
        behind = room[len(texts.ngrams) :]
        rest, odd = _walked(captions.take(pa.array(other)), wanted[other], behind)
        if len(odd):
            raw = captions.take(pa.array(other[odd])).to_pylist()
            rewritten = pa.array([kept_text(text) for text in raw], pa.string())
            behind_them = behind[len(rest.ngrams) :]
            last, _ = _walked(rewritten, wanted[other[odd]], behind_them, trusted=True)
            rest = _filled(rest, odd, last, behind)
        texts = _filled(texts, other, rest, room)
    return texts


def _filled(texts: Texts, rows: Rows, rest: Texts, room: UInt64s) -> Texts:
    """Puts the rest in the place of some rows; its n-grams lie behind the others in the room."""
    texts.hash[rows] = rest.hash
    texts.word_count[rows] = rest.word_count
    texts.first_ngram[rows] = rest.first_ngram + len(texts.ngrams)
    mask = np.zeros(len(texts.hash), np.bool_)
    mask[rows] = True
    return texts._replace(
        kept=pc.replace_with_mask(texts.kept, pa.array(mask), rest.kept),
        ngrams=room[: len(texts.ngrams) + len(rest.ngrams)],
    )


def _columns(rows: int, room: UInt64s) -> tuple[npt.NDArray, ...]:
    """hash, word_count, ngrams, first_ngram, and which rows are left to others."""
    hashes, word_count = np.empty(rows, np.uint64), np.zeros(rows, np.int32)
    return hashes, word_count, room, np.zeros(rows, np.int64), np.empty(rows, np.bool_)


def _walked_plain(captions: pa.StringArray, wanted: Bools, room: UInt64s) -> tuple[Texts, Rows]:
    """Measures the plain rows; gives which rows are not."""
    data, offsets = string_buffers(captions)
    lowered = np.empty(int(offsets[-1] - offsets[0]) + 8, np.uint8)
    out = _columns(len(captions), room)
    used = _walk_plain(data, offsets, wanted, lowered, out)
    hashes, word_count, _, first_ngram, other = out
    texts = Texts(captions, hashes, word_count, room[:used], first_ngram)
    return texts, np.flatnonzero(other)


def _walked(
    captions: pa.StringArray, wanted: Bools, room: UInt64s, *, trusted: bool = False
) -> tuple[Texts, Rows]:
    """Measures all rows but the odd ones, and gives which those are.

    Args:
      room: for the n-grams.
      trusted: no row is odd: they are kept texts already.
    """
    data, offsets = string_buffers(captions)
    kept = np.empty(int(offsets[-1] - offsets[0]), np.uint8)
    ends = np.zeros(len(offsets), np.int32)
    longest = int(np.diff(offsets).max(initial=0))
    identity = np.empty(3 * longest + 8, np.uint8)  # no character's folding is longer than that
    out = _columns(len(captions), room)
    used = _walk(data, offsets, wanted, tuple(characters()), trusted, (kept, ends, identity), out)
    text = pa.StringArray.from_buffers(
        len(captions), pa.py_buffer(ends), pa.py_buffer(kept[: ends[-1]])
    )
    hashes, word_count, _, first_ngram, odd = out
    return Texts(text, hashes, word_count, room[:used], first_ngram), np.flatnonzero(odd)


@njit(inline="always")
def ngram_count(words):  # type: ignore[no-untyped-def]
    """How many unigrams and bigrams a text of so many words has. For use inside kernels."""
    return 2 * words - 1 if words else 0


@njit(nogil=True, cache=True)
def _count_separators(data, offsets):  # type: ignore[no-untyped-def]
    """Bytes that may part two words; a text has at most one word more, and two n-grams a word."""
    found = 0
    for at in range(np.uint64(offsets[0]), np.uint64(offsets[-1])):
        byte = data[at]
        found += (byte <= _BLANK) | (byte >= 0x80) | (byte == _AMPERSAND)
    return found


@njit(inline="always")
def _is_plain(data, start, stop):  # type: ignore[no-untyped-def]
    """Whether a text is printable ASCII without ampersands, and its spaces are single."""
    if start == stop:
        return True
    wrong = (data[start] == _BLANK) | (data[stop - 1] == _BLANK)
    for at in range(np.uint64(start), np.uint64(stop - 1)):  # no branches: many bytes at once
        byte, after = data[at], data[at + np.uint64(1)]
        wrong |= (byte < _BLANK) | (byte > 0x7F) | (byte == _AMPERSAND)
        wrong |= (byte == _BLANK) & (after == _BLANK)
    last = data[stop - 1]
    return not (wrong | (last < _BLANK) | (last > 0x7F) | (last == _AMPERSAND))


_LETTER = np.array([byte < 0x80 and chr(byte).isalnum() for byte in range(256)])  # or digit

# Where in 64 bits a lone one stands, by the top 6 bits of its product with a de Bruijn sequence.
_DE_BRUIJN = 0x03F79D71B4CB0A89
_BIT = np.zeros(64, np.uint8)
_BIT[[((1 << bit) * _DE_BRUIJN % (1 << 64)) >> 58 for bit in range(64)]] = range(64)


@njit(inline="always")
def _next_blank(data, at, stop):  # type: ignore[no-untyped-def]
    """Where the next blank stands, or `stop`; looks at 8 bytes at once, of which 7 may be behind.

    A byte less its own ones borrows where it was 0: the lowest bit left marks the first blank.
    """
    while at < stop:
        lane = read8(data, at) ^ np.uint64(0x2020202020202020)
        marks = (lane - np.uint64(0x0101010101010101)) & ~lane & np.uint64(0x8080808080808080)
        if marks:
            lowest = marks & (np.uint64(0) - marks)
            at += _BIT[(lowest * np.uint64(_DE_BRUIJN)) >> np.uint64(58)] >> 3
            return at if at < stop else stop
        at += 8
    return stop


@njit(nogil=True, cache=True)
def _walk_plain(data, offsets, wanted, lowered, out):  # type: ignore[no-untyped-def]
    """Fills `out` for the plain rows; returns how many n-grams there are in all."""
    hashes, word_count, ngrams, first_ngram, other = out
    base, used = offsets[0], 0
    for at in range(np.uint64(len(lowered) - 8)):
        byte = data[np.uint64(base) + at]
        lowered[at] = byte + np.uint8(32 if byte >= 65 and byte <= 90 else 0)
    for row in range(len(hashes)):
        other[row] = not _is_plain(data, offsets[row], offsets[row + 1])
        if other[row]:
            continue
        first_ngram[row] = used
        at, stop = offsets[row] - base, offsets[row + 1] - base
        words, begun = 0, np.uint64(0)
        hashes[row] = xxh64(lowered, at, stop)
        if not wanted[row]:
            stop = at
        while at < stop:
            blank = _next_blank(lowered, at, stop)
            end = blank
            while at < end and not _LETTER[lowered[at]]:
                at += 1
            while at < end and not _LETTER[lowered[end - 1]]:
                end -= 1
            if at < end:
                word = word_hash(lowered, at, end)
                used = _add_word(word, begun, words, ngrams, used)
                begun = pair_begin(word)
                words += 1
            at = blank + 1
        word_count[row] = words
    return used


@njit(inline="always")
def _decoded(data, at):  # type: ignore[no-untyped-def]
    """The character at this place of valid UTF-8, and how many bytes it takes."""
    lead = np.uint32(data[at])
    if lead < 0x80:
        return lead, 1
    tail = np.uint32(data[at + 1] & 0x3F)
    if lead < 0xE0:
        return (lead & np.uint32(0x1F)) << np.uint32(6) | tail, 2
    tail = tail << np.uint32(6) | np.uint32(data[at + 2] & 0x3F)
    if lead < 0xF0:
        return (lead & np.uint32(0x0F)) << np.uint32(12) | tail, 3
    tail = tail << np.uint32(6) | np.uint32(data[at + 3] & 0x3F)
    return (lead & np.uint32(0x07)) << np.uint32(18) | tail, 4


@njit(inline="always")
def _encode(code, room, end):  # type: ignore[no-untyped-def]
    """Writes a character as UTF-8; returns where it ends."""
    if code < 0x80:
        room[end] = code
        return end + 1
    if code < 0x800:
        room[end] = 0xC0 | code >> 6
    else:
        if code < 0x10000:
            room[end] = 0xE0 | code >> 12
        else:
            room[end] = 0xF0 | code >> 18
            end += 1
            room[end] = 0x80 | code >> 12 & 0x3F
        end += 1
        room[end] = 0x80 | code >> 6 & 0x3F
    room[end + 1] = 0x80 | code & 0x3F
    return end + 2


@njit(inline="always")
def _bare_ampersand(data, at, stop):  # type: ignore[no-untyped-def]
    """How many bytes the ampersand at this place takes, alone or as "&amp;"; 0: ask Python."""
    after = data[at + 1] if at + 1 < stop else np.uint8(_BLANK)
    if after in (_BLANK, _AMPERSAND, _SEMICOLON):
        return 1
    if at + 5 > stop or after != ord("a") or data[at + 2] != ord("m"):
        return 0
    return 5 if data[at + 3] == ord("p") and data[at + 4] == _SEMICOLON else 0


@njit(inline="always")
def _add_word(word, begun, words, ngrams, used):  # type: ignore[no-untyped-def]
    """Adds a word's n-grams; returns how many n-grams there are then."""
    ngrams[used] = word
    if words == 0:
        return used + 1
    ngrams[used + 1] = pair_end(begun, word)
    return used + 2


@njit(nogil=True, cache=True)
def _walk(data, offsets, wanted, tables, trusted, texts, out):  # type: ignore  # noqa: C901
    """Fills `out` and the kept texts, but for the odd rows; returns how many n-grams there are."""
    flags, folded, combining = tables
    kept, ends, identity = texts
    hashes, word_count, ngrams, first_ngram, odd = out
    kept_end, used = 0, 0
    for row in range(len(hashes)):
        at, stop = offsets[row], offsets[row + 1]
        kept_start, first = kept_end, used
        end = 0  # of the identity
        words, begun = 0, np.uint64(0)
        word_start, word_end = -1, 0
        blank, is_odd = False, False
        class_before, run = np.uint8(0), 0
        while at < stop and not is_odd:
            code, width = _decoded(data, at)
            flag = flags[code] if code < END else np.uint8(0)
            if flag & SPACE:
                blank, class_before, run = end > 0, np.uint8(0), 0
                at += width
                continue
            if blank:
                blank = False
                kept[kept_end] = _BLANK
                kept_end += 1
                identity[end] = _BLANK
                end += 1
                if word_start >= 0:
                    word = word_hash(identity, word_start, word_end)
                    used = _add_word(word, begun, words, ngrams, used)
                    begun = pair_begin(word)
                    words += 1
                    word_start = -1
            skipped = width
            if not trusted:
                class_here = combining[code] if flag & COMBINES else np.uint8(0)
                run = run + 1 if class_here else 0
                wrong_order = class_here > 0 and class_here < class_before
                class_before = class_here
                if code == _AMPERSAND:
                    skipped = _bare_ampersand(data, at, stop)
                    is_odd = skipped == 0
                else:
                    is_odd = flag & ODD != 0 or wrong_order or run > _LONGEST_RUN
            for byte in range(width):
                kept[kept_end + byte] = data[at + byte]
            kept_end += width
            at += skipped
            letters = 3 if flag & FOLDS else 1
            for place in range(letters):
                letter = folded[code, place] if flag & FOLDS else code
                if letter == 0 and place:  # a shorter folding
                    break
                start, end = end, _encode(letter, identity, end)
                if letter < END and flags[letter] & ALNUM:
                    word_start = start if word_start < 0 else word_start
                    word_end = end
        if is_odd:
            kept_end, used, words, word_start, end = kept_start, first, 0, -1, 0
        if word_start >= 0:
            word = word_hash(identity, word_start, word_end)
            used = _add_word(word, begun, words, ngrams, used)
            begun = pair_begin(word)
            words += 1
        if not wanted[row]:
            used, words = first, 0
        ends[row + 1] = kept_end
        hashes[row] = xxh64(identity, 0, end)
        word_count[row] = words
        first_ngram[row] = first
        odd[row] = is_odd
    return used
