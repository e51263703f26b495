"""AI preferences: for which uses content is offered, as Content-Usage states it.

Source: draft-ietf-aipref-vocab-08 and draft-ietf-aipref-attach-05.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from transforms.wishes.structured_fields import dictionary_tokens

_MOST_BYTES = 1 << 14  # of one statement; more is none


def usage_allowed(statement: bytes, categories: Collection[str]) -> bool | None:
    """What a statement of preference says of some categories of use.

    Returns:
      False where one is disallowed, else True where one is allowed; None where it says nothing of
      them, or breaks the grammar.
    """
    if len(statement) > _MOST_BYTES:
        return None
    members = dictionary_tokens(statement) or {}
    return combined({"y": True, "n": False}.get(members.get(name) or "") for name in categories)


def combined(preferences: Iterable[bool | None]) -> bool | None:
    """What several statements say together: the most restrictive counts."""
    stated = set(preferences)
    return False if False in stated else True if True in stated else None
