"""Shards that hold something are numbered without a gap, as readers of {00000..00099}.tar expect.

A shard in which nothing is kept has no tar, and its number would be missing. So the last of the
shards that hold something take such numbers, and the empty ones take theirs. Few files move, and
none of those before the first gap.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces
from alignset.transforms.shards.shard_progress import shards_there
from alignset.transforms.shards.shard_stats import ShardStats
from alignset.transforms.storage.documents import find_document, read_document, write_document
from alignset.transforms.storage.files import copy_file, exists, move, remove, write_atomically

RENUMBERED = "renumbered.json"  # in the work folder: shards may have other numbers than planned


@dataclass(frozen=True)
class Renumbering:
    """`renumbered.json`: the old and the new number of each shard that takes another."""

    moves: list[tuple[int, int]]


def renumbering(shards: Mapping[int, bool]) -> Renumbering:
    """Which shards take another number.

    Args:
      shards: whether each shard holds something, by its number.

    >>> renumbering({0: True, 1: False, 2: True}).moves
    [(2, 1), (1, 2)]
    """
    down: list[tuple[int, int]] = []
    for first, end in ((0, HOLDOUT), (HOLDOUT, 2 * HOLDOUT)):
        holding = sorted(shard for shard, holds in shards.items() if holds and first <= shard < end)
        gaps = sorted(set(range(first, first + len(holding))).difference(holding))
        down += zip(holding[len(holding) - len(gaps) :], gaps, strict=True)
    return Renumbering(down + [(gap, shard) for shard, gap in down if gap in shards])


def renumber_shards(out: str, work: str) -> dict[int, int]:
    """Gives the finished shards of a dataset their last numbers. If it is killed anywhere, it can
    be done again.

    The files that both of two exchanged shards have are first put aside under their new names.
    When all of them are there a marker is written, and only then anything in the output changes.

    Args:
      out: the output folder. work: a folder for what is put aside, which goes at the run's end.

    Returns:
      the new number of each shard that takes another.
    """
    places, aside = ShardPlaces(out), ShardPlaces(f"{work}/renumbered")

    def put_aside(old: int, new: int) -> None:
        if exists(places.rejected(old)):
            copy_file(places.rejected(old), aside.rejected(new))
        stats = read_document(places.stats(old), ShardStats)
        body = dataclasses.replace(stats, shard=new % HOLDOUT).encode()
        write_atomically(aside.stats(new), lambda sink: sink.write(body))

    def bring(old: int, new: int) -> None:
        paths = places.sidecar, places.tar, places.responses, places.moved
        for path_of in paths if new < old else ():  # an empty one has none
            with suppress(FileNotFoundError):  # there is none, or it was moved before
                move(path_of(old), path_of(new))
        if exists(aside.rejected(new)):
            copy_file(aside.rejected(new), places.rejected(new))
        elif exists(aside.stats(new)):  # else the run has ended; a download has no rejects
            remove(places.rejected(new))
        copy_file(aside.stats(new), places.stats(new))

    with ThreadPoolExecutor(16) as pool:  # since a store answers slowly
        plan = find_document(f"{work}/{RENUMBERED}", Renumbering)
        if plan is None:
            plan = renumbering(shards_there(out))
            if not plan.moves:
                return {}
            list(pool.map(put_aside, *zip(*plan.moves, strict=True)))  # raises what one did
            write_document(f"{work}/{RENUMBERED}", plan)
        list(pool.map(bring, *zip(*plan.moves, strict=True)))
    for gap in {old for old, _ in plan.moves} - {new for _, new in plan.moves}:
        remove(places.rejected(gap))
        remove(places.stats(gap))
    return dict(plan.moves)
