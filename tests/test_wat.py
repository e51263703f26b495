"""A WAT by the Internet Archive's code, against the WARC that it was made of."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from tests.page_archives import packed, record
from transforms.archive_members import Broken
from transforms.archives import Record
from transforms.page_images import Found
from transforms.pages import PageFiles, pairs_of
from transforms.wat import images_of_wat

PAGES = Path(__file__).parent / "wat_pages"
PAGE = "http://dogs.example/a/b.html"


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


def wat_record(whole: object, **more: object) -> Record:
    text = whole if isinstance(whole, str) else json.dumps(whole, **more)
    return Record({b"warc-type": b"metadata", b"warc-target-uri": b"x"}, text.encode())


def told(links: list[dict], **page: object) -> dict:
    """What a WAT says of a page, in Common Crawl's order."""
    head = {"WARC-Type": "response", "WARC-Target-URI": PAGE}
    answer = {"Response-Message": {"Status": "200"}, "HTML-Metadata": {**page, "Links": links}}
    return {
        "Container": {"Filename": "a.warc.gz"},
        "Envelope": {
            "Format": "WARC/1.0",
            "WARC-Header-Metadata": head,
            "Payload-Metadata": {"HTTP-Response-Metadata": answer},
        },
    }


TRICKS = [
    {"path": "IMG@/src", "url": "a.png", "alt": "plain"},
    {"path": "IMG@/src", "url": "b.png", "alt": 'says "path":"IMG@/src" and {"'},
    {"path": "A@/href", "url": 'x{"', "text": '"path":"IMG@/src"}'},
    {"alt": "x{", "path": "IMG@/src", "url": "c.png"},
    {"url": "d.png", "alt": "last", "path": "IMG@/src"},
    {"path": "IMG@/src", "url": "}e.png", "alt": "} begins"},
    {"path": "IMG@/src", "url": "f.png", "alt": 'back\\slash \\"', "width": 3},
    {"path": "IMG@/src", "url": "g.png", "alt": 7},
    {"path": "IMG@/src", "url": "h.png", "alt": "caf\u00e9 \U0001f436 &eacute;"},
    {"path": "IMG@/srcset", "url": "i.png", "alt": "no"},
    {"path": "STYLE/#text", "href": "IMG@/src"},
]


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("ascii", [True, False])
def test_links_are_found_as_by_a_parser(compact: bool, ascii: bool):
    separators = (",", ":") if compact else (", ", ": ")
    for links in [[one] for one in TRICKS] + [TRICKS]:
        made = wat_record(told(links), separators=separators, ensure_ascii=ascii)
        whole = json.loads(bytes(made.block))
        expected = [
            link["alt"].replace("&eacute;", "\u00e9")
            for link in whole["Envelope"]["Payload-Metadata"]["HTTP-Response-Metadata"][
                "HTML-Metadata"
            ]["Links"]
            if link["path"] == "IMG@/src" and isinstance(link["alt"], str)
        ]
        found = images_of_wat(made)
        assert [one.text for one in found] == expected
        assert all(one.page == PAGE for one in found)


def test_a_header_cannot_name_another_page():
    whole = told(TRICKS[:1])
    answer = whole["Envelope"]["Payload-Metadata"]["HTTP-Response-Metadata"]
    headers = {"Headers": {"WARC-Target-URI": "http://bad/", "Status": "2", "Base": "http://bad/"}}
    whole["Envelope"]["Payload-Metadata"]["HTTP-Response-Metadata"] = headers | answer
    (found,) = images_of_wat(wat_record(whole, separators=(",", ":")))
    assert found == Found("http://dogs.example/a/a.png", "plain", PAGE)


def test_a_lone_surrogate_harms_no_other_pair():
    text = json.dumps(told(TRICKS[:1]), separators=(",", ":")).replace("plain", "\\ud800 x")
    (found,) = images_of_wat(wat_record(text))
    assert found.text == "\ufffd x"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}}", '{"Envelope": 7}', "{" * 100_000])
def test_what_is_no_wat_is_broken(text: str):
    assert images_of_wat(wat_record(text)) == Broken("bad_json", "x")


def test_a_broken_record_costs_itself_alone(tmp_path: Path):
    good = json.dumps(told(TRICKS[:1])).encode()
    some = [record("x", block, kind="metadata") for block in (good, good[:-9], good)]
    (tmp_path / "a.wat.gz").write_bytes(packed(some, "gz"))
    counts: Counter[str] = Counter()
    found = list(pairs_of(PageFiles("wat", ((str(tmp_path / "a.wat.gz"), ""),)), counts))
    assert [type(one) for one in found] == [Found, Broken, Found]
    assert counts["pages"] == 2


def test_the_fixture_is_a_wat():
    with gzip.open(PAGES / "pages.wat.gz") as file:
        assert b"ia-web-commons" in file.read(600)
