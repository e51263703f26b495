"""Opt-outs in the header of a response, and directives such as `noai` in it or in a page.

Source of Content-Usage: draft-ietf-aipref-vocab-08, draft-ietf-aipref-attach-05, and RFC 9651 for
the grammar.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import cast

import http_sf

from alignset.transforms.columns.pair_columns import CONTENT_USAGE, TDM_RESERVATION, X_ROBOTS_TAG
from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings
from alignset.transforms.opt_outs.tdm_reservation import is_reserved

_MOST_BYTES = 1 << 14  # of one statement; more is none
_PREFERENCES = {"y": True, "n": False}


def usage_allowed(statement: bytes, categories: Collection[str]) -> bool | None:
    """Preference of a statement for some categories of use.

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
    """Combines several statements: the most restrictive counts."""
    values = set(preferences)
    return False if False in values else True if True in values else None


_X_ROBOTS_TAG = b"x-robots-tag"
_TDM_RESERVATION = b"tdm-reservation"
_CONTENT_USAGE = b"content-usage"
# Directives whose own value stands behind a colon, where else the name of a fetcher stands.
_VALUED = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
_SEPARATORS = re.compile(r"(?:[\s,;/]|[^\x00-\x7f])+")
_SAYS_NONE = frozenset({"none", "noindex", "nofollow"})  # what `none` stands for


def header_opt_outs(
    lines: Sequence[bytes],
    settings: OptOutSettings,
    directives: Collection[str],
    reserved_by_file: bool = False,
) -> tuple[str, ...]:
    """Which opt-outs an answer's header states, as details of `opted_out`.

    Args:
      lines: of the header, as they came.
      directives: of X-Robots-Tag, that are honoured.
      reserved_by_file: whether the host's tdmrep.json reserves the rights; what the header says of
        that comes before it.
    """
    text = b"".join(lines).lower()
    opt_outs = []
    if directives and _X_ROBOTS_TAG in text:
        values = (value.decode("latin-1") for value in field_values(lines, _X_ROBOTS_TAG))
        if any(has_directive(value, settings.user_agent_token, directives) for value in values):
            opt_outs.append(X_ROBOTS_TAG)
    if settings.tdm_reservation:
        reserved = reserved_by_file
        if _TDM_RESERVATION in text:
            fields = field_values(lines, _TDM_RESERVATION)
            statements = {is_reserved(field.decode("latin-1")) for field in fields} - {None}
            reserved = True in statements if statements else reserved
        if reserved:
            opt_outs.append(TDM_RESERVATION)
    if settings.content_usage and _CONTENT_USAGE in text:
        statement = b", ".join(field_values(lines, _CONTENT_USAGE))
        if usage_allowed(statement, settings.usage_categories) is False:
            opt_outs.append(CONTENT_USAGE)
    return tuple(opt_outs)


def field_values(lines: Sequence[bytes], name: bytes) -> Iterator[bytes]:
    """The values of the header lines of this name, which is in lower case."""
    for line in lines:
        of, _, value = line.partition(b":")
        if of.strip().lower() == name:
            yield value.strip()


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
        says_none = before == "none" and not _SAYS_NONE.isdisjoint(directives)
        if meant and (before in directives or says_none):
            return True
    return False
