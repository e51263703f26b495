"""The TDM Reservation Protocol: whether the rights to mine text and data are reserved.

Source: TDM Reservation Protocol, final report of the W3C community group, May 2024.
"""

from __future__ import annotations

import re
from string import punctuation
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import msgspec

PATH = "/.well-known/tdmrep.json"
# Of a file; further rules are not read. A URL is compared with each.
MOST_RULES, _LONGEST_PATTERN = 1_000, 2_048
_ENCODED = re.compile(r"%([0-9A-Fa-f]{2})")
# Letters that need no code, and those that mean themselves in a pattern only by their code.
_DECODED = re.compile(r"[A-Za-z0-9._~$*-]")


def is_reserved(value: object) -> bool | None:
    """Whether a value of `tdm-reservation` reserves the rights; None where it is neither 0 nor 1,
    as number or text."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return {"1": True, "0": False}.get(str(value).strip())


class _Rule(NamedTuple):
    """A pattern, as the parts between its asterisks."""

    parts: tuple[str, ...]
    to_end: bool
    reserved: bool

    def fits(self, path: str) -> bool:
        first, *others = self.parts
        if not path.startswith(first):
            return False
        at = len(first)
        if not others:
            return not self.to_end or at == len(path)
        for part in others[:-1]:
            place = path.find(part, at)
            if place < 0:
                return False
            at = place + len(part)
        last = others[-1]
        if self.to_end:
            return path.endswith(last) and len(path) - len(last) >= at
        return path.find(last, at) >= 0


class TdmRules(NamedTuple):
    """Rules of one origin's tdmrep.json.

    Attributes:
      rules: in their order; none where the file could not be had.
      size: of them, in characters; a rule of few takes as much memory as one of ten.
      passing: whether the file could not be had for a reason that may pass.
    """

    rules: tuple[_Rule, ...] = ()
    size: int = 0
    passing: bool = False

    def reserves(self, url: str) -> bool:
        """Whether the first rule whose pattern fits this URL reserves the rights."""
        if not self.rules:
            return False
        parts = urlsplit(url)
        path = _normal(parts.path + (f"?{parts.query}" if parts.query else ""))
        return next((rule.reserved for rule in self.rules if rule.fits(path)), False)


def read_tdmrep(body: bytes | None) -> TdmRules:
    """The rules of a tdmrep.json; none where it is not as it should be.

    Args:
      body: of a 200 answer, or its beginning; None where there was none.
    """
    if body is None:
        return TdmRules()
    try:
        entries = msgspec.json.decode(body.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return TdmRules()
    entries = [entries] if isinstance(entries, dict) else entries
    if not isinstance(entries, list):
        return TdmRules()
    rules = tuple(filter(None, map(_rule, entries[:MOST_RULES])))
    return TdmRules(rules, sum(10 + sum(map(len, rule.parts)) for rule in rules))


def _rule(entry: Any) -> _Rule | None:
    if not isinstance(entry, dict):
        return None
    location, reserved = entry.get("location"), is_reserved(entry.get("tdm-reservation"))
    if not isinstance(location, str) or reserved is None or len(location) > _LONGEST_PATTERN:
        return None
    to_end = location.endswith("$")
    location = "/" + quote(location.removesuffix("$").lstrip("/"), safe=punctuation)
    parts = re.sub(r"\*+", "*", location).split("*")
    return _Rule(tuple(map(_normal, parts)), to_end, reserved)


def _normal(path: str) -> str:
    """Decodes what a path need not encode, `$` and `*` too."""
    return _ENCODED.sub(_decoded, path) if "%" in path else path


def _decoded(match: re.Match[str]) -> str:
    letter = chr(int(match[1], 16))
    return letter if _DECODED.fullmatch(letter) else match[0].upper()
