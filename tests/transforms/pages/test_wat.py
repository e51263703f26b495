"""A WAT by the Internet Archive's code, against the WARC that it was made of; and JSON of all
kinds, as a table of what is found in it."""

import io
import json
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from alignset.transforms.pages.archives import Broken, read_records
from alignset.transforms.pages.http_pages import Page, page_of_wat
from alignset.transforms.pages.page_counts import PageTally
from alignset.transforms.pages.page_files import PageFiles
from alignset.transforms.pages.page_images import Found, PageWords, images_of
from alignset.transforms.pages.parse_pages import pairs_in, pairs_of, rows_of
from tests.fuzz.pages import member
from tests.support.root import ROOT

PAGES = ROOT / "tests" / "wat_pages"
PAGE_URL = "http://dogs.example/a/b.html"
FAULT = Broken("bad_json", "x")


def read(path: Path, kind: str) -> tuple[set, Counter[str]]:
    counts = PageTally()
    return set(pairs_of(PageFiles(kind, ((str(path), ""),)), counts)), counts


def test_the_pairs_of_a_wat_are_those_of_its_warc_but_for_what_it_does_not_tell():
    warc, warc_counts = read(PAGES / "pages.warc.gz", "warc")
    wat, wat_counts = read(PAGES / "pages.wat.gz", "wat")
    assert len(warc & wat) == 9
    untold = "http://dogs.example/untold"
    assert warc - wat == {
        Found("http://dogs.example/lazy.png", "comes late", untold),
        Found("http://dogs.example/l.png", "in a set", untold),
        Found("http://dogs.example/p.webp", "in a picture", untold),
        Found("http://dogs.example/first/b.png", "two bases", "http://dogs.example/bases"),
    }
    bases = Found("http://dogs.example/second/b.png", "two bases", "http://dogs.example/bases")
    assert wat - warc == {bases}
    for name in ("pages", "not_ok", "not_html"):
        assert warc_counts[name] == wat_counts[name] > 0


def found(block: bytes) -> Any:
    """What is in a record: its images, or why there are none."""
    (item,) = read_records(io.BytesIO(member(block)))
    assert not isinstance(item, Broken)
    page = page_of_wat(item)
    return list(images_of(page)) if isinstance(page, Page) else page


def told(block: bytes) -> Any:
    """The same, an image as (URL behind the page's folder, text)."""
    items = found(block)
    if not isinstance(items, list):
        return items
    return [(item.url.removeprefix("http://dogs.example/a/"), item.text) for item in items]


def page(links: Any, **more: object) -> dict:
    """What a WAT says of a page, in Common Crawl's order."""
    head = {"WARC-Target-URI": PAGE_URL, "WARC-Type": "response", "Content-Length": "7"}
    answer = {"Response-Message": {"Status": "200"}, "HTML-Metadata": {**more, "Links": links}}
    return {
        "Container": {"Filename": "a.warc.gz"},
        "Envelope": {
            "Format": "WARC/1.0",
            "WARC-Header-Metadata": head,
            "Payload-Metadata": {"HTTP-Response-Metadata": answer},
        },
    }


def compact(whole: object, ascii: bool = False) -> bytes:
    return json.dumps(whole, separators=(",", ":"), ensure_ascii=ascii).encode()


def image(url: Any, text: Any, **more: Any) -> dict[str, Any]:
    return {"path": "IMG@/src", "url": url, "alt": text, **more}


DOG = image("a.png", "a dog")
LINKS = [
    (image("b.png", 'says "path":"IMG@/src" and {"'), ("b.png", 'says "path":"IMG@/src" and {"')),
    ({"alt": "last", "url": "}e.png", "path": "IMG@/src"}, ("%7De.png", "last")),
    (image("f.png", 'back\\slash \\"', width="3"), ("f.png", 'back\\slash \\"')),
    (image("h.png", "caf\u00e9 \U0001f436 &eacute;&lt"), ("h.png", "caf\u00e9 \U0001f436 \u00e9<")),
    (image("?a=1&amp;b&copy=3", "&notit; &copy;"), ("b.html?a=1&b&copy=3", "&notit; \u00a9")),
    (image('"q".png', "it's <b> \"'"), ("%22q%22.png", "it's <b> \"'")),
    (image(" \tk.png\n", " spaced\n"), ("k.png", " spaced\n")),
    (image("https://cdn.example/a.png?b=1", "far"), ("https://cdn.example/a.png?b=1", "far")),
    (image("../../../up.png", "far above"), ("http://dogs.example/up.png", "far above")),
    (image("g.png", "more", more={"a": ["b"]}), ("g.png", "more")),
    *((image("c.png", text), None) for text in ("", " \u00a0\t", None, 7, 1e999, [], {"a": "b"})),
    *((image(url, "no URL"), None) for url in ("", None, 7, ["a"], "data:,x")),
    ({"path": "IMG@/srcset", "url": "i.png", "alt": "no"}, None),
    ({"path": "A@/href", "url": 'x{"', "text": '"path":"IMG@/src"}'}, None),
    ({"path": "STYLE/#text", "href": "IMG@/src"}, None),
    ({"path": 7}, None),
    ({}, None),
]


@pytest.mark.parametrize("ascii", [True, False])
def test_each_link_is_an_image_or_none_however_it_is_written(ascii: bool):
    images = [row for _, row in LINKS if row]
    whole = compact(page([link for link, _ in LINKS]), ascii).replace(b"Infinity", b"1e999")
    assert told(whole) == images
    assert told(whole.replace(b"/", b"\\/").replace(b"IMG", b"\\u0049MG")) == images
    spaced = json.dumps(page([link for link, _ in LINKS]), ensure_ascii=ascii, indent="\t").encode()
    assert told(spaced.replace(b"Infinity", b"1e999").replace(b"\n", b"\r\n")) == images
    for link, row in LINKS:
        one = compact(page([link, DOG]), ascii).replace(b"Infinity", b"1e999")
        assert told(one) == [*([row] if row else []), ("a.png", "a dog")]


ONE = compact(page([DOG], Head={"Base": "/"}))
HERE = [("http://dogs.example/a.png", "a dog")]
SURROGATE = [("http://dogs.example/a.png", "a \ufffd dog")]
RECORDS = [
    ("as it should be", b"", b"", HERE),
    ("a base with a reference", b'"/"', b'"&#47;c/"', [("http://dogs.example/c/a.png", "a dog")]),
    *(("no base", b'"/"', value, [("a.png", "a dog")]) for value in (b"null", b"7", b"[]", b'"["')),
    ("a lone surrogate", b"a dog", b"a \\ud800 dog", SURROGATE),
    ("no UTF-8", b"a dog", b"a \xff dog", SURROGATE),
    ("a surrogate elsewhere", b"a.warc.gz", b"\\udfff", HERE),
    ("a control character", b"a.warc.gz", b"\n\x00\x01", HERE),
    ("a NUL", b"a dog", b"a \\u0000 dog", SURROGATE),
    ("the last of two keys counts", b'"alt":', b'"alt":"a cat","alt":', HERE),
    ("a number of many digits", b'"a.warc.gz"', b"9" * 1_000_000, HERE),
    ("a text of many digits", b'"a dog"', b"9" * 1_000_000, FAULT),
    ("a deep value", b'"a dog"', b"[" * 500 + b"]" * 500, []),
    ("a value that is too deep", b'"a dog"', b"[" * 100_000 + b"]" * 100_000, FAULT),
    ("too deep elsewhere", b'"a.warc.gz"', b'{"a":' * 100_000 + b"7" + b"}" * 100_000, FAULT),
    ("a link that is none", b'"Links":[', b'"Links":[7,', FAULT),
    ("links that are none", b'"Links":[', b'"Links":7,"x":[', FAULT),
    ("no links", b'"Links":[', b'"Links":null,"x":[', []),
    ("no head", b'{"Base":"/"}', b"null", [("a.png", "a dog")]),
    ("a status that is a number", b'"200"', b"206", HERE),
    ("another status", b'"200"', b'"404"', "not_ok"),
    ("no status", b"Response-Message", b"x", "not_ok"),
    ("no HTML", b"HTML-Metadata", b"x", "not_html"),
    ("a request", b'"response"', b'"request"', "no_response"),
    ("nothing of its kind", b"WARC-Type", b"x", "no_response"),
    ("no header", b"WARC-Header-Metadata", b"x", "no_response"),
    ("too large", b"{", b" " * (1 << 24) + b"{", Broken("too_large", "x")),
    *(
        ("no JSON", b'"Links":[', b'"Links":[' + bad, FAULT)
        for bad in (b'"\\x",', b'"a,', b",", b"tru,", b"NaN,", b"{", b"}", b'{"a" "b"},')
    ),
    *(
        ("no WAT", ONE, bad, FAULT)
        for bad in (b"", b"{", b"{}", b"[]", b"null", b'{"Envelope":7}', ONE[:-9], ONE + b"}")
    ),
]


@pytest.mark.parametrize(("name", "old", "new", "expected"), RECORDS, ids=lambda value: "")
def test_what_is_found_in_a_record(name: str, old: bytes, new: bytes, expected: Any):
    assert told(ONE.replace(old, new, 1) if old else ONE) == expected, name


def test_a_header_cannot_name_another_page():
    whole = page([DOG])
    answer = whole["Envelope"]["Payload-Metadata"]["HTTP-Response-Metadata"]
    headers = {"WARC-Target-URI": "http://bad/", "WARC-Type": "request", "Base": "http://bad/"}
    answer["Headers"] = {**headers, "Status": "2", "HTML-Metadata": "x", "X-\ud800": ["\ud800", 7]}
    assert found(compact(whole, ascii=True)) == [
        Found("http://dogs.example/a/a.png", "a dog", PAGE_URL)
    ]


META = {"name": "ROBOTS", "content": "no&#97;i"}
BY = {"rel": "nofollow License", "url": "by"}
SAID = [
    ({"x-robots-tag": ["none", "NOAI"]}, {}, [], ("x_robots_tag",), None),
    ({"TDM-Reservation": 1}, {}, [], ("tdm_reservation",), None),
    ({"X-Robots-Tag": ["otherbot: noai", None, {}]}, {}, [], (), None),
    ({}, {"Metas": [{"name": 7}, META, {"content": []}]}, [], ("meta_robots",), None),
    ({}, {"Metas": [{"name": "description", "content": "noai"}]}, [], (), None),
    ({}, {"Link": [{"path": "LINK@/href", **BY}]}, [], (), "http://dogs.example/a/by"),
    ({}, {}, [{"path": "A@/href", **BY}], (), "http://dogs.example/a/by"),
    ({}, {"Link": [BY | {"rel": 7}, BY | {"url": None}]}, [{"rel": "x"}], (), None),
]


@pytest.mark.parametrize(("headers", "head", "links", "opt_outs", "license"), SAID)
@pytest.mark.parametrize("links_first", [False, True])
def test_what_a_page_says_of_its_use(
    headers: dict, head: dict, links: list, opt_outs: tuple, license: str | None, links_first: bool
):
    whole = page([DOG, *links], Head=head)
    answer = whole["Envelope"]["Payload-Metadata"]["HTTP-Response-Metadata"]
    answer["Headers"] = headers
    if links_first:
        answer["HTML-Metadata"] = dict(reversed(answer["HTML-Metadata"].items()))
    (item,) = found(compact(whole))
    assert item.words == PageWords(opt_outs, license)


@pytest.mark.parametrize("head", [{"Metas": 7}, {"Metas": [7]}, {"Link": {}}, [], "x"])
def test_a_page_whose_opt_outs_cannot_be_read_is_broken(head: Any):
    assert told(compact(page([DOG], Head=head))) == FAULT


@pytest.mark.slow
def test_a_page_of_many_short_links_is_read_in_steps():
    """12 KB of gzip, which are 4 MiB, took 856 MB: each row had the page's long URL, twice."""
    whole = page([image("a", "x")] * 50_000, Head={"Base": f"/{'b' * 4000}/"})
    (item,) = read_records(io.BytesIO(member(compact(whole))))
    tracemalloc.start()
    try:
        batches = rows_of(pairs_in([page_of_wat(item)], PageTally()))
        assert sum(batch.num_rows for batch in batches) == 50_000
        assert tracemalloc.get_traced_memory()[1] < 150 << 20
    finally:
        tracemalloc.stop()
