"""Structured fields of HTTP, as far as a dictionary of tokens needs it.

Source: RFC 9651, sections 3 and 4.2.2.
"""

from __future__ import annotations

import re

# Nothing is tried twice: what these take they keep.
_KEY = r"[a-z*][a-z0-9_.*-]*+"
_BARE_ITEM = (
    r"(?:-?[0-9]{1,12}+\.[0-9]{1,3}+|-?[0-9]{1,15}+(?!\.)|@-?[0-9]{1,15}+(?!\.)|\?[01]"
    r'|"(?:[ !#-\[\]-~]|\\["\\])*+"|%"(?:[ !#$&-~]|%[0-9a-f]{2})*+"|:[A-Za-z0-9+/=]*+:'
    r"|[A-Za-z*][A-Za-z0-9:/!#$%&'*+.^_`|~-]*+)"
)
_PARAMETERS = rf"(?:; *+{_KEY}(?:={_BARE_ITEM})?+)*+"
_ITEM = rf"{_BARE_ITEM}{_PARAMETERS}"
_INNER_LIST = rf"\( *+(?:{_ITEM}(?: ++|(?=\))))*+\){_PARAMETERS}"
_MEMBER = re.compile(
    rf"({_KEY})(?:=(?:({_BARE_ITEM}){_PARAMETERS}|{_INNER_LIST})|{_PARAMETERS})", re.ASCII
)
_COMMA = re.compile(r"[ \t]*+,[ \t]*+")
_TOKEN = re.compile(r"[A-Za-z*].*")


def dictionary_tokens(value: bytes) -> dict[str, str | None] | None:
    """The members of a dictionary, each with its token, or None where its value is no token.

    Of a key that stands there twice the last counts.

    Returns:
      None where the value breaks the grammar, and so says nothing.
    """
    if not value.isascii():
        return None
    text, at = value.decode("ascii").strip(" "), 0
    members: dict[str, str | None] = {}
    while at < len(text):
        member = _MEMBER.match(text, at)
        if member is None:
            return None
        bare = member[2]
        members[member[1]] = bare if bare and _TOKEN.fullmatch(bare) else None
        at = member.end()
        if at == len(text):
            break
        comma = _COMMA.match(text, at)
        if comma is None or comma.end() == len(text):
            return None
        at = comma.end()
    return members
