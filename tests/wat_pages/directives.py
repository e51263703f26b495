"""Pages that state opt-outs in every spelling, with the verdict of each: one table for the three
entrances of pages."""

from __future__ import annotations

from typing import NamedTuple

from tests.support.page_archives import page_record

IMAGE = '<img src="a.jpg" alt="a dog in the garden">'
META = "meta_robots"
RESERVED = "tdm_reservation"
URL = "https://p.example/x/"


class DirectivePage(NamedTuple):
    """A page, or the lines of its response's header, and what it states.

    Fields:
      opt_outs: by default. noindex: whether `--disallowed_page_directives=noindex` drops it.
      wat: the same of its WAT, where the extractor sees other elements than a browser.
    """

    html: str
    opt_outs: tuple[str, ...] = ()
    noindex: bool = False
    header: tuple[str, ...] = ()
    wat: tuple[str, ...] | None = None
    license: str | None = None


def _robots(content: str) -> str:
    return f'<meta name="robots" content="{content}">'


PAGES = [
    DirectivePage("<p>no directive"),
    # The value without quotation marks, as minifiers write it.
    DirectivePage("<meta name=robots content=noai>", (META,)),
    DirectivePage("<meta content=noai name=robots>", (META,)),
    DirectivePage("<meta name=robots content=noai/>", (META,)),
    DirectivePage("<meta content=noai name=robots/>", (META,)),
    DirectivePage("<meta name=robots content=noai />", (META,)),
    DirectivePage("<meta name=robots content=noindex,noimageai>", (META,), True),
    DirectivePage("<meta name='robots' content='noai'/>", (META,)),
    # Case, white space, line breaks, and the separators that pages use.
    DirectivePage("<META NAME=ROBOTS CONTENT='NOINDEX, NoImageAI'>", (META,), True),
    DirectivePage('<meta\nname = "robots"\n\tcontent\n=\n"noai">', (META,)),
    DirectivePage('<meta name=" Robots\n" content="\tnoai ">', (META,)),
    DirectivePage(_robots("index,follow,noai"), (META,)),
    DirectivePage(_robots("index follow noai"), (META,)),
    DirectivePage(_robots("index;noimageindex"), (META,)),
    DirectivePage(_robots("max-image-preview : large , noai"), (META,)),
    DirectivePage(_robots("unavailable_after: Fri, 25 Jun 2027 15:00:00 GMT, noai"), (META,)),
    # Character references, in the content and in the name.
    DirectivePage(_robots("no&#97;i"), (META,)),
    DirectivePage(_robots("no&#x61;i"), (META,)),
    DirectivePage(_robots("&#78;O&#0065;&#X49"), (META,)),
    DirectivePage("<meta name=robots content=no&#97;i>", (META,)),
    DirectivePage(_robots("index&comma;noai"), (META,)),
    DirectivePage('<meta name="rob&#111;ts" content="no&#97;i">', (META,)),
    DirectivePage('<meta name="rob&#111;ts" content="noai">', (META,)),
    DirectivePage(_robots("no&amp;#97;i")),
    # The first of two attributes of one name counts.
    DirectivePage('<meta name="robots" name="x" content="noai">', (META,)),
    DirectivePage('<meta name="x" name="robots" content="noai">', ()),
    DirectivePage('<meta name="robots" content="noai" content="all">', (META,)),
    DirectivePage('<meta name="robots" content="all" content="noai">', ()),
    # Several elements.
    DirectivePage(_robots("all") + _robots("noai"), (META,)),
    DirectivePage(_robots("noindex") + _robots("nofollow"), (), True),
    DirectivePage('<meta name="alignset" content="noai">', (META,)),
    DirectivePage('<meta name="AlignSet" content="none">', (), True),
    DirectivePage('<meta name="otherbot" content="noai,noindex">'),
    DirectivePage('<meta name="description" content="noai, noindex">'),
    DirectivePage(_robots("noindex, nofollow"), (), True),
    DirectivePage(_robots("none"), (), True),
    DirectivePage(_robots("max-image-preview:none, max-image-preview: none")),
    DirectivePage(_robots("noaix, xnoai, no ai")),
    DirectivePage(_robots("index max-snippet:-1, noai"), (META,)),
    DirectivePage(_robots("max-image-preview:large noai"), (META,)),
    # Where a browser sees no element.
    DirectivePage('<!-- <meta name="robots" content="noai"> -->'),
    DirectivePage("<script>'<meta name=robots content=noai>'</script>"),
    DirectivePage('<title><meta name="robots" content="noai"></title>', wat=(META,)),
    DirectivePage('<svg><meta name="robots" content="noai">', (META,)),
    # The TDM Reservation Protocol.
    DirectivePage("<meta name=tdm-reservation content=1>", (RESERVED,)),
    DirectivePage("<meta name=tdm-reservation content=1/>", (RESERVED,)),
    DirectivePage('<meta name="TDM-Reservation" content=" 1 ">', (RESERVED,)),
    DirectivePage('<meta name="tdm&#45;reservation" content="&#49;">', (RESERVED,)),
    DirectivePage('<meta name="tdm-reservation" content="0">'),
    DirectivePage(_robots("noai") + '<meta name="tdm-reservation" content="1">', (META, RESERVED)),
    # A licence, which is not judged.
    DirectivePage(
        "<a rel=license href='/by?a=1&amp;b=2'>by</a>", license="https://p.example/by?a=1&b=2"
    ),
    DirectivePage("<link rel=license href=by>", license="https://p.example/x/by"),
    # The header of the response, which a file of HTML has not.
    DirectivePage("", ("x_robots_tag",), header=("X-Robots-Tag: noai",)),
    DirectivePage("", ("x_robots_tag",), header=("x-robots-tag: nofollow", "X-Robots-Tag: NOAI")),
    DirectivePage("", (), True, header=("X-Robots-Tag: noindex",)),
    DirectivePage("", (), header=("X-Robots-Tag: otherbot: noai",)),
    DirectivePage("", (RESERVED,), header=("tdm-reservation: 1",)),
    DirectivePage("", ("content_usage",), header=("Content-Usage: train-ai=n",)),
    DirectivePage('<meta name="tdm-reservation" content="0">', (), header=("tdm-reservation: 1",)),
]


def page_url(number: int) -> str:
    """The URL of a page of the table."""
    return f"{URL}{number}"


def html_of(page: DirectivePage) -> str:
    """The whole page, with one image."""
    return f"<html><head>{page.html}</head><body>{IMAGE}</body></html>"


RECORDS = [page_record(page_url(at), html_of(page), *page.header) for at, page in enumerate(PAGES)]
