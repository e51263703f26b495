"""Shards that hold something are numbered without a gap, as readers of {00000..00099}.tar expect.

A shard in which nothing is kept has no tar, and its number would be missing. So the last of the
shards that hold something take such numbers, and the empty ones take theirs. Few files move, and
none of those before the first gap.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces
from alignset.transforms.shards.shard_stats import ShardStats
from alignset.transforms.storage.documents import find_document, read_document, write_document
from alignset.transforms.storage.files import (
    copy_file,
    exists,
    match,
    move,
    remove,
    write_atomically,
)

_THREADS = 16  # since a store answers slowly


@dataclass(frozen=True)
class Renumbering:
    """`renumbered.json`: the old and the new number of each shard that takes another."""

    moves: list[tuple[int, int]]


def renumbering(shards: Mapping[int, bool]) -> Renumbering:
    """Which shards take another number.

    Args:
      shards: whether each shard holds something, by its number.
    """
    nonempty = sorted(shard for shard, holds in shards.items() if holds)
    down: list[tuple[int, int]] = []
    for first, of_kind in (
        (0, [shard for shard in nonempty if shard < HOLDOUT]),
        (HOLDOUT, [shard for shard in nonempty if shard >= HOLDOUT]),
    ):
        gaps = sorted(set(range(first, first + len(of_kind))).difference(of_kind))
        down += zip(of_kind[len(of_kind) - len(gaps) :], gaps, strict=True)
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
    marker, places, aside = _marker(work), ShardPlaces(out), ShardPlaces(f"{work}/renumbered")
    plan = find_document(marker, Renumbering)
    if plan is None:
        plan = renumbering(shards_there(out))
        if not plan.moves:
            return {}
        _for_all(plan, lambda old, new: _put_aside(places, aside, old, new))
        write_document(marker, plan)
    _for_all(plan, lambda old, new: _bring(places, aside, old, new))
    for gap in {old for old, _ in plan.moves} - {new for _, new in plan.moves}:
        remove(places.rejected(gap))
        remove(places.stats(gap))
    return dict(plan.moves)


def shards_there(out: str) -> dict[int, bool]:
    """Whether each finished shard holds something, by its number."""
    shards = {}
    for first, folder in zip((0, HOLDOUT), ShardPlaces(out).folders, strict=True):
        names = {path.rpartition("/")[2] for path, _ in match(folder)}
        for name in names:
            number, _, ending = name.partition("_")
            if ending == "stats.json" and number.isdecimal():
                shards[first + int(number)] = f"{number}.tar" in names
    return shards


def was_renumbered(work: str) -> bool:
    """Whether shards may have other numbers by now than those that they were planned with.

    Args:
      work: the folder that `renumber_shards` was given.
    """
    return exists(_marker(work))


def forget_renumbering(work: str) -> None:
    """Has the shards be numbered anew by the next run that works in this folder."""
    remove(_marker(work))


def _marker(work: str) -> str:
    return f"{work}/renumbered.json"


def _for_all(plan: Renumbering, work: Callable[[int, int], None]) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(lambda item: work(*item), plan.moves))  # raises what one did


def _copy_rejects(source: ShardPlaces, target: ShardPlaces, old: int, new: int) -> None:
    if exists(source.rejected(old)):
        copy_file(source.rejected(old), target.rejected(new))
    else:  # a dataset that was downloaded has none
        remove(target.rejected(new))


def _put_aside(places: ShardPlaces, aside: ShardPlaces, old: int, new: int) -> None:
    _copy_rejects(places, aside, old, new)
    there = read_document(places.stats(old), ShardStats)
    stats = dataclasses.replace(there, shard=new % HOLDOUT)
    write_atomically(aside.stats(new), lambda sink: sink.write(stats.encode()))


def _bring(places: ShardPlaces, aside: ShardPlaces, old: int, new: int) -> None:
    if new < old:  # it holds something
        for of in (places.sidecar, places.tar, places.responses, places.moved):
            with suppress(FileNotFoundError):  # moved already, or never there
                move(of(old), of(new))
    _copy_rejects(aside, places, new, new)
    copy_file(aside.stats(new), places.stats(new))
