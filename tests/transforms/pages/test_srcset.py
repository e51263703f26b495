"""The images of a `srcset`, ordinary and hostile."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignset.transforms.pages.srcset import srcset_candidates


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
        (",,, a.png 0.5x,,", [(0.5, "a.png")]),
        ("a.png\t2x,\nb\u00a0c.png", [(2, "a.png"), (1, "b\u00a0c.png")]),
        ("(a) 2x,(b", [(2, "(a)"), (1, "(b")]),
        ("a.png 50h 100w,b.png 0x,c.png .5e1x", [(100, "a.png"), (0, "b.png"), (5, "c.png")]),
    ],
)
def test_srcset(srcset: str, candidates: list):
    assert srcset_candidates(srcset) == candidates


@pytest.mark.parametrize(
    "descriptors",
    [
        *("foo", "1", "x", "w", "1y", "1X", "1W", "x1", "1x2", "1xx", "-1w", "+1w", "1.5w", "1e2w"),
        *("0w", "00w", "\u0661w", "-1x", "+1x", "1.x", "1e999x", "1e+x", "0x1x", "infx", "nanx"),
        *("\u0661x", "100h", "0h 1w", "1.5h 1w", "1w 0h", "1h 1x", "100h 100h 1w", "1x 1w"),
        *("1w 1x", "1x 2x", "1w 2w", "1w 2h 1x", "1x foo", "foo 1x", "(1x)", "(x, y) 1x"),
        *("1x (x, y)", "1(x)x", "1e2w (x, y)", "1\u00a0x"),
    ],
)
def test_a_candidate_of_invalid_descriptors_is_dropped(descriptors: str):
    assert srcset_candidates(f"a.png {descriptors}") == []
    assert srcset_candidates(f"a.png {descriptors}, b.png 3x") == [(3, "b.png")]
    assert srcset_candidates(f"b.png 3w, a.png {descriptors}") == [(3, "b.png")]


def test_what_is_not_closed_is_dropped():
    assert srcset_candidates("a.png (2x, b") == []
    assert srcset_candidates("c.png 2x, a.png 1x(2x, b") == [(2, "c.png")]


@given(st.text(" ,ab1wx().", max_size=40))
def test_any_srcset(srcset: str):
    for size, url in srcset_candidates(srcset):
        assert url
        assert not set(url) & set(" \t")
        assert size >= 0


def by_states(srcset: str) -> list[tuple[float, str]]:
    """The same, character by character."""
    candidates, letters = [], iter([*srcset, ""])  # at the end is nothing
    letter = next(letters)
    while letter:
        if letter in " ,":
            letter = next(letters)
            continue
        url, words, inside = "", [""], False
        while letter and letter != " ":
            url, letter = url + letter, next(letters)
        while url[-1] != "," and letter and (letter != "," or inside):
            inside = letter != ")" if inside else letter == "("
            if letter == " " and not inside:
                words.append("")
            else:
                words[-1] += letter
            letter = next(letters)
        size = size_of([word for word in words if word])
        if size is not None:
            candidates.append((size, url.rstrip(",")))
    return candidates


def size_of(words: list[str]) -> float | None:
    width = density = height = None
    for word in words:
        number, kind = word[:-1], word[-1]
        if kind in "wh" and re.fullmatch("[0-9]*[1-9][0-9]*", number):
            if (width if kind == "w" else height) is not None or density is not None:
                return None
            width, height = (number, height) if kind == "w" else (width, number)
        elif kind == "x" and re.fullmatch(r"([0-9]+|[0-9]*\.[0-9]+)(e[0-9]+)?", number):
            if not width == density == height is None:
                return None
            density = number
        else:
            return None
    return None if height and not width else float(width or density or 1)


WORDS = [*" ,ab1whx().-", "1x", " 2w,", " 3h", "e5", " a 4x"]


@given(st.lists(st.sampled_from(WORDS), max_size=30).map("".join))
def test_as_character_by_character(srcset: str):
    assert srcset_candidates(srcset) == by_states(srcset)
