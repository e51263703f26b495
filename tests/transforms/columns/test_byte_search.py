"""What is sought in bytes, against plain Python."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignset.transforms.columns.byte_search import (
    MARGIN,
    after_line,
    find,
    is_name,
    number,
    word,
    words,
)

FEW = st.lists(st.sampled_from(b'ab"\\& \x00\x01\x1f\x7f\x80\xff\r\n'), max_size=40).map(bytes)


def data_of(text: bytes) -> np.ndarray:
    return np.frombuffer(text + bytes(MARGIN), np.uint8)


@given(
    st.lists(st.sampled_from([b"MG@/src", b"Status", b"Base", b"MG@/s", b"y" * 61]), max_size=9),
    st.sampled_from([b"Status", b"Base"]),
)
def test_the_first_of_two_words(parts: list[bytes], other: bytes):
    text, path = b"".join(parts), b"MG@/src"
    places = [place for place in (text.find(path), text.find(other)) if place >= 0]
    place = find(data_of(text), 0, len(text), word(path), word(other))
    assert place == min([*places, len(text)])


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
