"""Counts of pages, which add up over parts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

import msgspec
from msgspec import UNSET, UnsetType

from alignset.transforms.storage.documents import add_by_name


@dataclass(frozen=True)
class PageCounts:
    """Counts of pages: `no_response`, `not_html` and `not_ok` are records without a page.

    Attributes:
      first_day, last_day: on which the archives say that the pages were crawled.
      opted_out: pairs that are dropped for an opt-out of their pages, by detail.
    """

    broken: int = 0
    no_response: int = 0
    not_html: int = 0
    not_ok: int = 0
    pages: int = 0
    pairs: int = 0
    records: int = 0
    first_day: str | UnsetType = UNSET
    last_day: str | UnsetType = UNSET
    opted_out: dict[str, int] | UnsetType = UNSET


def add_page_counts(counts: Iterable[PageCounts]) -> PageCounts:
    """The sum of the counts of parts, and the days that all of them span."""
    parts = [msgspec.to_builtins(part) for part in counts]
    days = [(part.pop("first_day"), part.pop("last_day")) for part in parts if "first_day" in part]
    opted_out = add_by_name(part.pop("opted_out", {}) for part in parts)
    firsts, lasts = zip(*days, strict=True) if days else ([UNSET], [UNSET])
    return PageCounts(
        **add_by_name(parts),
        first_day=min(firsts),
        last_day=max(lasts),
        opted_out=opted_out or UNSET,
    )


_DAY = re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.A)


class PageTally(Counter[str]):
    """Counts by name.

    Attributes:
      first_day, last_day: of the pages' WARC-Date, as in 2024-05-18; "" where no page has one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first_day = self.last_day = ""

    def note_day(self, warc_date: str) -> None:
        """Takes a page's WARC-Date in; one that names no day is left out."""
        if day := day_of(warc_date[:10]):
            self.first_day = min(self.first_day or day, day)
            self.last_day = max(self.last_day, day)


@lru_cache(1 << 10)
def day_of(warc_date: str) -> str:
    """The day that a WARC-Date begins with, or "" where it begins with none."""
    match = _DAY.match(warc_date)
    try:
        return date(*map(int, match.groups())).isoformat() if match else ""
    except ValueError:
        return ""
