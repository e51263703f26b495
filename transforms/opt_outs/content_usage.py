"""AI preferences: for which uses content is offered, as Content-Usage states it.

Source: draft-ietf-aipref-vocab-08, draft-ietf-aipref-attach-05, and RFC 9651 for the grammar.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import cast

import http_sf

_MOST_BYTES = 1 << 14  # of one statement; more is none
_PREFERENCES = {"y": True, "n": False}


def usage_allowed(statement: bytes, categories: Collection[str]) -> bool | None:
    """What a statement of preference says of some categories of use.

    Returns:
      False where one is disallowed, else True where one is allowed; None where it says nothing of
      them, or breaks the grammar.
    """
    if len(statement) > _MOST_BYTES:
        return None
    try:
        members = cast(http_sf.DictionaryType, http_sf.parse(statement, tltype="dictionary"))
    except ValueError:
        return None
    return combined(_PREFERENCES.get(_token(members.get(name))) for name in categories)


def _token(member: object) -> str:
    """Returns the token that a member of a dictionary is, or "" where it is another type."""
    value = member[0] if isinstance(member, tuple) else None
    return str(value) if isinstance(value, http_sf.Token) else ""


def combined(preferences: Iterable[bool | None]) -> bool | None:
    """What several statements say together: the most restrictive counts."""
    stated = set(preferences)
    return False if False in stated else True if True in stated else None
