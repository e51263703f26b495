"""Directives such as `noai`, in X-Robots-Tag and in the meta element of pages."""

from __future__ import annotations

import re
from collections.abc import Collection

# Directives whose own value stands behind a colon, where else the name of a fetcher stands.
_VALUED = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
# The rest of a date, "Fri, 25 Jun 2027 15:00:00 GMT", which has a comma and colons of its own.
_DATE = re.compile(r"\d{1,2}[ -][a-z]{3}")


def has_directive(value: str, token: str, directives: Collection[str]) -> bool:
    """Whether the value of one X-Robots-Tag has one of these directives for everybody or for this
    token, as in "otherbot: noindex, alignset: noai"."""
    meant = True
    for part in value.lower().split(","):
        before, colon, directive = (word.strip() for word in part.partition(":"))
        if colon and before not in _VALUED and not _DATE.match(before):
            meant, before = before == token.lower(), directive
        if before == "none":  # which is noindex and nofollow
            before = "noindex"
        if meant and before in directives:
            return True
    return False
