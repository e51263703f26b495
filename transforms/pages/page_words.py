"""Opt-outs that a page states in its elements and in the header of its response, and its
licence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from alignset.transforms.columns.pair_columns import META_ROBOTS, OPT_OUTS, TDM_RESERVATION
from alignset.transforms.columns.web_urls import parse_url
from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings
from alignset.transforms.opt_outs.response_headers import has_directive, header_opt_outs
from alignset.transforms.opt_outs.tdm_reservation import is_reserved
from alignset.transforms.pages.http_pages import MAX_URL

HONOURED = OptOutSettings()
_TDM_RESERVATION = "tdm-reservation"
_AROUND = " \t\n\f\r/"  # a value without quotation marks has the slash that should end its tag


class PageWords(NamedTuple):
    """Opt-outs and licence of a page.

    Fields:
      opt_outs: details of `opted_out`, in their order.
      license: URL of the licence of its main content, or None.
    """

    opt_outs: tuple[str, ...] = ()
    license: str | None = None


SILENT = PageWords()


def page_words(
    url: str,
    header: tuple[bytes, ...],
    metas: Iterable[tuple[str, str]],
    links: Iterable[tuple[str, str]],
    how: OptOutSettings,
) -> PageWords:
    """Opt-outs and licence of a page, by the attributes of its elements.

    Args:
      metas: (`name`, `content`). links: (`rel`, `href`).
    """
    directives, token = how.page_directives, how.user_agent_token
    opt_outs = set(header_opt_outs(header, how, directives)) if header else set()
    reserved: bool | None = None
    for name, content in metas:
        name, content = name.strip(_AROUND).lower(), content.strip(_AROUND)
        if name in ("robots", token.lower()):
            if has_directive(content, token, directives):
                opt_outs.add(META_ROBOTS)
        elif name == _TDM_RESERVATION and how.tdm_reservation:
            statement = is_reserved(content)
            reserved = reserved if statement is None else statement or bool(reserved)
    if reserved is not None:  # which comes before what the header says
        (opt_outs.add if reserved else opt_outs.discard)(TDM_RESERVATION)
    return PageWords(tuple(kind for kind in OPT_OUTS if kind in opt_outs), _license(url, links))


def _license(url: str, links: Iterable[tuple[str, str]]) -> str | None:
    for rel, href in links:
        href = href.strip()
        if "license" in rel.lower().split() and 0 < len(href) <= MAX_URL:
            target = parse_url(href, parse_url(url))
            if target is not None:
                return target.href[:MAX_URL]
    return None
