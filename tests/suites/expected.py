"""Disagreements that are meant: ours by design, or a fault of the other parser."""

from __future__ import annotations

import re
from typing import NamedTuple

from tests.suites.case import Case


class Expected(NamedTuple):
    """A disagreement, or many of one kind.

    Attributes:
      pattern: found in "NAME | theirs THEIRS | ours OURS".
      count: of the cases that it fits, exactly, so that neither a new one nor a lost one hides.
    """

    suite: str
    pattern: str
    count: int
    reason: str

    def fits(self, case: Case) -> bool:
        """Checks whether this is why a case disagrees."""
        said = f"{case.name} | theirs {case.theirs!r} | ours {case.ours!r}"
        return re.search(self.pattern, said, re.S) is not None


EXPECTED = (
    Expected(
        "html", r"(?i)<frameset.*theirs \[\] ", 192, "images beside frames count, as in WAT files"
    ),
    Expected(
        "html",
        r"(?i)<select.*<plaintext.*ours \[\]$",
        1,
        "parse5 ignores all tags but options in a select, as the standard did before 2025",
    ),
    Expected("html", r"(?i)<select", 150, "images in a select count, as in newer browsers"),
    Expected("html", r"<template>.*<col", 20, "images among the columns of a template count"),
    Expected("html", r"<svg>.*<(title|script|plaintext)>", 17, "libxml2 reads them as in HTML"),
    Expected("html", r"<svg><!\[CDATA\[", 16, "libxml2 has no CDATA in HTML"),
    Expected("html", "<(svg|math)>", 25, "only a tree tells of each `image` whether it is HTML"),
    Expected("encodings", r"<!-- (2|4|8)\d\d\d char", 6, "only the first kilobyte is looked at"),
    Expected("encodings", r"document\.write|multi-script", 2, "no script of a page is run"),
    Expected("srcset", r"data:,a -?0x ", 2, "parse-srcset drops a density of 0, and we keep it"),
    Expected("urls", r"^page .*http://f:0+/c ", 2, "nobody listens at port 0"),
    Expected("urls", r"\[0:0:0", 1, "an absolute URL counts on a page whose own URL is broken"),
    Expected("urls", r"theirs 'https?://[^/]{254,}/", 35, "no name has more than 253 characters"),
    Expected(
        "urls",
        r"theirs 'https?://[^/]*[^a-z0-9._/:-][^/]*/.*ours 'no",
        26,
        "no name of a host has letters but a to z, digits, full stop, hyphen and underscore",
    ),
    Expected(
        "urls",
        r"(^host |xn--pokxncvks).*ours 'no",
        119,
        "can-ada has the IDNA tables of an older Unicode",
    ),
    Expected(
        "robots",
        r"^Protego agent .*Invalid_directive",
        3,
        "only a rule ends the names of a group (RFC 9309); Protego ends them at any line",
    ),
    Expected(
        "robots",
        r" /robots\.txt \|",
        7,
        "robots.txt may always be fetched; Google's asks the rules",
    ),
    Expected("robots", r" /[^ ]*\\", 2, "a backslash in a URL is a slash, as in browsers"),
    Expected(
        "robots", r"/utilities/glossary/ ", 1, "only Google allows / by a rule for /index.htm"
    ),
    Expected(
        "robots",
        r"%2ba|%3dfalse",
        3,
        "%2b and %2B are one letter (RFC 9309); Google's changes them in rules alone",
    ),
    Expected(
        "tars",
        r"gnu-incremental|invalid-go17",
        4,
        "only ustar has a prefix; tarfile joins GNU's times",
    ),
    Expected(
        "images", r"hopper_bad_exif", 1, "a JPEG with other bytes between its scans is broken"
    ),
    Expected("images", r"invalid-(noend|trunc)\.png", 2, "a PNG without its end is truncated"),
    Expected("images", r"^cut .*(mpo|bad_mpo_header\.jpg) ", 8, "the first picture is whole"),
    Expected("images", r"^cut .*rle\.bmp ", 2, "no pixel is missing"),
    Expected("tars", r"pax-global-records", 2, "an empty path is none (POSIX); tarfile takes it"),
    Expected("tars", r"^training pax-path-hdr", 1, "the trainer misses no member behind the last"),
)
