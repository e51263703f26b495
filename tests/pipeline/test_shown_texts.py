"""Hostile texts on a terminal."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignset.pipeline.shown_texts import as_code, cells, fitted, printable, text_table


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a red dog", "a red dog"),
        ("\x1b[31mred\x1b]0;title\x07", "\\x1b[31mred\\x1b]0;title\\x07"),
        ("a\u202eb\u2066c\u200fd", "a\\u202eb\\u2066c\\u200fd"),
        ("one\ntwo\r\x85\u2028", "one\\ntwo\\r\\x85\\u2028"),
        ("\ud800", "\\ud800"),
        ("été 猫 قطة", "été 猫 قطة"),
        ("z" + "\u0301" * 50, "z" + "\u0301" * 3),
    ],
)
def test_printable(text: str, expected: str):
    assert printable(text) == expected


@given(st.text(max_size=60), st.integers(1, 40))
def test_a_cell_is_as_wide_as_it_should_be_and_gives_no_command(text: str, width: int):
    shown = fitted(text, width)
    assert cells(shown) == width
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_table_keeps_to_the_width(width: int):
    row = ("0123456789abcdef", "640x480", "host.example", "many words " * 40)
    table = text_table(("key", "size", "host", "caption"), [row, row], width).splitlines()
    assert len(table) == 3
    assert [cells(line) for line in table[1:]] == [width, width]
    assert table[1].startswith("0123456789abcdef  640x480  host.example  many words")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a.csv", "`a.csv`"),
        ("a`b", "``a`b``"),
        ("`", "`` ` ``"),
        ("a\n# b", "`a?# b`"),
        ("<script>", "`<script>`"),
    ],
)
def test_code_within_a_line(text: str, code: str):
    assert as_code(text) == code
