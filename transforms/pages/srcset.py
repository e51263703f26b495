"""The images of a `srcset`.

Source: https://html.spec.whatwg.org/multipage/images.html#parsing-a-srcset-attribute
"""

from __future__ import annotations

import re

# Each looks at a byte once and never goes back, so that no `srcset` takes longer than its length.
_URL = re.compile(r"[ \t\n\f\r,]*+([^ \t\n\f\r]++)")
_DESCRIPTORS = re.compile(r"(?:[^,(]++|\([^)]*+\)?)*+")
_NUMBER = r"(?:[0-9]++(?:\.[0-9]++)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?"
_SIZE = re.compile(rf"(?:^|[ \t\n\f\r])({_NUMBER})[wx](?=[ \t\n\f\r]|$)")


def srcset_candidates(srcset: str) -> list[tuple[float, str]]:
    """The images of a `srcset`: (width in px, or density, URL)."""
    candidates: list[tuple[float, str]] = []
    at = 0
    while match := _URL.match(srcset, at):
        url, at = match[1].rstrip(","), match.end()
        size = None
        if url == match[1]:  # else the comma ends the candidate
            described = _DESCRIPTORS.match(srcset, at)
            if described:
                size, at = _SIZE.search(described[0]), described.end()
        candidates.append((float(size[1]) if size else 1.0, url))
    return candidates
