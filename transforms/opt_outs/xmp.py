"""What the XMP of an image says of mining it and of its licence.

Source: IPTC Photo Metadata Standard 2023.1 (PLUS Data Mining, web statement of rights); XMP
specification, part 2 (rights management).
"""

from __future__ import annotations

import html
import re
from typing import NamedTuple

MOST_BYTES = 1 << 20  # of XMP that are looked at; that of photographs has some thousand
_LONGEST = 2_000  # characters of a licence hint
_MOST_PLACES = 50  # at which its name is looked at
# Nothing is looked at twice: what is met ends where the name stands again.
_DATA_MINING = re.compile(
    rb"""DataMining\s*+=\s*+(?:"[^"<]*+|'[^'<]*+)"""  # an attribute
    # An element, with what it holds: a value may lie in others, rdf:value among them.
    rb"""|<[\w:.-]*?DataMining\b[^<>]*+"""
    rb"""(?:(?<!/)>(?:[^<]++|<(?![/\w:.-]*DataMining\b)){0,40}+)?+"""
)
_PROHIBITED = re.compile(rb"\bDMI-PROHIBITED(?![A-Za-z])")


class XmpTerms(NamedTuple):
    """What is said: whether mining or training is prohibited, and what states the licence."""

    prohibited: bool = False
    web_statement: str | None = None
    usage_terms: str | None = None


NO_TERMS = XmpTerms()


def xmp_terms(packet: bytes) -> XmpTerms:
    """The terms in an XMP packet of UTF-8, looked for without an XML parser, which hostile packets
    could keep busy: as attributes, as elements, or as the first text of a list of languages."""
    packet = packet[:MOST_BYTES]
    prohibited = b"DataMining" in packet and any(
        _PROHIBITED.search(stated[0]) for stated in _DATA_MINING.finditer(packet)
    )
    return XmpTerms(prohibited, _text(packet, b"WebStatement"), _text(packet, b"UsageTerms"))


def _text(packet: bytes, name: bytes) -> str | None:
    """The value of the first property of this name that has one."""
    at = packet.find(name)
    for _ in range(_MOST_PLACES):
        if at < 0:
            break
        behind = packet[at + len(name) : at + len(name) + 4 * _LONGEST]
        if packet[at - 1 : at] in (b":", b"<") and (match := _VALUE.match(behind)):
            value = next(filter(None, match.groups()), b"").decode("utf-8", "replace")
            value = " ".join(html.unescape(value).split())[:_LONGEST]
            if value:
                return value
        at = packet.find(name, at + len(name))
    return None


_VALUE = re.compile(
    rb"""\s*+=\s*+(?:"([^"<]*+)"|'([^'<]*+)')"""  # an attribute
    rb"""|[^<>]*?\bresource\s*+=\s*+["']([^"'<>]*+)["']"""
    rb"""|[^<>]*+>\s*+(?:<(?:\w+:)?(?:Alt|Bag|Seq)\b[^<>]*+>\s*+<(?:\w+:)?li\b[^<>]*+>)?+([^<]*+)"""
)
