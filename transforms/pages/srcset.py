"""The images of a `srcset`.

Source: https://html.spec.whatwg.org/multipage/images.html#parsing-a-srcset-attribute
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Each looks at a byte once and never goes back, so that no `srcset` takes longer than its length.
_URL = re.compile(r"[ \t\n\f\r,]*+([^ \t\n\f\r]++)")
_DESCRIPTORS = re.compile(r"(?:[^,(]++|\([^)]*+\)?)*+")
_DESCRIPTOR = re.compile(r"(?:[^ \t\n\f\r(]++|\([^)]*+\)?)++")
_INTEGER = r"[0-9]++"
_NUMBER = r"-?(?:[0-9]++(?:\.[0-9]++)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?"
_KINDS = re.compile(rf"(?:(?P<w>{_INTEGER})w|(?P<h>{_INTEGER})h|(?P<x>{_NUMBER})x)", re.A)
_LARGEST = 1e300  # what is larger is infinite as a float, which the standard refuses


def srcset_candidates(srcset: str) -> list[tuple[float, str]]:
    """The images of a `srcset` whose descriptors are valid: (width in px, or density, URL)."""
    candidates: list[tuple[float, str]] = []
    at = 0
    while match := _URL.match(srcset, at):
        url, at = match[1].rstrip(","), match.end()
        size: float | None = 1.0
        if url == match[1]:  # else the comma ends the candidate
            described = _DESCRIPTORS.match(srcset, at)
            if described:
                size, at = _size(_DESCRIPTOR.findall(described[0])), described.end()
        if size is not None:
            candidates.append((size, url))
    return candidates


def _size(descriptors: Sequence[str]) -> float | None:
    """The width or density of a candidate; None where its descriptors are not valid together."""
    sizes: dict[str, float] = {}
    for descriptor in descriptors:
        match = _KINDS.fullmatch(descriptor)
        if not match or not match.lastgroup or match.lastgroup in sizes:
            return None
        kind, value = match.lastgroup, float(match[match.lastgroup])
        if not (0 <= value < _LARGEST) or (value == 0 and kind != "x"):
            return None
        sizes[kind] = value
    if not sizes:
        return 1.0
    if "x" in sizes:
        return sizes["x"] if len(sizes) == 1 else None
    return sizes.get("w")  # a height alone is not valid
