"""What pages say of their use, in their elements and in the header of their answer: read from HTML,
from WARC and from WAT."""

from collections import defaultdict
from pathlib import Path

import pytest

from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings
from alignset.transforms.pages.http_pages import Page
from alignset.transforms.pages.page_counts import PageTally
from alignset.transforms.pages.page_images import SILENT, PageWords, images_of
from alignset.transforms.pages.parse_pages import PageFiles, pairs_of, rows_of
from tests.support.page_archives import packed
from tests.support.root import ROOT
from tests.wat_pages.directives import PAGES, RECORDS, html_of, page_url

HOW = OptOutSettings()
NOINDEX = OptOutSettings(disallowed_page_directives="noindex", tdm_reservation=False)
IMAGE = '<img src="a.jpg" alt="a dog in the garden">'
URL = "https://p.example/x/"


def words_of(head: str, body: str = "", how: OptOutSettings = HOW, header: tuple = ()) -> PageWords:
    html = f"<html><head>{head}</head><body>{IMAGE}{body}</body></html>".encode()
    (image,) = images_of(Page(URL, html, "", header), how)
    return image.words


@pytest.mark.parametrize(
    ("body", "licence"),
    [
        ('<a rel="license" href="https://l.example/by">CC</a>', "https://l.example/by"),
        ('<a href="/by" rel="nofollow License">CC</a>', "https://p.example/by"),
        ("<link rel=license href=by>", "https://p.example/x/by"),
        ('<a rel="license">CC</a><a rel=license href=by>', "https://p.example/x/by"),
        ('<a rel="license" href="http://[">CC</a>', None),
        ('<a href="/license">the license</a>', None),
        ('<svg><a rel="license" href="by"></a></svg>', None),
    ],
)
def test_licences(body: str, licence: str | None) -> None:
    assert words_of("", body).license == licence


def test_a_page_is_silent_where_it_says_nothing_or_nothing_is_asked() -> None:
    assert words_of('<meta charset="utf-8"><link rel="icon" href="i">', "<a href=b>c</a>") == SILENT
    reserved = '<meta name="tdm-reservation" content="1">'
    both = f'<meta name="robots" content="noai">{reserved}'
    off = OptOutSettings(disallowed_page_directives="", tdm_reservation=False)
    assert words_of(both, how=off) == SILENT
    free = (b"tdm-reservation: 0",)  # a header comes before no element
    assert words_of(reserved, header=free).opt_outs == ("tdm_reservation",)


def test_more_than_is_read_of_what_pages_say() -> None:
    many = '<a rel="license" href="' + "x" * 100 + '">' * 5000
    assert len(words_of("", many).license or "") > 100
    assert words_of("", "<a rel=license href=" + "x" * 70_000 + ">").license is None


def stated(part: PageFiles, how: OptOutSettings) -> dict[str, tuple[str, str | None]]:
    """What each page of some files states, by its URL: opt-outs and licence."""
    statements = defaultdict(set)
    for batch in rows_of(pairs_of(part, PageTally(), how), how):
        for row in batch.to_pylist():
            said = row["source_opted_out"] or "", row["source_license"]
            statements[row["page_url"]].add(said)
    assert all(len(said) == 1 for said in statements.values())
    return {url: said for url, (said,) in statements.items()}


@pytest.mark.parametrize("entrance", ["html", "warc", "wat"])
def test_one_page_states_the_same_as_html_warc_and_wat(entrance: str, tmp_path: Path) -> None:
    files = [(str(ROOT / "tests" / "wat_pages" / "directives.wat.gz"), "")]
    if entrance == "warc":
        (tmp_path / "a.warc.gz").write_bytes(packed(RECORDS, "gz"))
        files = [(str(tmp_path / "a.warc.gz"), "")]
    elif entrance == "html":
        for at, page in enumerate(PAGES):
            (tmp_path / f"{at}.html").write_text(html_of(page))
        files = [(str(tmp_path / f"{at}.html"), page_url(at)) for at in range(len(PAGES))]
    by_default, noindex = (stated(PageFiles(entrance, tuple(files)), how) for how in (HOW, NOINDEX))
    assert len(by_default) == len(noindex) == len(PAGES)
    for at, page in enumerate(PAGES):
        if page.header and entrance == "html":
            continue
        expected = page.opt_outs if page.wat is None or entrance != "wat" else page.wat
        assert by_default[page_url(at)] == (",".join(expected), page.license), page
        names = noindex[page_url(at)][0].split(",")
        assert ({"meta_robots", "x_robots_tag"} & {*names} != set()) == page.noindex, page


@pytest.mark.parametrize("directive", ["nofollow", "x-own", "noimageai"])
def test_any_word_is_a_directive(directive: str) -> None:
    how = OptOutSettings(disallowed_page_directives=directive)
    assert words_of(f"<meta name=robots content='all {directive}'>", how=how).opt_outs
    assert not words_of(f"<meta name=robots content='all {directive}s'>", how=how).opt_outs


def test_the_own_token_is_a_name() -> None:
    how = OptOutSettings(user_agent_token="My_Bot.2")
    for name, said in (("my_bot.2", True), ("MY_BOT.2", True), ("mybot", False), ("robots", True)):
        assert bool(words_of(f"<meta name={name} content=noai>", how=how).opt_outs) == said


def test_no_opt_out_is_missed_behind_many_others() -> None:
    for many in ('<meta name="robots" content="all">', '<meta name="&amp;">', "<link rel=licence>"):
        assert words_of(many * 30_000 + "<meta name=robots content=noai>").opt_outs
