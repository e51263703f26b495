"""How many texts have which number of images, and how many images which number of texts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class CountSpread:
    """How many things have which number of partners, as texts have images.

    Attributes:
      least: ascending, of each bin; it ends before the next one's.
      things: how many there are in each bin. partners: how many they have together.
    """

    least: list[int] = field(default_factory=list)
    things: list[int] = field(default_factory=list)
    partners: list[int] = field(default_factory=list)


def spread_of(counts: npt.NDArray[np.int64], limit: int) -> CountSpread:
    """The spread of counts of 1 and more, in bins 1 to 10, 11 to 20, 21 to 50, 51 to 100 and so on.

    Args:
      limit: a bin ends with it too.
    """
    powers = [scale * 10**power for power in range(1, 12) for scale in (1, 2, 5)]
    least = np.array(sorted({*range(1, 11), *(end + 1 for end in (*powers, limit))}))
    places = np.searchsorted(least, counts, "right") - 1
    things = np.bincount(places, minlength=len(least))
    partners = np.bincount(places, counts, minlength=len(least)).astype(np.int64)
    nonempty = np.flatnonzero(things)
    return CountSpread(
        least[nonempty].tolist(), things[nonempty].tolist(), partners[nonempty].tolist()
    )


def add_spreads(spreads: Iterable[CountSpread]) -> CountSpread:
    """Adds up counts of one limit."""
    bins: dict[int, tuple[int, int]] = {}
    for spread in spreads:
        for least, things, partners in zip(
            spread.least, spread.things, spread.partners, strict=True
        ):
            before = bins.get(least, (0, 0))
            bins[least] = before[0] + things, before[1] + partners
    ends = sorted(bins)
    return CountSpread(ends, [bins[e][0] for e in ends], [bins[e][1] for e in ends])
