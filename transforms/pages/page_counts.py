"""What is counted of pages, and how the counts of parts add up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
from msgspec import UNSET, UnsetType

from alignset.transforms.workers.counts import add_by_name


@dataclass(frozen=True)
class PageCounts:
    """What was seen of pages: `no_response`, `not_html` and `not_ok` are records of no page.

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
