"""URLs: the web platform tests that ada's crate ships. Both ways of a URL are tried: one of a page,
which is joined with the page's own, and one of a list, which is requested as it stands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from alignset.transforms.columns.web_urls import request_url
from alignset.transforms.pages.page_images import Base
from alignset.transforms.pairs.urls import url_identity
from tests.suites.case import Case
from tests.suites.packages import unpacked

_NONE = "no http(s) URL"
# Without user name, password and fragment.
_HREF = re.compile(r"(https?)://(?:[^/?#]*@)?([^/?#]+)([^#]*)", re.S)

_SURROGATE = re.compile("[\ud800-\udfff]")


def cases() -> Iterator[Case]:
    """Yields a case for each URL and each way: the URL that is requested."""
    for case in _read("urltestdata.json", "ada_extra_urltestdata.json"):
        base = case.get("base") or ""
        theirs = _requested(case.get("href", ""))
        if base.startswith(("http:", "https:")):
            joined = Base(base).join(case["input"])
            ours = _requested(joined) if _usable(joined) else _NONE
            yield Case(f"page {base} {case['input']}", theirs, ours)
        elif not base:
            yield Case(f"list {case['input']}", theirs, _of_list(case["input"]))
    for case in _read("toascii.json", "IdnaTestV2.json"):
        url, output = f"http://{case['input']}/x", case["output"]
        theirs = _requested(f"http://{output}/x") if output else _NONE
        yield Case(f"host {case['input']}", theirs, _of_list(url))


def _read(*names: str) -> Iterator[dict[str, Any]]:
    """The cases in some files; no text of a row or page has lone surrogates."""
    for name in names:
        file = unpacked("ada-url") / "tests" / "wpt" / name
        for case in json.loads(file.read_text("utf-8")):
            if isinstance(case, dict) and case["input"] and not _SURROGATE.search(case["input"]):
                yield case


def _usable(url: str) -> bool:
    return url_identity(url) is not None and request_url(url) is not None


def _of_list(url: str) -> str:
    return _requested(request_url(url) or "") if _usable(url) else _NONE


def _requested(href: str) -> str:
    """A URL in its serialised form without what is not sent."""
    found = _HREF.match(href)
    return f"{found[1]}://{found[2]}{found[3]}" if found else _NONE
