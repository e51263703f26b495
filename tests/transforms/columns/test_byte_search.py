"""What is sought in bytes, against plain Python."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from alignset.transforms.columns.byte_search import (
    ENTITY,
    ESCAPED,
    MARGIN,
    after_line,
    find,
    has_needless_escapes,
    is_byte,
    is_name,
    lowest_byte,
    number,
    string_end,
    word,
    words,
)
from alignset.transforms.columns.hashing import read8

FEW = st.lists(st.sampled_from(b'ab"\\& \x00\x01\x1f\x7f\x80\xff\r\n'), max_size=40).map(bytes)


def data_of(text: bytes) -> np.ndarray:
    return np.frombuffer(text + bytes(MARGIN), np.uint8)


@njit
def first_of(data, byte):
    marks = is_byte(read8(data, 0), byte)
    return lowest_byte(marks) if marks else -1


@given(FEW, st.sampled_from(b'a"\x00\x01\x80\xff'))
def test_the_first_of_eight_bytes(text: bytes, byte: int):
    eight = (text + b"b" * 8)[:8]
    assert first_of(data_of(eight), byte) == eight.find(byte)


@given(
    st.lists(st.sampled_from([b"MG@/src", b"Status", b"MG@/s", b"Mxxxxr", b"y" * 61]), max_size=9)
)
def test_the_first_of_two_words(parts: list[bytes]):
    text, path, status = b"".join(parts), b"MG@/src", b"Status"
    places = [place for place in (text.find(path), text.find(status)) if place >= 0]
    place = find(data_of(text), 0, len(text), word(path), word(status))
    assert place == min([*places, len(text)])


@given(st.lists(st.sampled_from([b"MG@/src", b"Base", b"Bas", b"e", b"M", b"y" * 61]), max_size=9))
def test_the_first_of_two_words_of_which_one_is_short(parts: list[bytes]):
    text, path, base = b"".join(parts), b"MG@/src", b"Base"
    places = [place for place in (text.find(path), text.find(base)) if place >= 0]
    place = find(data_of(text), 0, len(text), word(path), word(base))
    assert place == min([*places, len(text)])


ESCAPES = [
    b"<",
    b"/",
    b"\\",
    b"\\/",
    b"<\\/",
    b"\\u0041",
    b"\\u00e9",
    b"\\u2041",
    b"\\n",
    b"0" * 61,
]


@given(st.lists(st.sampled_from(ESCAPES), max_size=9), st.integers(0, 9))
def test_escapes_that_need_not_be(parts: list[bytes], behind: int):
    text = b"".join(parts)
    expected = re.search(rb"(?<!<)\\/|\\u00[2-7]", text) is not None
    data = data_of(b" " + text + b"\\/"[:behind])
    assert has_needless_escapes(data, 1, len(text) + 1) in (
        expected,
        expected or text[-1:] == b"\\",
    )


@given(FEW)
def test_where_a_string_ends(text: bytes):
    end, marks = string_end(data_of(text), 0, len(text))
    whole = re.match(rb'(?:[^"\\\x00-\x1f]|\\.)*"', text, re.DOTALL)
    if whole is None:
        assert end == -1
    else:
        inner = whole[0][:-1]
        plain = re.sub(rb"\\.", b"", inner, flags=re.DOTALL)
        assert (end, marks) == (len(inner), ESCAPED * (b"\\" in inner) | ENTITY * (b"&" in plain))


@given(FEW)
def test_where_the_next_line_begins(text: bytes):
    newline = text.find(b"\n")
    right = newline > 0 and text[newline - 1] == ord("\r")
    assert after_line(data_of(text), 0, len(text)) == (newline + 1 if right else -1)


@pytest.mark.parametrize(
    ("text", "value"),
    [(b"0", 0), (b"123456789", 123456789), (b"1234567890", -1), (b"1a", -1), (b"-1", -1)],
)
def test_numbers(text: bytes, value: int):
    assert number(data_of(text), 0, len(text)) == value


@pytest.mark.parametrize(
    ("text", "same"), [(b"Warc-TYPE", True), (b"warc-typ", False), (b"warc-types", False)]
)
def test_names_in_letters_of_any_case(text: bytes, same: bool):
    assert is_name(data_of(text), 0, len(text), word(b"warc-type")) == same


def test_words_of_several_sizes():
    table, sizes = words(("Ab-1", "", "z" * 9, "\xe9"), longest=5)
    assert sizes.tolist() == [4, 0, 5, 2]
    rows = [row[:size] for row, size in zip(table, sizes, strict=True)]
    assert [row.tobytes() for row in rows] == [b"ab-1", b"", b"zzzzz", b"\xe3\xa9"]
    for row, text in zip(rows, (b"AB-1", b"", b"ZzZzZ"), strict=False):
        assert is_name(data_of(text), 0, len(text), row)
    assert words(()).table.shape == (0, 0)
