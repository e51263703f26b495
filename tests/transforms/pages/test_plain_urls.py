"""URLs that are told to need no parser, against one."""

import can_ada
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from alignset.transforms.pages.plain_urls import (
    AS_IT_STANDS,
    BEHIND_FOLDER,
    BEHIND_HOST,
    BY_PARSER,
    end_before,
    url_form,
)

PAGES = [
    *("http://a.example/", "https://a.example/b", "http://a.example/b/c/"),
    *("http://a.example//b//c", "https://a.example/b/c/d?e=/f/../g", "http://a.example/?x"),
    "http://a/b.c;d/e,f@g",
]
PIECES = st.sampled_from(
    [
        *(
            *("http://", "https://", "HTTP://", "ftp:", "//", "/", "/", "/", "?", "#", ":", "."),
            *("..", "-"),
        ),
        *(
            *("../", "../", "./", "%2e", "%", "a", "b.png", "example", "xn--a", "1", "0x1"),
            *("127.1", "@"),
        ),
        *(
            *(" ", "\\", "\t", "&", "'", '"', "<", "|", "^", "`", "{", "~", "*", "\u00e9", "\x00"),
            *("A", "_"),
        ),
        *("a" * 70, "--", "[::1]", "data:"),
    ]
)
URLS = st.lists(PIECES, max_size=8).map("".join)


def form_of(url: str) -> tuple[int, int]:
    data = url.encode()
    return url_form(np.frombuffer(data + bytes(8), np.uint8), 0, len(data))


def joined(page: str, url: str) -> str:
    """By its form, where it has one; else the same as by the parser."""
    form, begin = form_of(url)
    if form == BY_PARSER:
        return (can_ada.parse(page) + url).href
    return put_before(page, form) + url.encode()[begin:].decode()


def put_before(page: str, form: int) -> str:
    data = page.encode()
    return page[: end_before(np.frombuffer(data + bytes(8), np.uint8), 0, len(data), form)]


@given(st.sampled_from(PAGES), URLS)
@example("http://a.example/b", "..a/../b")
@example("http://a.example/b", "a/.%2e/b")
def test_a_form_is_what_the_standard_says(page: str, url: str):
    try:
        expected = (can_ada.parse(page) + url).href
    except ValueError:
        assert form_of(url)[0] == BY_PARSER
        return
    assert joined(page, url) == expected


@given(URLS)
def test_what_stands_as_it_is_can_be_a_page(url: str):
    if form_of(url)[0] == AS_IT_STANDS:
        assert can_ada.parse(url).href == url
        assert put_before(url, BEHIND_HOST) == can_ada.parse(url).origin


@pytest.mark.parametrize(
    ("url", "form"),
    [
        *(("http://a.example/b.png?c=1", 0), ("https://a-b.example/", 0), ("/a/b.png", 1)),
        *(("a.png", 2), ("a/b.png", 2), ("../a.png", 3), ("../../a.png", 4), ("a.b/c.d", 2)),
        *(("", -1), ("//a.example/b", -1), ("http://a.example", -1), ("http://A.example/", -1)),
        *(("http://127.0.0.1/a", -1), ("http://0x7f.0xa/a", -1), ("a/../b", -1), ("/../b", -1)),
        *(("a b", -1), ("data:x", -1), ("?a", -1), ("a#b", -1), ("../", -1), ("http://a..b/c", -1)),
    ],
)
def test_the_usual_has_a_form(url: str, form: int):
    assert form_of(url)[0] == form
    assert BEHIND_FOLDER == 2
