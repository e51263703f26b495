"""A WAT by the Internet Archive's code, against the WARC that it was made of."""

import gzip
import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.page_archives import packed, record
from transforms import wat
from transforms.archive_members import Broken
from transforms.archives import records_of
from transforms.page_images import Found
from transforms.pages import PageFiles, pairs_of
from transforms.wat import Told, images_of_members, images_of_wat
from transforms.wat_links import ODD, PAGE, WITHOUT_RESPONSE, look

PAGES = Path(__file__).parent / "wat_pages"
PAGE_URL = "http://dogs.example/a/b.html"


def read(path: Path, kind: str) -> tuple[set, Counter[str]]:
    counts: Counter[str] = Counter()
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


def member(block: bytes, target: str = "x") -> bytearray:
    return bytearray(record(target, block, kind="metadata", content="application/json"))


def told(one: bytearray) -> Told:
    """What a member tells, which must be the same whether or not all of it is parsed."""
    (found,) = images_of_members([one])
    (parsed,) = map(images_of_wat, records_of(one))
    assert found == parsed
    return found


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
    for links in [[one] for one in USUAL + ODD_LINKS] + [USUAL, USUAL + ODD_LINKS]:
        whole = page(links)
        found = told(member(compact(whole, ascii)))
        spaced = json.dumps(whole, ensure_ascii=ascii, indent=1).encode()
        assert found == told(member(spaced))
        assert [one.text for one in found] == [
            link["alt"].replace("&eacute;", "\u00e9")
            for link in links
            if link["path"] == "IMG@/src" and isinstance(link["alt"], str) and link["alt"].strip()
            if link.get("url") and link["alt"] != "inline"
        ]


def test_the_usual_is_not_parsed():
    usual = member(compact(page(USUAL)))
    request = member(compact({"Envelope": {"WARC-Header-Metadata": {"WARC-Type": "request"}}}))
    for odd in (page(ODD_LINKS[:1]), page(USUAL, Head={"Base": "/"})):
        kinds = [kind for kind, *_ in look([usual, request, member(compact(odd)), usual])[1]]
        assert kinds == [PAGE, WITHOUT_RESPONSE, ODD, PAGE]
    with gzip.open(PAGES / "pages.wat.gz") as file:  # as the Internet Archive's code writes it
        members = [b"WARC/1.0\r\n" + one for one in file.read().split(b"WARC/1.0\r\n")[1:]]
    kinds = [kind for kind, *_ in look(members)[1]]
    assert kinds.count(PAGE) == 3


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
    assert told(member(block))[0].text == "\ufffd x"
    assert len(told(member(block))) == 10


@pytest.mark.parametrize(
    "text", ["", "{", "{}", "[]", "null", "{}}", '{"Envelope": 7}', "{" * 100_000]
)
def test_what_is_no_wat_is_broken(text: str):
    assert told(member(text.encode())) == Broken("bad_json", "x")


DAMAGED = member(compact(page(USUAL)))
# All but the names of the objects around, whose damage would only be seen by a parser of all.
PLACES = [
    *range(DAMAGED.index(b'{"Container')),
    *range(DAMAGED.index(b'{"WARC-Target'), DAMAGED.index(b',"Payload')),
    *range(DAMAGED.index(b'[{"path'), len(DAMAGED)),
]


@given(
    st.lists(
        st.tuples(st.sampled_from(PLACES), st.sampled_from(b'{}[]":,\\&\x00\x80 aI/.')), max_size=3
    )
)
def test_damage_is_found_as_by_a_parser(flips: list[tuple[int, int]]):
    one = bytearray(DAMAGED)
    for at, byte in flips:
        one[at] = byte
    found, parsed = list(images_of_members([one])), list(map(images_of_wat, records_of(one)))
    # Damage between the images, which only a parser of all of it sees, costs no pair.
    broken = [told for told in parsed if isinstance(told, Broken)]
    assert found == parsed or [told.detail for told in broken] == ["bad_json"]


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
    alone = [told for one in members for told in images_of_members([one])]
    assert list(images_of_members(members)) == alone
    for kind in ("gz", "zst", "plain"):
        for size in (1, 1 << 12, 1 << 20):
            monkeypatch.setattr(wat, "_AT_ONCE", size)
            (tmp_path / "a.wat").write_bytes(packed([bytes(one) for one in members], kind))
            with (tmp_path / "a.wat").open("rb") as source:
                assert list(wat.read_wat(source)) == alone


def test_a_broken_record_costs_itself_alone(tmp_path: Path):
    good = compact(page(USUAL[:1]))
    some = [record("x", block, kind="metadata") for block in (good, good[:-9], good)]
    (tmp_path / "a.wat.gz").write_bytes(packed(some, "gz"))
    counts: Counter[str] = Counter()
    found = list(pairs_of(PageFiles("wat", ((str(tmp_path / "a.wat.gz"), ""),)), counts))
    assert [type(one) for one in found] == [Found, Broken, Found]
    assert (counts["pages"], counts["records"]) == (2, 3)


def test_the_fixture_is_a_wat():
    with gzip.open(PAGES / "pages.wat.gz") as file:
        assert b"ia-web-commons" in file.read(600)
