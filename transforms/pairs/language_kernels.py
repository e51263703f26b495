"""eldc's scores of a column of texts, and what their words say of English, without the
interpreter's lock.

eldc's own function takes one Python string at a time, under that lock. Its model is read from the C
sources that its package brings along. The arithmetic is eldc's own (`eld_core.c` in its package),
so its scores are the same to the last bit.
"""

from __future__ import annotations

import math
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from alignset.transforms.columns.hashing import UInt64s, read8, string_hashes, xxh64
from alignset.transforms.columns.kernels import kernel
from alignset.transforms.pairs.text_kernels import END, FOLDS, decode_letter, encode_letter
from alignset.transforms.rules.language_codes import ENGLISH

LETTER, ALONE, JOINS = 1, 2, 3  # `kinds`: part of a word, a word by itself, joins two letters
_SLOTS = 1 << 21
_ALONE_BEYOND = ((0x20000, 0x2A6DF), (0x2A700, 0x2CEAF), (0x2CEB0, 0x2EBEF), (0x2F800, 0x2FA1F))
KINDS_END = 0x2FA20


class EldcModel(NamedTuple):
    """eldc's n-grams and what each says for which languages.

    Fields:
      kinds: uint8[KINDS_END], what each character is to a word: LETTER, ALONE, JOINS, or 0.
      slots: uint32[2**21, 2], a hash table with open addressing. The upper half of an n-gram's
        hash, 0 where the slot is empty; and where its scores begin (24 bits), how many (8 bits).
      languages: uint8[m], places in `OF_ELDC`; scores: float32[m].
    """

    kinds: npt.NDArray[np.uint8]
    slots: npt.NDArray[np.uint32]
    languages: npt.NDArray[np.uint8]
    scores: npt.NDArray[np.float32]


@lru_cache(maxsize=1)  # 24 MB
def eldc_model() -> EldcModel:
    """Reads the model, in 0.3 s."""
    folder = Path(find_spec("eldc").origin).parent  # type: ignore[union-attr, arg-type]
    source = (folder / "large_db.h").read_bytes()
    slots = _c_array(source, b"ELD_hashtable", 2 * _SLOTS).reshape(_SLOTS, 2)
    # A score is a float whose lowest byte makes room for its language.
    entries = _c_array(source, b"ELD_blob", None)
    languages = (entries & np.uint32(0xFF)).astype(np.uint8)
    scores = (entries & np.uint32(0xFFFFFF00)).view(np.float32)
    return EldcModel(_kinds((folder / "eld_unicode_bits.h").read_bytes()), slots, languages, scores)


def _kinds(source: bytes) -> npt.NDArray[np.uint8]:
    kinds = np.zeros(KINDS_END, np.uint8)
    for name, kind in ((b"LETTER_BITS", LETTER), (b"CJK_BITS", ALONE)):  # a kanji is both
        bits = np.unpackbits(_c_array(source, name, 8192).astype(np.uint8), bitorder="little")
        kinds[np.flatnonzero(bits)] = kind
    for first, last in _ALONE_BEYOND:
        kinds[first : last + 1] = ALONE
    kinds[[ord("'"), ord("`"), ord("’")]] = JOINS
    return kinds


_DIGITS = np.full(256, 255, np.uint8)
for _digit, _byte in enumerate(b"0123456789ABCDEF"):
    _DIGITS[_byte] = _digit


def _c_array(source: bytes, name: bytes, size: int | None) -> npt.NDArray[np.uint32]:
    """The numbers of an array in C's source; its commas give its size where that is None."""
    start = source.index(b"{", source.index(name + b"["))
    stop = source.index(b";", start)
    numbers = np.zeros(size or source.count(b",", start, stop) + 1, np.uint32)
    count = _read_numbers(np.frombuffer(source, np.uint8)[start:stop], _DIGITS, numbers)
    if count != len(numbers):
        raise RuntimeError(f"eldc's {name.decode()} has {count} numbers, not {len(numbers)}")
    return numbers


@kernel
def _read_numbers(source, digits, numbers):  # type: ignore[no-untyped-def]
    """Fills `numbers`, and returns how many there were; `{0}` is two of them, as is `{0xA,0xB}`."""
    count, value, base, inside = 0, 0, 10, False
    for at in range(len(source)):
        byte = source[at]
        digit = digits[byte]
        if byte == ord("x"):
            base = 16
        elif digit < base:
            value, inside = value * base + digit, True
        else:
            if inside:
                numbers[count] = value
                count, value, base, inside = count + 1, 0, 10, False
            if byte == ord("}") and count & 1 and count < len(numbers):
                count += 1
    return count


@lru_cache(maxsize=1)  # 160,000 words, in 0.2 s
def english_words() -> UInt64s:
    """A hash table with open addressing, of the words' XXH64; 0 where a place is empty."""
    from spellchecker import SpellChecker

    words = pa.array([*SpellChecker(language=ENGLISH).word_frequency.words()], pa.string())
    table = np.zeros(1 << len(words).bit_length(), np.uint64)
    _fill(string_hashes(words), table)
    return table


@kernel
def _fill(hashes, table):  # type: ignore[no-untyped-def]
    last = np.uint64(len(table) - 1)
    for row in range(len(hashes)):
        at = hashes[row] & last
        while table[at]:
            at = (at + np.uint64(1)) & last
        table[at] = hashes[row]


JUDGED_CHARACTERS = 240  # at most 960 bytes of UTF-8; eldc reads 1000
LIKELIEST = 3  # a language that is not among as many has no score
# "de", "la", "an" and "me" are in the list of English words too, and in texts of every language.
_MIN_LETTERS = 3
_ENOUGH_WORDS = 3  # fewer say less: "mani unite", "il y a minutes"
_BLANK, _QUOTE, _RIGHT_QUOTE = ord(" "), ord("'"), ord("’")
_NO_SCORE = np.float32(1)  # where eldc's sums begin


@njit(inline="always")
def _fold_head(source, tables, identity):  # type: ignore[no-untyped-def]
    """Writes the first characters of a case-folded text; returns where they end."""
    data, at, stop = source
    flags, foldings, _ = tables
    end, count = 0, 0
    while at < stop and count < JUDGED_CHARACTERS:
        code, width = decode_letter(data, at)
        at += width
        flag = flags[code] if code < END else np.uint8(0)
        for place in range(3 if flag & FOLDS else 1):
            letter = foldings[code, place] if flag & FOLDS else code
            if count == JUDGED_CHARACTERS or (letter == 0 and place):
                break
            if letter == 0:
                letter = np.uint32(_BLANK)  # eldc would end there
            if letter == 0x1E9C:
                letter = np.uint32(0x1E9D)  # the one folded letter that eldc makes another of
            end = encode_letter(letter, identity, end)
            count += 1
    return end


@njit(inline="always")
def _kind(code, kinds):  # type: ignore[no-untyped-def]
    return kinds[code] if code < KINDS_END else np.uint8(0)


@njit(inline="always")
def _word_end(identity, at, end, kinds):  # type: ignore[no-untyped-def]
    """Where the word ends whose first letter is before this place."""
    while at < end:
        code, width = decode_letter(identity, at)
        kind = _kind(code, kinds)
        if kind == JOINS and at + width < end:
            kind = _kind(decode_letter(identity, at + width)[0], kinds)
        if kind != LETTER:
            break
        at += width
    return at


@njit(inline="always")
def _part(identity, at, size):  # type: ignore[no-untyped-def]
    """Up to six bytes, as a little-endian number behind a blank."""
    bytes_ = read8(identity, at) & (~np.uint64(0) >> np.uint64(64 - 8 * size))
    return bytes_ << np.uint64(8) | np.uint64(_BLANK)


@njit(inline="always")
def _add_ngram(ngram, ngrams, count):  # type: ignore[no-untyped-def]
    for place in range(count):
        if ngrams[place] == ngram:
            return count
    ngrams[count] = ngram
    return count + 1


@njit(inline="always")
def _add_word(identity, start, stop, ngrams, count):  # type: ignore[no-untyped-def]
    """Adds a word's n-grams, of six bytes, with a blank where the word begins and ends."""
    size, blank = stop - start, np.uint64(_BLANK)
    if size <= 6:
        whole = _part(identity, start, size) | blank << np.uint64(8 * size + 8)
        return _add_ngram(whole, ngrams, count)
    count = _add_ngram(_part(identity, start, 6), ngrams, count)
    at = start + 6
    while at + 6 < stop:
        count = _add_ngram(_part(identity, at, 6) >> np.uint64(8), ngrams, count)
        at += 6
    last = _part(identity, stop - 6, 6) >> np.uint64(8) | blank << np.uint64(48)
    return _add_ngram(last, ngrams, count)


@njit(inline="always")
def _find_ngrams(identity, end, kinds, ngrams):  # type: ignore[no-untyped-def]
    """Fills `ngrams` with a text's n-grams, each once; returns how many there are."""
    at, count = 0, 0
    while at < end:
        start = at
        code, width = decode_letter(identity, at)
        kind = _kind(code, kinds)
        at += width
        if kind == LETTER:
            at = _word_end(identity, at, end, kinds)
        if kind in (LETTER, ALONE):
            count = _add_word(identity, start, at, ngrams, count)
    return count


@njit(inline="always")
def _add_up(ngrams, count, model, sums):  # type: ignore[no-untyped-def]
    """Fills `sums` with what the n-grams say for each language."""
    _, slots, languages, scores = model
    last_slot = np.uint64(len(slots) - 1)
    sums[:] = _NO_SCORE
    for place in range(count):
        mix = (ngrams[place] ^ ngrams[place] >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        mix ^= mix >> np.uint64(27)
        tag = np.uint32(max(mix >> np.uint64(32), np.uint64(1)))
        at = mix & last_slot
        while slots[at, 0] != 0 and slots[at, 0] != tag:
            at = (at + np.uint64(1)) & last_slot
        if slots[at, 0] == tag:
            first = np.uint64(slots[at, 1] & np.uint32(0xFFFFFF))
            for entry in range(first, first + np.uint64(slots[at, 1] >> np.uint32(24))):
                sums[languages[entry]] += scores[entry]


@njit(inline="always")
def _score(total, count):  # type: ignore[no-untyped-def]
    of_each = np.float32(-0.0001) / np.float32(count)
    return np.float32(1) - np.float32(math.exp(np.float32(of_each * total)))


@njit(inline="always")
def _is_of_word(code):  # type: ignore[no-untyped-def]
    """Letters of every script, with their marks: no punctuation, no signs, no emoji."""
    if code < 0xC0:
        return 97 <= code <= 122  # a to z
    return code <= 0x1FFF or 0x2C00 <= code <= 0xD7FF


@njit(inline="always")
def _is_listed(word, size, word_list):  # type: ignore[no-untyped-def]
    last = np.uint64(len(word_list) - 1)
    value = xxh64(word, 0, size)
    at = value & last
    while word_list[at] != 0 and word_list[at] != value:
        at = (at + np.uint64(1)) & last
    return word_list[at] == value


@njit(inline="always")
def _english_lean(identity, end, word, word_list):  # type: ignore[no-untyped-def]
    """How far a text's words are in the list of English words: from -1, where none is, to 1, where
    all of at least three are; 0 where as many are as are not, and where there are none.

    Words are runs of at least three letters, with apostrophes within: no numbers, no "GT218M".
    """
    at, words, hits = 0, 0, 0
    while at < end:
        size, letters = 0, 0
        while at < end:
            code, width = decode_letter(identity, at)
            if letters and code in (_QUOTE, _RIGHT_QUOTE):
                after = np.uint32(0)
                if at + width < end:
                    after = decode_letter(identity, at + width)[0]
                if not _is_of_word(after):
                    break
                code = np.uint32(_QUOTE)
            elif not _is_of_word(code):
                break
            size = encode_letter(code, word, size)
            letters, at = letters + 1, at + width
        if letters >= _MIN_LETTERS:
            words += 1
            hits += _is_listed(word, size, word_list)
        if letters == 0:
            at += width
    if words == 0:
        return 0.0
    lean = 2 * (hits / words) - 1
    return lean * min(words, _ENOUGH_WORDS) / _ENOUGH_WORDS if lean > 0 else lean


@kernel
def score_languages(column, tables, model, own_language, word_list, room, out):  # type: ignore
    """Fills `out`: for each text the wanted language's score, 0 for all but the three likeliest;
    the strongest other language, and its score, or none and 0; and the lean towards English.

    Args:
      column: the bytes and the row offsets of texts as they are kept.
      tables: `characters()`. model: an `EldcModel`.
      own_language: the language's place in the model, or -1.
      word_list: `english_words()`; empty where they are not asked.
      room: uint8[1024] twice, for an identity and a word; uint64[256] for n-grams; float32[k] for
        the sums of each language.
      out: float32[n], int64[n], float32[n], float64[n].
    """
    data, offsets = column
    identity, word, ngrams, sums = room
    own_scores, rivals, rival_scores, leans = out
    none = len(sums)
    for row in range(len(own_scores)):
        end = _fold_head((data, offsets[row], offsets[row + 1]), tables, identity)
        count = _find_ngrams(identity, end, model[0], ngrams)
        _add_up(ngrams, count, model, sums)
        own = sums[own_language] if own_language >= 0 else _NO_SCORE
        rival, most, ahead = none, _NO_SCORE, 0
        for language in range(len(sums)):
            if language != own_language:
                ahead += sums[language] > own or (sums[language] == own and language < own_language)
                if sums[language] > most:
                    rival, most = language, sums[language]
        rivals[row] = rival
        rival_scores[row] = _score(most, count) if rival != none else 0
        own_scores[row] = _score(own, count) if own > _NO_SCORE and ahead < LIKELIEST else 0
        leans[row] = 0
        if len(word_list) and own_scores[row] > 0:
            leans[row] = _english_lean(identity, end, word, word_list)
