"""Directives such as `noai`, in X-Robots-Tag and in the meta element of pages."""

from __future__ import annotations

import re
from collections.abc import Collection

# Directives whose own value stands behind a colon, where else the name of a fetcher stands.
_VALUED = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
_SEPARATORS = re.compile(r"(?:[\s,;/]|[^\x00-\x7f])+")
_SAYS_NONE = frozenset({"none", "noindex", "nofollow"})  # what `none` stands for


def has_directive(value: str, token: str, directives: Collection[str]) -> bool:
    """Whether the value of one X-Robots-Tag, or of a meta element, has one of these directives for
    everybody or for this token, as in "otherbot: noindex, alignset: noai".

    White space, semicolons, slashes and whatever is not ASCII separate directives as commas do: no
    opt-out is missed for its punctuation.
    """
    meant = True
    value = ":".join(part.strip() for part in value.lower().split(":"))
    for word in _SEPARATORS.split(value):
        before, colon, directive = word.partition(":")
        if colon and before in _VALUED:
            continue
        # "15:00:00" and "gmt+01:00" are of a date: no directive begins with a digit.
        if colon and (before == token.lower() or not directive[:1].isdigit()):
            meant, before = before == token.lower(), directive
        if meant and (before in directives or (before == "none" and _is_none(directives))):
            return True
    return False


def _is_none(directives: Collection[str]) -> bool:
    return not _SAYS_NONE.isdisjoint(directives)
