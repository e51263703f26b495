"""Pairs that leave finished files of a dataset, written down before the first of these changes.

They are in a folder that is laid out as the output: `rejected/images-00012.parquet` names what
leaves shard 12, and which rows of that file of `rejected/` are taken down. So a worker reads only
what concerns its file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alignset.transforms.columns.hashing import UInt64s
from alignset.transforms.columns.records import key_hashes
from alignset.transforms.columns.rejects import keys_of
from alignset.transforms.rules.given import TAKEN_DOWN
from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces
from alignset.transforms.storage.files import exists, match, write_atomically
from alignset.transforms.storage.parquet_files import read_rows

Rows = TypeVar("Rows", pa.Table, pa.RecordBatch)
# `near`: the image that is kept in its place is another file.
LEAVING = pa.schema(
    [
        *(("key", pa.uint64()), ("reason", pa.string()), ("detail", pa.string())),
        ("near", pa.bool_()),
    ]
)
MOST_PICTURED = 200  # of a shard: as many as `alignset look` shows, by the hashes of their keys


def leaving_of(keys: UInt64s, reason: str, details: pa.StringArray | None = None) -> pa.Table:
    """Pairs that leave for one reason, as LEAVING.

    Args:
      keys: uint64[n]. details: string[n]; None where there are none.
    """
    count = len(keys)
    near = pa.array(np.zeros(count, np.bool_))
    details = pa.nulls(count, pa.string()) if details is None else details
    return pa.table([pa.array(keys), pa.repeat(reason, count), details, near], LEAVING)


def write_leaving(folder: str, name: str, rows: pa.Table) -> None:
    """Writes down what leaves; nothing where no row is given.

    Args:
      name: of the file of `rejected/`, below the output. rows: LEAVING, each key once.
    """
    if len(rows):
        write_atomically(f"{folder}/{name}", lambda sink: pq.write_table(rows, sink))


def leaving_files(folder: str) -> list[str]:
    """The names of all files that were written down."""
    return [path.removeprefix(f"{folder}/") for path, _ in match(folder)]


def read_leaving(folder: str, name: str) -> Leaving:
    """Reads the pairs that leave with a file of `rejected/`; perhaps none."""
    path = f"{folder}/{name}"
    return Leaving(read_rows(path) if exists(path) else LEAVING.empty_table())


def name_of(shard: int) -> str:
    """The name of a shard's file of `rejected/`."""
    return ShardPlaces("").rejected(shard).removeprefix("/")


def shard_of(name: str) -> int | None:
    """The number of the shard whose file of `rejected/` has a name; None of other files."""
    kind, _, number = PurePosixPath(name).stem.partition("-")
    first = {"images": 0, "holdout": HOLDOUT}.get(kind)
    shard = None if first is None or not number.isdecimal() else first + int(number)
    return shard if shard is not None and name_of(shard) == name else None


@dataclass(frozen=True)
class Leaving:
    """Pairs that leave a file.

    Attributes:
      rows: LEAVING, each key once.
    """

    rows: pa.Table

    def of(self, name: str, keys: UInt64s) -> pa.Array:
        """A column for pairs with some keys; null where a pair stays: [n]."""
        at = pc.index_in(pa.array(keys), self.rows["key"].combine_chunks())
        return self.rows[name].combine_chunks().take(at)

    def pictured_keys(self, keys: UInt64s) -> set[int]:
        """Those of some kept pairs whose image is shown beside the one that is kept."""
        near = keys[pc.fill_null(self.of("near", keys), False).to_numpy(zero_copy_only=False)]
        return set(near[np.argsort(key_hashes(near))][:MOST_PICTURED].tolist())

    def rest_of(self, rows: Rows) -> Rows:
        """Some kept pairs without those that leave."""
        return rows.filter(self.of("reason", keys_of(rows["key"])).is_null())


def may_be_taken(rows: pa.RecordBatch, *, forget: bool) -> pa.BooleanArray:
    """Which rows of `rejected/` a takedown may mark: those that still name a URL, and were not
    taken down before, or are to be forgotten."""
    holds = rows["url"].is_valid()
    return holds if forget else pc.and_(holds, pc.not_equal(rows["reason"], TAKEN_DOWN))
