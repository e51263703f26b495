"""The images of a `srcset`, ordinary and hostile."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.pages.srcset import srcset_candidates


@pytest.mark.parametrize(
    ("srcset", "candidates"),
    [
        ("", []),
        ("a.png", [(1, "a.png")]),
        ("a.png 2x", [(2, "a.png")]),
        (" a.png 100w,b.png  200w 50h , c.png", [(100, "a.png"), (200, "b.png"), (1, "c.png")]),
        ("a,b.png 1x, c.png", [(1, "a,b.png"), (1, "c.png")]),
        ("a.png, b.png", [(1, "a.png"), (1, "b.png")]),
        ("data:image/png;base64,R0 1x, b.png 2x", [(1, "data:image/png;base64,R0"), (2, "b.png")]),
        ("a.png 1e2w (x, y) , b", [(100, "a.png"), (1, "b")]),
        (",,, a.png 0.5x,,", [(0.5, "a.png")]),
        ("a.png (1x, 2x) 3x, b", [(3, "a.png"), (1, "b")]),
        ("a.png (2x, b", [(1, "a.png")]),  # never closed
        ("a.png 1x 2x, b.png .5x", [(1, "a.png"), (0.5, "b.png")]),
        ("a.png 2.x 3y x, b.png -1x", [(1, "a.png"), (1, "b.png")]),
        ("a.png\t2x,\nb\u00a0c.png", [(2, "a.png"), (1, "b\u00a0c.png")]),
        ("(a) 2x,(b", [(2, "(a)"), (1, "(b")]),
    ],
)
def test_srcset(srcset: str, candidates: list):
    assert srcset_candidates(srcset) == candidates


@given(st.text(" ,ab1wx().", max_size=40))
def test_any_srcset(srcset: str):
    for size, url in srcset_candidates(srcset):
        assert url
        assert not set(url) & set(" \t")
        assert size >= 0


# By one expression, which takes the cube of their length for commas.
CANDIDATE = re.compile(r"[ ,]*([^ ]*[^ ,])(,| +((?:\([^)]*(?:\)|$)|[^,(])*))?")
SIZE = re.compile(r"(?:^| )([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)[wx](?= |$)")


@given(st.lists(st.sampled_from([*" ,ab1wx().", "1x", " 2w,", "e5"]), max_size=30).map("".join))
def test_as_by_one_expression(srcset: str):
    expected = []
    for match in CANDIDATE.finditer(srcset):
        size = SIZE.search(match[3] or "")
        expected.append((float(size[1]) if size else 1.0, match[1]))
    assert srcset_candidates(srcset) == expected
