"""A WAT by the Internet Archive's code, against the WARC that it was made of."""

import gzip
import io
import json
import random
import re
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings
from alignset.transforms.pages import wat
from alignset.transforms.pages.archive_members import Broken
from alignset.transforms.pages.page_counts import PageTally
from alignset.transforms.pages.page_files import PageFiles
from alignset.transforms.pages.page_images import Found
from alignset.transforms.pages.parse_pages import pairs_of, rows_of
from alignset.transforms.pages.wat import images_of_members
from alignset.transforms.pages.wat_links import ODD, PAGE, WITHOUT_RESPONSE, look
from tests.fuzz import wat as wat_cases
from tests.fuzz.wat import found_in, member, parsed_of
from tests.support.page_archives import packed, record
from tests.support.root import ROOT

PAGES = ROOT / "tests" / "wat_pages"
DIRECTIVES = OptOutSettings().page_directives
PAGE_URL = "http://dogs.example/a/b.html"


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


def told(block: bytearray) -> list[Found | Broken]:
    """What a member tells, which must be the same whether or not all of it is parsed."""
    assert found_in([block]) == parsed_of([block])
    return found_in([block])[0]


def page(links: list[dict], **more: object) -> dict:
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


USUAL = [
    {"path": "IMG@/src", "url": "a.png", "alt": "plain"},
    {"path": "IMG@/src", "url": "b.png", "alt": 'says "path":"IMG@/src" and {"'},
    {"path": "A@/href", "url": 'x{"', "text": '"path":"IMG@/src"}'},
    {"url": "d.png", "alt": "last", "path": "IMG@/src"},
    {"path": "IMG@/src", "url": "}e.png", "alt": "} begins"},
    {"path": "IMG@/src", "url": "f.png", "alt": 'back\\slash \\"', "width": "3"},
    {"path": "IMG@/src", "url": "h.png", "alt": "caf\u00e9 \U0001f436 &eacute;"},
    {"path": "IMG@/src", "url": " \tk.png\n", "alt": "spaced"},
    {"path": "IMG@/src", "url": "data:,x", "alt": "inline"},
    {"path": "IMG@/src", "url": "l.png", "alt": " \u00a0\t"},
    {"path": "IMG@/src", "url": "", "alt": "no URL"},
    {"path": "IMG@/src", "alt": "no URL"},
    {"path": "IMG@/src", "url": "m.png", "alt": ""},
    {"path": "IMG@/srcset", "url": "i.png", "alt": "no"},
    {"path": "IMG@/src", "url": "https://cdn.example/a.png?b=1", "alt": "elsewhere"},
    {"path": "IMG@/src", "url": "../../../up.png", "alt": "far above"},
    {"path": "IMG@/src", "url": "/rooted.png", "alt": "rooted"},
]
ODD_LINKS = [
    {"alt": "x{", "path": "IMG@/src", "url": "c.png"},
    {"path": "IMG@/src", "url": "g.png", "alt": 7},
    {"path": "IMG@/src", "url": "g.png", "alt": "nested", "more": {"a": "b"}},
    {"path": "STYLE/#text", "href": "IMG@/src"},
]


@pytest.mark.parametrize("ascii", [True, False])
def test_links_are_found_as_by_a_parser(ascii: bool):
    for links in [[link] for link in USUAL + ODD_LINKS] + [USUAL, USUAL + ODD_LINKS]:
        whole = page(links)
        images = told(member(compact(whole, ascii)))
        spaced = json.dumps(whole, ensure_ascii=ascii, indent=1).encode()
        assert images == told(member(spaced))
        assert sorted(image.text for image in images) == sorted(
            link["alt"].replace("&eacute;", "\u00e9")
            for link in links
            if link["path"] == "IMG@/src" and isinstance(link["alt"], str) and link["alt"].strip()
            if link.get("url") and link["alt"] != "inline"
        )


def test_what_is_read_by_the_walk_is_what_a_parser_reads():
    """However the JSON is written, and however it is damaged."""
    for seed in range(150):
        wat_cases.check(random.Random(seed))


def test_the_escapes_of_common_crawl_are_not_parsed():
    texts = ["<\\/b>", "\\u0085", "\\u00e9", "\\u2019", '\\"', "\\\\", "\\n"]
    links = "".join(f'{{"path":"A@/href","url":"x","text":"{text}"}},' for text in texts).encode()
    links += b'{"path":"A@/href","url":"/Base","text":"Knowledge Base"},'
    whole = page(USUAL)
    answer = whole["Envelope"]["Payload-Metadata"]["HTTP-Response-Metadata"]
    answer["Response-Message"] |= {"Headers": {"CF-Cache-Status": "HIT"}}
    escaped = member(compact(whole).replace(b'"Links":[', b'"Links":[' + links))
    assert look([escaped], DIRECTIVES).kinds.tolist() == [PAGE]
    assert len(told(escaped)) == 10


@pytest.mark.parametrize(
    "path",
    [rb"IMG@\/src", rb"IMG@\u002fsrc", rb"\u0049MG@/src", rb"IMG@/sr\u0063", rb"IMG@/\u0073rc"],
)
def test_signs_of_ascii_that_are_escaped_are_read(path: bytes):
    block = compact(page(USUAL[:1])).replace(b"IMG@/src", path)
    assert [image.text for image in told(member(block))] == ["plain"]


def test_what_nobody_foresaw_in_a_link_or_record_costs_it_alone(monkeypatch: pytest.MonkeyPatch):
    def fail(html: str) -> None:
        raise ZeroDivisionError("never seen")

    link = {"path": "IMG@/src", "url": "o.png", "alt": "&amp;"}
    whole = page([link, *USUAL[:1]])
    odd = compact(whole).replace(b"/src", b"\\/src")
    monkeypatch.setattr(wat, "LexborHTMLParser", fail)
    items, _ = found_in([member(compact(whole)), member(odd, "y"), member(compact(whole))])
    unreadable = [Broken("unreadable", PAGE_URL)] * 3
    assert [item for item in items if isinstance(item, Broken)] == unreadable
    assert len(items) == 6


def test_the_usual_is_not_parsed():
    usual = member(compact(page(USUAL)))
    request = member(compact({"Envelope": {"WARC-Header-Metadata": {"WARC-Type": "request"}}}))
    for odd in (page(ODD_LINKS[:1]), page(USUAL, Head={"Base": "/"})):
        kinds = look([usual, request, member(compact(odd)), usual], DIRECTIVES).kinds
        assert kinds.tolist() == [PAGE, WITHOUT_RESPONSE, ODD, PAGE]
    with gzip.open(PAGES / "pages.wat.gz") as file:  # as the Internet Archive's code writes it
        members = [b"WARC/1.0\r\n" + raw for raw in file.read().split(b"WARC/1.0\r\n")[1:]]
    assert look(members, DIRECTIVES).kinds.tolist().count(PAGE) == 3


def test_a_header_cannot_name_another_page():
    whole = page(USUAL[:1])
    answer = whole["Envelope"]["Payload-Metadata"]["HTTP-Response-Metadata"]
    headers = {"WARC-Target-URI": "http://bad/", "WARC-Type": "request", "Base": "http://bad/"}
    for more in ({}, {"Status": "2"}, {"HTML-Metadata": "x"}):
        answer = {"Headers": headers | more} | answer
        whole["Envelope"]["Payload-Metadata"]["HTTP-Response-Metadata"] = answer
        assert told(member(compact(whole))) == [
            Found("http://dogs.example/a/a.png", "plain", PAGE_URL)
        ]


def test_a_lone_surrogate_harms_no_other_pair():
    block = compact(page(USUAL)).replace(b"plain", b"\\ud800 x")
    assert "\ufffd x" in [image.text for image in told(member(block))]
    assert len(told(member(block))) == 10


@pytest.mark.parametrize(
    "text", ["", "{", "{}", "[]", "null", "{}}", '{"Envelope": 7}', "{" * 100_000]
)
def test_what_is_no_wat_is_broken(text: str):
    assert told(member(text.encode())) == [Broken("bad_json", "x")]


def in_a_file(blocks: list[bytes], kind: str) -> tuple[list[Found | Broken], Counter[str]]:
    records = [record(f"http://r.example/{n}", b, kind="metadata") for n, b in enumerate(blocks)]
    counts = PageTally()
    return sorted(wat.read_wat(io.BytesIO(packed(records, kind)), counts)), +counts


BETWEEN = b'{"path":"A@/href","url":"x"},'
DAMAGE = {
    "an escape that there is not": BETWEEN.replace(b"x", b"\\x"),
    "a string that does not end": BETWEEN.replace(b'x"', b"x"),
    "a control character": BETWEEN.replace(b"x", b"\x01"),
    "no comma": BETWEEN[:-1],
    "two commas": BETWEEN + b",",
    "no brace": BETWEEN.replace(b"}", b""),
    "two braces": BETWEEN.replace(b"}", b"}}"),
    "no colon": BETWEEN.replace(b":", b""),
    "no number": BETWEEN.replace(b'"x"', b"NaN"),
    "a word": BETWEEN.replace(b'"x"', b"tru"),
    "no UTF-8": BETWEEN.replace(b"x", b"\xff"),
    "a bad escape in a text": b'{"path":"IMG@/src","url":"a","alt":"\\x"},',
    "no object": b"7,",
}


@pytest.mark.parametrize("name", DAMAGE)
def test_the_same_damage_costs_the_same_in_each_container(name: str):
    """A WAT that is not compressed was parsed as a whole, and lost what a WAT of gzip kept."""
    first, last = (compact(page([link])) for link in (USUAL[0], USUAL[1]))
    links = b'"Links":['
    damaged = compact(page(USUAL[:2])).replace(links, links + DAMAGE[name])
    found = in_a_file([first, damaged, last], "gz")
    assert in_a_file([first, damaged, last], "plain") == found
    assert in_a_file([first, damaged, last], "zst") == found
    assert found[1]["records"] == 3


@given(
    st.lists(
        st.tuples(st.integers(0, 600), st.sampled_from(b'{}[]":,\\&\x00\x80 aI/.')), max_size=4
    )
)
def test_any_damage_costs_the_same_in_each_container(flips: list[tuple[int, int]]):
    damaged = bytearray(compact(page(USUAL)))
    for at, byte in flips:
        damaged[at] = byte
    blocks = [compact(page(USUAL[:1])), bytes(damaged)]
    assert in_a_file(blocks, "plain") == in_a_file(blocks, "gz")


def test_members_together_are_as_each_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rng = random.Random(0)
    kinds = [
        compact(page(USUAL)),
        compact(page(ODD_LINKS)),
        compact(page([])),
        compact({"Envelope": {"WARC-Header-Metadata": {"WARC-Type": "request"}}}),
        compact(page(USUAL))[:-9],
    ]
    members = [member(rng.choice(kinds)) for _ in range(200)]
    alone = parsed_of(members)
    assert found_in(members) == alone
    for kind in ("gz", "zst", "plain"):
        for size in (1, 1 << 12, 1 << 20):
            monkeypatch.setattr(wat, "BYTES_AT_ONCE", size)
            (tmp_path / "a.wat").write_bytes(packed([bytes(raw) for raw in members], kind))
            counts = PageTally()
            with (tmp_path / "a.wat").open("rb") as source:
                together = sorted(wat.read_wat(source, counts))
            assert (together, +counts) == alone


def peak_of(members: list[bytearray]) -> int:
    """The bytes that are held at most while their rows are made, one batch at a time."""
    batches = rows_of(images_of_members(members, PageTally()))
    tracemalloc.start()
    try:
        assert sum(batch.num_rows for batch in batches) > 15_000
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("text", ["x", "&amp;", "\\/"])  # by the walk, by a parser of it, or of all
def test_a_member_of_many_short_links_is_read_in_steps(text: str):
    """12 KB of gzip, which are 4 MiB, took 856 MB: each row had the page's long URL, twice."""
    whole = page([])
    whole["Envelope"]["WARC-Header-Metadata"]["WARC-Target-URI"] = f"http://a.example/{'b' * 4000}/"
    link = f'{{"path":"IMG@/src","url":"a","alt":"{text}"}},'.encode()
    block = compact(whole).replace(b'"Links":[', b'"Links":[' + link * 16_000 + link[:-1])
    large = member(block)
    for times in (1, 3):
        assert peak_of([large] * times) < 10 * times * len(large) + (64 << 20)


def test_a_record_too_long_to_parse_and_a_page_of_a_long_url():
    whole = page(USUAL[:1])
    whole["Envelope"]["WARC-Header-Metadata"]["WARC-Target-URI"] = f"http://a.example/{'b' * 9000}"
    assert told(member(compact(whole))) == [Broken("long_url", "x")]
    odd = member(compact(page(USUAL)).replace(b"/", b"\\/") + b" " * (1 << 24))
    assert told(odd) == [Broken("too_large", "x")]


VALUES = ["[" * 500 + "]" * 500, "[" * 5000, "9" * 5000, "-1e999", "NaN", "7"]


@pytest.mark.parametrize("place", ["Envelope", "WARC-Type", "Links", "Head", "alt", "Base"])
def test_any_json_is_pairs_or_a_fault(place: str):
    whole = compact(page(USUAL, Head={"Base": "/"}))
    for value in map(str.encode, VALUES):
        found = rb'"%s":("[^"]*"|(?=[\[{]))' % place.encode()
        other = re.sub(found, b'"%s":%s,"x":"y' % (place.encode(), value), whole, count=1)
        assert told(member(other)) is not None


@pytest.mark.parametrize("bad", ["7", "null", '["path"]', '{"path":"IMG@/src","alt":"\\x"}'])
def test_a_bad_link_costs_its_record_one_row(bad: str):
    block = compact(page(USUAL[:2])).replace(b'"Links":[', f'"Links":[{bad},{bad},'.encode())
    rows, counts = found_in([member(block), member(compact(page(USUAL[:1])))])
    faults = [row for row in rows if isinstance(row, Broken)]
    assert faults in ([], [Broken("bad_json", PAGE_URL)])
    assert (len(rows) - len(faults), counts["pages"]) == (3, 2)
