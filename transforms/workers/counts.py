"""Counts of workers, which add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Counts:
    """Outcomes of some pairs.

    Attributes:
      seen, kept: how many there were, and are left.
      dropped: how many went for each reason.
    """

    seen: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)


def add_by_name(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Adds up dicts of counts, key by key."""
    total: Counter[str] = Counter()
    for part in counts:
        total.update(part)
    return dict(sorted(total.items()))


def add_counts(counts: Iterable[Counts]) -> Counts:
    """The sum of the counts of parts."""
    parts = list(counts)
    return Counts(
        seen=sum(part.seen for part in parts),
        kept=sum(part.kept for part in parts),
        dropped=add_by_name(part.dropped for part in parts),
    )
