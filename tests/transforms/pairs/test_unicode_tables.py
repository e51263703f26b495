"""The tables against Python's own answers, for every code point."""

import sys
import unicodedata

import numpy as np
import pytest

from alignset.demo import text_rules
from alignset.transforms.pairs.unicode_tables import (
    ALNUM,
    COMBINES,
    END,
    FOLDS,
    MARK,
    ODD,
    SPACE,
    UNSPACED,
    characters,
    decode_letter,
    encode_letter,
)

CODES = range(END)


def marked(flag: int) -> list[int]:
    return np.flatnonzero(characters().flags & flag).tolist()


def test_the_tables_have_their_shapes() -> None:
    assert [table.shape for table in characters()] == [(END,), (END, 3), (END,)]
    assert [table.dtype for table in characters()] == [np.uint8, np.uint32, np.uint8]


@pytest.mark.parametrize("flag", [ALNUM, SPACE, FOLDS, COMBINES, MARK, UNSPACED])
def test_each_flag_is_what_python_says(flag: int) -> None:
    says = {
        ALNUM: str.isalnum,
        SPACE: str.isspace,
        FOLDS: lambda c: c.casefold() != c,
        COMBINES: lambda c: unicodedata.combining(unicodedata.normalize("NFD", c)[0]) > 0,
        MARK: text_rules.is_sign,
        UNSPACED: text_rules.is_without_spaces,
    }[flag]
    assert marked(flag) == [code for code in CODES if says(chr(code))]


def test_foldings_are_those_of_python() -> None:
    tables = characters()
    assert not tables.foldings[(tables.flags & FOLDS) == 0].any()
    for code in marked(FOLDS):
        folding = [ord(c) for c in chr(code).casefold()]
        assert tables.foldings[code].tolist() == [*folding, 0, 0][:3]
        assert 0 not in folding
        assert max(folding) < 0x110000
        # So much room the kernel has.
        assert len(chr(code).casefold().encode()) <= 3 * len(chr(code).encode())


def test_combining_classes_are_those_of_python() -> None:
    assert characters().combining.tolist() == [unicodedata.combining(chr(code)) for code in CODES]


def test_what_begins_with_a_mark_is_marks_alone() -> None:
    """A run of marks goes on with each of them, whole; three have class 0."""
    apart = {code: unicodedata.normalize("NFD", chr(code)) for code in marked(COMBINES)}
    assert all(map(unicodedata.combining, "".join(apart.values())))
    assert max(map(len, apart.values())) == 2
    of_class_0 = [code for code in apart if not unicodedata.combining(chr(code))]
    assert of_class_0 == [0xF73, 0xF75, 0xF81]
    assert set(of_class_0) <= set(marked(ODD))  # the kernel leaves them to Python


def test_what_is_not_odd_is_nfc_and_ends_no_composition() -> None:
    odd = set(marked(ODD))
    changed = {code for code in CODES if unicodedata.normalize("NFC", chr(code)) != chr(code)}
    behind = {
        ord(apart[-1])
        for code in CODES
        if len(apart := unicodedata.normalize("NFD", chr(code))) > 1
        and unicodedata.normalize("NFC", apart) == chr(code)
    }
    assert odd == changed | behind | {ord("&")}
    assert len(behind) > 100


def test_from_the_end_on_there_is_nothing_to_know() -> None:
    beyond = [chr(code) for code in range(END, sys.maxunicode + 1)]
    assert not [c for c in beyond if c.isalnum() or c.isspace() or unicodedata.combining(c)]
    whole = "".join(beyond)
    assert whole.casefold() == whole
    assert unicodedata.normalize("NFC", whole) == whole
    assert unicodedata.normalize("NFD", whole) == whole  # so that none is within another


def test_the_tables_are_made_once() -> None:
    assert characters() is characters()


def test_every_character_is_read_and_written_as_utf8() -> None:
    edges = [0, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x3FFFF, 0x10FFFF]
    for code in [*edges, *range(1, 0x110000, 997)]:
        if 0xD800 <= code < 0xE000:
            continue
        written = chr(code).encode()
        data = np.frombuffer(b"x" + written + b" " * 8, np.uint8)
        assert decode_letter(data, 1) == (code, len(written))
        room = np.full(8, 0xEE, np.uint8)
        end = encode_letter(np.uint32(code), room, 1)
        assert room.tobytes()[:end] == b"\xee" + written
        assert set(room.tobytes()[end:]) == {0xEE}
