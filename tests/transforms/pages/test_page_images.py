"""Which image and which text: docs/pages.md, row by row."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from alignset.transforms.pages import page_images
from alignset.transforms.pages.archive_members import Broken
from alignset.transforms.pages.http_pages import Page
from alignset.transforms.pages.page_images import Base, Found, images_of, srcset_candidates, tags_of

PAGE = "http://p.example/dir/page.html"
HERE = "http://p.example/dir/"


def images(html: str | bytes, url: str = PAGE, charset: str = "") -> list[tuple[str, str]]:
    body = html.encode() if isinstance(html, str) else html
    return [(image.url, image.text) for image in images_of([*tags_of(Page(url, body, charset))])]


@pytest.mark.parametrize(
    ("html", "url"),
    [
        ("<img alt=t src=a.png>", f"{HERE}a.png"),
        ("<img alt=t src=' a.png\n'>", f"{HERE}a.png"),
        ("<img alt=t src=a.png data-src=b.png srcset=c.png>", f"{HERE}a.png"),
        ("<img alt=t src='' data-src=b.png>", f"{HERE}b.png"),
        ("<img alt=t src=data:image/gif;base64,R0 data-lazy-src=b.png>", f"{HERE}b.png"),
        ("<img alt=t src=DATA:x data-original=b.png data-src=c.png>", f"{HERE}c.png"),
        ("<img alt=t src=about:blank srcset=c.png>", f"{HERE}c.png"),
        ("<img alt=t srcset='a.png 1x, b.png 2x, c.png 1.5x'>", f"{HERE}b.png"),
        ("<img alt=t srcset='a.png 1x, b.png 2x 3x, c.png 1.5x'>", f"{HERE}c.png"),
        ("<img alt=t srcset='a.png foo' data-srcset='b.png'>", f"{HERE}b.png"),
        ("<image alt=t src=a.png>", f"{HERE}a.png"),
        ("<svg><image alt=t src=a.png></svg>", None),
        ("<img alt=t data-srcset='a.png 320w, b.png 640w'>", f"{HERE}b.png"),
        ("<picture><source srcset='b.webp 2x, a.webp'><img alt=t></picture>", f"{HERE}b.webp"),
        (
            "<picture><source srcset=a><source srcset=b><img alt=t></picture>",
            f"{HERE}a",
        ),
        ("<picture><source srcset=a><img alt=t src=c></picture>", f"{HERE}c"),
        ("<picture><source srcset=a></picture><img alt=t>", None),
        ("<source srcset=a><img alt=t>", None),
        ("<img alt=t>", None),
        ("<img alt=t src>", None),
        ("<img alt=t src=data:image/png;base64,R0>", None),
        ("<img src=a.png>", None),
        ("<img src=a.png alt>", None),
        ("<img src=a.png alt='  '>", None),
        ("<img alt=t src='a?b=1&amp;c=2&copy=3&lt'>", f"{HERE}a?b=1&c=2&copy=3%3C"),
        ("<img alt=t src=//c.example/a>", "http://c.example/a"),
        ("<base href=/b/><img alt=t src=a>", "http://p.example/b/a"),
        ("<img alt=t src=a><base href=/b/>", f"{HERE}a"),
        ("<base><base href=/b/><base href=/c/><img alt=t src=a>", "http://p.example/b/a"),
        ("<base href=//b.example><img alt=t src=a>", "http://b.example/a"),
        ("<base href=data:x><img alt=t src=a>", f"{HERE}a"),
        ("<base href='http://['><img alt=t src=a>", f"{HERE}a"),
        ("<img alt=t src='http://['>", "http://["),
    ],
)
def test_which_image(html: str, url: str | None):
    assert images(html) == ([(url, "t")] if url else [])


def test_pages_parsed_together_stay_apart():
    pages = [
        Page(
            "http://a.example/", b"<base href=/x/><picture><source srcset=no><img alt=1 src=1>", ""
        ),
        Page("http://b.example/", b"<img alt=2><img alt=3 src=3>", ""),
        Page("http://c.example/", b"", ""),
        Page("", b"<img alt=4 src=http://d.example/><hr><img alt=5 src=5>", ""),
    ]
    rows = [tuple(image) for image in images_of([tags for page in pages for tags in tags_of(page)])]
    assert rows == [
        ("http://a.example/x/1", "1", "http://a.example/"),
        ("http://b.example/3", "3", "http://b.example/"),
        ("http://d.example/", "4", ""),
        ("5", "5", ""),
    ]


def test_a_page_that_leaves_a_picture_open_harms_no_other():
    bodies = (b"<picture><source srcset=a>", b"<source srcset=b><img alt=1>", b"<img alt=2 src=c>")
    pages = [Page(PAGE, body, "") for body in bodies]
    together = images_of([tags for page in pages for tags in tags_of(page)])
    assert [image.text for image in together] == ["2"]


def test_a_page_of_many_tags_is_as_one_of_few():
    """Its tags are parsed in pieces, whose base and canonical link are the same."""
    head = "<link rel=canonical href=http://p.example/a/><base href=b/>"
    tags = "".join(f"<picture><source srcset={n}><img alt={n}></picture>" for n in range(20_000))
    pieces = list(tags_of(Page("", (head + tags).encode(), "")))
    assert len(pieces) > 3
    alone = [image for piece in pieces for image in images_of([piece])]
    assert [tuple(image) for image in alone] == [
        (f"http://p.example/a/b/{n}", f"{n}", "http://p.example/a/") for n in range(20_000)
    ]
    assert alone == list(images_of(pieces))


def test_a_long_base_changes_nothing():
    """Else each of a million images would be as long."""
    assert images(f"<base href=/{'b' * 8000}/><img alt=t src=a>")[0][0].endswith("bbb/a")
    assert images(f"<base href=/{'b' * 8200}/><img alt=t src=a>") == [(f"{HERE}a", "t")]
    long = f"<link rel=canonical href=http://c.example/{'c' * 8200}><img alt=t src=a>"
    assert images(long, "") == [("a", "t")]


def test_what_nobody_foresaw_in_a_page_costs_it_alone(monkeypatch: pytest.MonkeyPatch):
    def fail(html: str) -> LexborHTMLParser:
        if "bad" in html:
            raise RuntimeError("never seen")
        return LexborHTMLParser(html)

    monkeypatch.setattr(page_images, "LexborHTMLParser", fail)
    pages = [
        Page(f"http://{n}.example/", b"<img src=a alt=%s>" % n.encode(), "")
        for n in ("a", "bad", "c")
    ]
    items = list(images_of([tags for page in pages for tags in tags_of(page)]))
    assert items == [
        Found("http://a.example/a", "a", "http://a.example/"),
        Broken("unreadable", "http://bad.example/"),
        Found("http://c.example/a", "c", "http://c.example/"),
    ]


def test_a_host_longer_than_any_name_is_none():
    """To write one in ASCII takes the square of its length."""
    long = "\u732b" * 1100
    for url in (
        f"http://{long}/",
        f"//{long}",
        f"\\/{long}",
        f"ht\ttps:{long}?",
        f" http:/@{long}",
    ):
        assert images(f"<img alt=t src='{url}'>") == [(url.strip(), "t")]
    for url in ("http://a.example/", "a/", "a?", "/", "http:/b.example//"):
        rows = images(f"<img alt=t src='{url}{'b' * 1100}'>")
        assert rows[0][0].startswith("http://")
    assert Base(f"http://{long}/").join("a") == "a"


def test_a_page_without_a_url_is_known_by_its_canonical_link():
    html = "<link rel='x canonical' href=https://p.example/a/b><img alt=t src=c>"
    (image,) = images_of([*tags_of(Page("", html.encode(), ""))])
    assert tuple(image) == ("https://p.example/a/c", "t", "https://p.example/a/b")
    assert images(html) == [(f"{HERE}c", "t")]
    assert images("<link rel=canonical href=/b><img alt=t src=c>", "") == [("c", "t")]


# Of the URL standard's own rules: https://url.spec.whatwg.org/
@pytest.mark.parametrize(
    ("url", "base", "absolute"),
    [
        ("a", "http://h/b/c?d#e", "http://h/b/a"),
        ("?q", "http://h/b/c?d#e", "http://h/b/c?q"),
        ("#f", "http://h/b/c?d", "http://h/b/c?d#f"),
        ("", "http://h/b?c#d", "http://h/b?c"),
        ("../../../a", "http://h/b/c/d", "http://h/a"),
        ("./a/./b/../c", "http://h/", "http://h/a/c"),
        ("%2e%2E/a", "http://h/b/c/", "http://h/b/a"),
        ("//i/a", "https://h/", "https://i/a"),
        ("\\\\i\\a\\b", "http://h/", "http://i/a/b"),
        ("/\\i/a", "http://h/", "http://i/a"),
        ("http:a", "http://h/b/", "http://h/b/a"),
        ("http:a", "https://h/b/", "http://a/"),
        ("http:/a", "https://h/", "http://a/"),
        ("http:///a", "http://h/", "http://a/"),
        ("HTTP://EX%41MPLE.org:80/", "http://h/", "http://example.org/"),
        ("https://h:443/a", "http://h/", "https://h/a"),
        ("https://h:0443/a", "http://h/", "https://h/a"),
        ("http://u:p@h/a", "http://h/", "http://u:p@h/a"),
        ("a b\u00e9?c d\u00e9", "http://h/", "http://h/a%20b%C3%A9?c%20d%C3%A9"),
        ("a\tb\nc", "http://h/", "http://h/abc"),
        (" a ", "http://h/", "http://h/a"),
        ("a|b{c}`'\"<>", "http://h/", "http://h/a|b%7Bc%7D%60'%22%3C%3E"),
        ("a?b'\"<>`{}", "http://h/", "http://h/a?b%27%22%3C%3E`{}"),
        ("http://b\u00fccher.example/", "http://h/", "http://xn--bcher-kva.example/"),
        ("http://FA\u00df.example/", "http://h/", "http://xn--fa-hia.example/"),
        ("http://\uff45xample\u3002org/", "http://h/", "http://example.org/"),
        ("http://0x7f.1/", "http://h/", "http://127.0.0.1/"),
        ("http://2130706433/", "http://h/", "http://127.0.0.1/"),
        ("http://[::1]:8080/", "http://h/", "http://[::1]:8080/"),
        ("http://[0:0::1]/", "http://h/", "http://[::1]/"),
        ("http://h./a", "http://h/", "http://h./a"),
        ("data:x", "http://h/", "data:x"),
        ("mailto:a@b", "http://h/", "mailto:a@b"),
        ("http://a b/", "http://h/", "http://a b/"),  # none of these is a URL: as it stands
        ("http://h:99999/", "http://h/", "http://h:99999/"),
        ("http://h:a/", "http://h/", "http://h:a/"),
        ("http://256.0.0.1/", "http://h/", "http://256.0.0.1/"),
        ("http://[::1", "http://h/", "http://[::1"),
        ("http://a%00b/", "http://h/", "http://a%00b/"),
        ("//", "http://h/", "//"),
        ("a", "", "a"),
        ("http://h/../a", "", "http://h/a"),
    ],
)
def test_urls(url: str, base: str, absolute: str):
    assert Base(base).join(url) == absolute


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
