"""The walks over the bytes of alt-texts, without the interpreter's lock, by Python's own Unicode
tables as arrays.

A code point from `END` on is neither letter, digit nor white space, folds to itself and is NFC:
a test asks Python about every one of them.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from alignset.transforms.columns.hashing import pair_begin, pair_end, read8, word_hash, xxh64
from alignset.transforms.columns.kernels import allocating_kernel, kernel

END = 0x32400
ALNUM, SPACE, ODD, FOLDS, COMBINES, MARK, UNSPACED = 1, 2, 4, 8, 16, 32, 64
# Marks from here on are signs of a script, for vowels mostly, but for these, which any letter may
# have. Before are accents of Latin, Greek and Cyrillic.
_SIGNS_FROM = 0x0590
_OF_ANY_LETTER = (
    *((0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF), (0x20D0, 0x20FF)),
    *((0xFE00, 0xFE0F), (0xFE20, 0xFE2F)),
)
# Thai, Lao, Tibetan, Burmese, Khmer, kana and Han, which are written without spaces.
_WITHOUT_SPACES = (
    *((0x0E00, 0x109F), (0x1780, 0x17FF), (0x3005, 0x3007), (0x3040, 0x30FF), (0x31F0, 0x31FF)),
    *((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F), (0xF900, 0xFAFF)),
    *((0xFF66, 0xFF9F), (0x1AFF0, 0x1B16F), (0x20000, 0x323AF)),
)
_JAMO = (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))  # join the Hangul syllable before them


class Characters(NamedTuple):
    """Tables by code point.

    Fields:
      flags: uint8[END], of ALNUM (`str.isalnum`), SPACE (`str.isspace`), FOLDS (has another case
        folding), COMBINES (a combining mark, or decomposes to marks alone: three of class 0 do),
        MARK (a vowel sign or another mark of a script that has such signs), UNSPACED (a letter of
        a script without spaces) and ODD: a text with it might not be NFC (it changes, or joins the
        character before it), or it is the ampersand.
      foldings: uint32[END, 3], the case folding of each that FOLDS, 0 where it is shorter.
      combining: uint8[END], the canonical combining class.
    """

    flags: npt.NDArray[np.uint8]
    foldings: npt.NDArray[np.uint32]
    combining: npt.NDArray[np.uint8]


@lru_cache(maxsize=1)
def characters() -> Characters:
    """The tables, made once; what can be asked for all characters at once is."""
    every = [*map(chr, range(END))]
    wide = np.arange(END, dtype=np.uint32).view("U1")
    combining = np.fromiter(map(unicodedata.combining, every), np.uint8, END)
    flags = np.where(np.strings.isalnum(wide), ALNUM, 0).astype(np.uint8)
    flags[np.strings.isspace(wide)] |= SPACE
    flags[combining > 0] |= COMBINES
    marks = [code for code, one in enumerate(every) if unicodedata.category(one)[0] == "M"]
    flags[[code for code in marks if code >= _SIGNS_FROM]] |= MARK
    for first, last in _OF_ANY_LETTER:
        flags[first : last + 1] &= ~np.uint8(MARK)
    for first, last in _WITHOUT_SPACES:
        of_script = flags[first : last + 1]
        of_script[of_script & ALNUM > 0] |= UNSPACED
    foldings = np.zeros((END, 3), np.uint32)
    has_case = np.strings.islower(wide) | np.strings.isupper(wide) | np.strings.istitle(wide)
    for character in wide[has_case].tolist():
        if (folding := character.casefold()) != character:
            flags[ord(character)] |= FOLDS
            foldings[ord(character), : len(folding)] = [*map(ord, folding)]
    for character, parts in zip(every, map(unicodedata.decomposition, every), strict=True):
        if parts and parts[0] != "<":  # else it is NFC and composed of nothing, or Hangul
            if unicodedata.combining(unicodedata.normalize("NFD", character)[0]):
                flags[ord(character)] |= COMBINES
            if unicodedata.normalize("NFC", character) != character:
                flags[ord(character)] |= ODD
            elif " " in parts:
                flags[int(parts.partition(" ")[2], 16)] |= ODD
    flags[list(_JAMO)] |= ODD
    flags[ord("&")] |= ODD
    return Characters(flags, foldings, combining)


@njit(inline="always")
def decode_letter(data, at):  # type: ignore[no-untyped-def]
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
def encode_letter(code, room, end):  # type: ignore[no-untyped-def]
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


LONGEST_RUN = 255  # marks on one letter; NFC orders them in quadratic time
_BLANK, _AMPERSAND, _SEMICOLON = ord(" "), ord("&"), ord(";")
_ONES, _HIGHEST = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
_BLANKS = np.uint64(_BLANK) * _ONES


@njit(inline="always")
def ngram_count(words):  # type: ignore[no-untyped-def]
    """How many unigrams and bigrams a text of so many words has. For use inside kernels."""
    return 2 * words - 1 if words else 0


@allocating_kernel
def splice(column, rows, others, data, ends):  # type: ignore[no-untyped-def]
    """Fills `data` and `ends` with a column's rows, others in the place of `rows`; both columns are
    (bytes, offsets). Bytes between two replaced rows are copied at once."""
    old, offsets = column
    new, new_offsets = others
    end, row = 0, 0
    ends[0] = 0
    for place in range(len(rows) + 1):
        stop = rows[place] if place < len(rows) else len(offsets) - 1
        first, last = offsets[row], offsets[stop]
        data[end : end + last - first] = old[first:last]
        while row < stop:
            row += 1
            ends[row] = end + offsets[row] - first
        end += last - first
        if place < len(rows):
            first, last = new_offsets[place], new_offsets[place + 1]
            data[end : end + last - first] = new[first:last]
            end += last - first
            row += 1
            ends[row] = end


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


@njit(inline="always")
def next_blank(data, at, stop):  # type: ignore[no-untyped-def]
    """Where the next blank stands, or `stop`; reads 8 bytes, and 7 of them may be behind."""
    while at < stop:
        lane = read8(data, at) ^ _BLANKS
        # A byte less its own ones borrows where it was 0: the lowest mark is right.
        marks = (lane - _ONES) & ~lane & _HIGHEST
        if marks:
            lowest = (marks & (np.uint64(0) - marks)) >> np.uint64(7)
            at += np.int64((lowest * np.uint64(0x0001020304050607)) >> np.uint64(56))
            return at if at < stop else stop
        at += 8
    return stop


ROWS_AT_ONCE = 512  # whose texts stay in the nearest cache from one look to the next


@njit(inline="always")
def _lower_into(lower_text, data, start, stop):  # type: ignore[no-untyped-def]
    """ASCII in lower case."""
    for at in range(np.uint64(stop - start)):
        byte = data[np.uint64(start) + at]
        lower_text[at] = byte + np.uint8(32 if byte >= 65 and byte <= 90 else 0)


@njit(inline="always")
def _add_words(lower_text, at, stop, ngrams, used):  # type: ignore[no-untyped-def]
    """Adds a plain text's n-grams; returns how many there are then, and how many words it has."""
    words, first_half = 0, np.uint64(0)
    while at < stop:
        blank = next_blank(lower_text, at, stop)
        end = blank
        while at < end and not _LETTER[lower_text[at]]:
            at += 1
        while at < end and not _LETTER[lower_text[end - 1]]:
            end -= 1
        if at < end:
            word = word_hash(lower_text, at, end)
            used = _add_word(word, first_half, words, ngrams, used)
            first_half = pair_begin(word)
            words += 1
        at = blank + 1
    return used, words


@kernel
def walk_plain(data, offsets, has_words, trusted, lower_text, out):  # type: ignore[no-untyped-def]
    """Fills `out` for the plain rows; returns how many n-grams there are in all. Where texts are
    trusted, only n-grams are wanted, and nothing of the other rows.

    Args:
      lower_text: room for ROWS_AT_ONCE rows, and 8 bytes more.
      out: as `Texts` has them, and which rows are not plain; `word_count` and `first_ngram` are 0.
    """
    hashes, word_count, ngrams, first_ngram, other = out
    base, used = offsets[0], 0
    for row in range(len(hashes)):
        if row % ROWS_AT_ONCE == 0:
            base = offsets[row]
            _lower_into(lower_text, data, base, offsets[min(row + ROWS_AT_ONCE, len(hashes))])
        other[row] = False
        if trusted and not has_words[row]:
            continue
        other[row] = not _is_plain(data, offsets[row], offsets[row + 1])
        if other[row]:
            continue
        first_ngram[row] = used
        at, stop = offsets[row] - base, offsets[row + 1] - base
        if not trusted:
            hashes[row] = xxh64(lower_text, at, stop)
        if has_words[row]:
            used, word_count[row] = _add_words(lower_text, at, stop, ngrams, used)
    return used


@njit(inline="always")
def bare_ampersand(data, at, stop):  # type: ignore[no-untyped-def]
    """How many bytes the ampersand at this place takes, alone or as "&amp;"; 0: ask Python."""
    after = data[at + 1] if at + 1 < stop else np.uint8(_BLANK)
    if after in (_BLANK, _AMPERSAND, _SEMICOLON):
        return 1
    if at + 5 > stop or after != ord("a") or data[at + 2] != ord("m"):
        return 0
    return 5 if data[at + 3] == ord("p") and data[at + 4] == _SEMICOLON else 0


@njit(inline="always")
def _add_word(word, first_half, words, ngrams, used):  # type: ignore[no-untyped-def]
    """Adds a word's n-grams; returns how many n-grams there are then."""
    ngrams[used] = word
    if words == 0:
        return used + 1
    ngrams[used + 1] = pair_end(first_half, word)
    return used + 2


@njit(inline="always")
def _add_ended_word(word, first_half, words, ngrams, used):  # type: ignore[no-untyped-def]
    """Adds the n-grams of the word that ends here, if one began, as identity, start and end: how
    many n-grams and words there are then, and how the next bigram begins."""
    identity, start, end = word
    if start < 0:
        return used, words, first_half
    value = word_hash(identity, start, end)
    return _add_word(value, first_half, words, ngrams, used), words + 1, pair_begin(value)


@njit(inline="always")
def _add_folded(identity, end, code, flag, tables, word_start, word_end):  # type: ignore
    """Adds a character to the identity; returns where that ends then, and where its last word
    begins (-1: not yet) and ends, without what is neither letter nor digit."""
    flags, foldings, _ = tables
    for place in range(3 if flag & FOLDS else 1):
        letter = foldings[code, place] if flag & FOLDS else code
        if letter == 0 and place:  # a shorter folding
            break
        start, end = end, encode_letter(letter, identity, end)
        if letter < END and flags[letter] & ALNUM:
            word_start = start if word_start < 0 else word_start
            word_end = end
        elif letter < END and flags[letter] & MARK and word_end == start and word_start >= 0:
            word_end = end  # a vowel sign belongs to the letter before it
    return end, word_start, word_end


@njit(inline="always")
def _walk_text(source, tables, odd, room, sizes):  # type: ignore[no-untyped-def]
    """Adds a text and its n-grams, up to where it is odd.

    Args:
      source: the bytes, and where in them the text begins and ends.
      odd: flags of the characters that make a text odd. Without ODD it is trusted: its entities are
        decoded, and it is NFC.
      room: for kept texts, an identity, and n-grams. sizes: of what the first and the last hold.

    Returns:
      `sizes` afterwards, bytes of the identity, words, and whether the text is odd.
    """
    data, at, stop = source
    flags, _, combining = tables
    kept_text, identity, ngrams = room
    kept_end, used = sizes
    end, words, first_half = 0, 0, np.uint64(0)  # the identity's end
    word_start, word_end, blank, is_odd = -1, 0, False, False
    class_before, run = np.uint8(0), 0
    while at < stop and not is_odd:
        code, width = decode_letter(data, at)
        flag = flags[code] if code < END else np.uint8(0)
        if flag & SPACE:
            blank, class_before, run = end > 0, np.uint8(0), 0
            at += width
            continue
        if blank:
            kept_text[kept_end], identity[end] = _BLANK, _BLANK
            kept_end, end, blank = kept_end + 1, end + 1, False
            word = identity, word_start, word_end
            used, words, first_half = _add_ended_word(word, first_half, words, ngrams, used)
            word_start = -1
        step, is_odd = width, bool(flag & odd)
        if odd & ODD:
            class_here = combining[code] if flag & COMBINES else np.uint8(0)
            run = run + 1 if class_here else 0
            is_odd = is_odd or bool(0 < class_here < class_before) or run > LONGEST_RUN
            class_before = class_here
            if code == _AMPERSAND:
                step = bare_ampersand(data, at, stop)
                is_odd = step == 0
        for byte in range(width):
            kept_text[kept_end + byte] = data[at + byte]
        kept_end, at = kept_end + width, at + step
        end, word_start, word_end = _add_folded(
            identity, end, code, flag, tables, word_start, word_end
        )
    word = identity, word_start, word_end
    used, words, first_half = _add_ended_word(word, first_half, words, ngrams, used)
    return kept_end, used, end, words, is_odd


@kernel
def walk(data, offsets, has_words, tables, odd_flags, texts, out):  # type: ignore[no-untyped-def]
    """Fills `out` and the kept texts, but for the odd rows; returns how many n-grams there are.

    Where texts are trusted, those that are not wanted are left out: the room is for the others.
    """
    kept_text, ends, identity = texts
    hashes, word_count, ngrams, first_ngram, odd = out
    kept_end, used = 0, 0
    for row in range(len(hashes)):
        kept_start, first = kept_end, used
        if not has_words[row] and not odd_flags & ODD:
            ends[row + 1], hashes[row], word_count[row] = kept_end, 0, 0
            first_ngram[row], odd[row] = used, False
            continue
        source, sizes = (data, offsets[row], offsets[row + 1]), (kept_end, used)
        kept_end, used, end, words, is_odd = _walk_text(
            source, tables, odd_flags, (kept_text, identity, ngrams), sizes
        )
        if is_odd:
            kept_end, end = kept_start, 0
        if is_odd or not has_words[row]:
            used, words = first, 0
        ends[row + 1] = kept_end
        hashes[row] = xxh64(identity, 0, end)
        word_count[row] = words
        first_ngram[row] = first
        odd[row] = is_odd
    return used
