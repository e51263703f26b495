"""What a page says of its use: wishes in its elements and in the header of its answer, and its
licence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from selectolax.lexbor import LexborHTMLParser

from transforms.columns.opt_outs import META_ROBOTS, OPT_OUTS, TDM_RESERVATION
from transforms.columns.web_urls import parse_url
from transforms.pages.http_pages import MAX_URL
from transforms.wishes.answer_headers import header_opt_outs
from transforms.wishes.robots_tags import has_directive
from transforms.wishes.tdm_reservation import is_reserved
from transforms.wishes.wish_settings import WishSettings

HONOURED = WishSettings()


class PageWords(NamedTuple):
    """What a page says.

    Fields:
      opt_outs: details of `opted_out`, in their order.
      license: URL of the licence of its main content, or None.
    """

    opt_outs: tuple[str, ...] = ()
    license: str | None = None


SILENT = PageWords()


def words_of_tags(url: str, header: tuple[bytes, ...], said: str, how: WishSettings) -> PageWords:
    """What a page says.

    Args:
      url: of the page. header: lines of its answer's header.
      said: its tags `meta`, `a` and `link`, or those that may say something.
    """
    if not said:
        return page_words(url, header, (), (), how) if header else SILENT
    nodes = LexborHTMLParser(said).css("meta, a, link")
    elements = [(node.tag, node.attributes) for node in nodes]
    metas = [attributes for tag, attributes in elements if tag == "meta"]
    links = [attributes for tag, attributes in elements if tag != "meta"]
    return page_words(url, header, metas, links, how)


def page_words(
    url: str,
    header: tuple[bytes, ...],
    metas: Iterable[dict[str, Any]],
    links: Iterable[dict[str, Any]],
    how: WishSettings,
) -> PageWords:
    """What a page says, by the attributes of its elements.

    Args:
      metas: with `name` and `content`. links: with `rel` and `href`.
    """
    opt_outs = set(header_opt_outs(header, how, how.page_directives)) if header else set()
    reserved: bool | None = None
    for meta in metas:
        name, content = (str(meta.get(key) or "").strip() for key in ("name", "content"))
        name = name.lower()
        if name in ("robots", how.user_agent_token.lower()):
            if has_directive(content, how.user_agent_token, how.page_directives):
                opt_outs.add(META_ROBOTS)
        elif name == "tdm-reservation" and how.tdm_reservation:
            stated = is_reserved(content)
            reserved = reserved if stated is None else stated or bool(reserved)
    if reserved is not None:  # which comes before what the header says
        (opt_outs.add if reserved else opt_outs.discard)(TDM_RESERVATION)
    return PageWords(tuple(wish for wish in OPT_OUTS if wish in opt_outs), _license(url, links))


def _license(url: str, links: Iterable[dict[str, Any]]) -> str | None:
    for link in links:
        href = str(link.get("href") or "").strip()
        if "license" in str(link.get("rel") or "").lower().split() and 0 < len(href) <= MAX_URL:
            joined = parse_url(href, parse_url(url))
            if joined is not None:
                return joined.href[:MAX_URL]
    return None
