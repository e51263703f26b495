"""Shards that hold something are numbered without a gap, as readers of {00000..00099}.tar expect.

A shard in which nothing is kept has no tar, and its number would be missing. So the last of the
shards that hold something take such numbers, and the empty ones take theirs. Few files move, and
none of those before the first gap.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces, older_of, shards_there
from alignset.transforms.shards.shard_stats import ShardStats
from alignset.transforms.storage.documents import find_document, read_document, write_document
from alignset.transforms.storage.files import copy_file, exists, move, remove, write_atomically

# Files that empty shards have too.
_OF_ALL = (ShardPlaces.rejected, ShardPlaces.ledger, ShardPlaces.evidence)


def new_numbers(shards: Mapping[int, bool]) -> dict[int, int]:
    """The new number of each shard that takes another.

    Args:
      shards: whether each shard holds something, by its number.

    >>> new_numbers({0: True, 1: False, 2: True})
    {2: 1, 1: 2}
    """
    down: dict[int, int] = {}
    for first, end in ((0, HOLDOUT), (HOLDOUT, 2 * HOLDOUT)):
        holding = sorted(shard for shard, holds in shards.items() if holds and first <= shard < end)
        gaps = sorted(set(range(first, first + len(holding))).difference(holding))
        down |= zip(holding[len(holding) - len(gaps) :], gaps, strict=True)
    return down | {gap: shard for shard, gap in down.items() if gap in shards}


def renumber_shards(out: str, work: str) -> None:
    """Gives the finished shards of a dataset their last numbers. If it is killed anywhere, it can
    be done again.

    The files that both of two exchanged shards have are first put aside under their new names.
    When all of them are there their numbers are written down, and only then the output changes.

    Args:
      out: the output folder. work: a folder for what is put aside, which goes at the run's end.
    """
    places, aside = ShardPlaces(out), ShardPlaces(f"{work}/renumbered")

    def put_aside(old: int, new: int) -> None:
        for path_of in _OF_ALL:
            if exists(path_of(places, old)):
                copy_file(path_of(places, old), path_of(aside, new))
        stats = read_document(places.stats(old), ShardStats)
        write_atomically(aside.stats(new), replace(stats, shard=new % HOLDOUT).encode())

    def bring(old: int, new: int) -> None:
        stems = [places.stem(of) for of in (old, new)]
        paths = [[f"{of}.parquet", f"{of}.tar", *older_of(of)] for of in stems]
        for path, new_path in zip(*paths, strict=True) if new < old else ():  # else it is empty
            with suppress(FileNotFoundError):  # there is none, or it was moved before
                move(path, new_path)
        for path_of in _OF_ALL:
            if exists(path_of(aside, new)):
                copy_file(path_of(aside, new), path_of(places, new))
            elif exists(aside.stats(new)):  # else the run has ended; a download has no rejects
                remove(path_of(places, new))
        copy_file(aside.stats(new), places.stats(new))

    with ThreadPoolExecutor(16) as pool:  # since a store answers slowly
        numbers = find_document(f"{work}/renumbered.json", dict[int, int])
        if numbers is None:
            numbers = new_numbers(shards_there(out))
            list(pool.map(put_aside, numbers, numbers.values()))  # raises what one did
            write_document(f"{work}/renumbered.json", numbers)
        list(pool.map(bring, numbers, numbers.values()))
    for gap in numbers.keys() - {*numbers.values()}:
        for path_of in (*_OF_ALL, ShardPlaces.stats):
            remove(path_of(places, gap))
