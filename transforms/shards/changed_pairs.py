"""Pairs that leave finished shards, or join them, for what is known of the whole dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.columns.hashing import UInt64s
from alignset.transforms.columns.records import key_hashes
from alignset.transforms.rules.catalogue import STEPS_OF_COPIES
from alignset.transforms.shards.listed_pairs import keys_of
from alignset.transforms.storage.files import exists
from alignset.transforms.storage.parquet_files import read_rows

Rows = TypeVar("Rows", pa.Table, pa.RecordBatch)
# A pair without a reason moves: it is in another shard then, and not in rejected/. `near`: what is
# kept in its place is another file.
LEAVING = pa.schema(
    [
        *(("key", pa.uint64()), ("reason", pa.string()), ("detail", pa.string())),
        ("near", pa.bool_()),
    ]
)
MOST_PICTURED = 200  # of a shard: as many as `alignset look` shows, by the hashes of their keys


@dataclass(frozen=True)
class ChangePlaces:
    """Where it is written down what changes in each shard."""

    folder: str

    def leaving(self, shard: int) -> str:
        """The pairs that leave it, as LEAVING."""
        return f"{self.folder}/{shard}-leaving.parquet"

    def joining(self, shard: int) -> str:
        """The rows of other sidecars that join it. `kept` is the key of its pair whose image and
        URL they get."""
        return f"{self.folder}/{shard}-joining.parquet"


@dataclass(frozen=True)
class Changes:
    """Changes of one shard, or of files that pairs only leave.

    Attributes:
      rows: LEAVING. joining: as `ChangePlaces` has it, None where nothing joins.
      steps: of the funnel, by reason.
    """

    rows: pa.Table
    joining: pa.Table | None = None
    steps: ClassVar[Mapping[str, str]] = STEPS_OF_COPIES

    @cached_property
    def _keys(self) -> pa.Array:
        return self.rows["key"].combine_chunks()

    def _of(self, name: str, keys: UInt64s) -> pa.StringArray:
        at = pc.index_in(pa.array(keys), self._keys)
        return self.rows[name].combine_chunks().take(at)

    def reasons_of(self, keys: UInt64s) -> pa.StringArray:
        """Why each of some kept pairs leaves; null where it stays, or moves: string[n]."""
        return self._of("reason", keys)

    def details_of(self, keys: UInt64s) -> pa.StringArray:
        """The details beside the reasons: string[n]."""
        return self._of("detail", keys)

    def pictured_keys(self, keys: UInt64s) -> set[int]:
        """Those of some kept pairs whose image is shown beside the one that is kept."""
        is_near = pc.is_in(pa.array(keys), value_set=self._keys.filter(self.rows["near"]))
        near = keys[is_near.to_numpy(zero_copy_only=False)]
        return set(near[np.argsort(key_hashes(near))][:MOST_PICTURED].tolist())

    def rest_of(self, rows: Rows) -> Rows:
        """Some kept pairs without those that leave."""
        leaves = pc.is_in(pa.array(keys_of(rows["key"])), value_set=self._keys)
        return rows.filter(pc.invert(leaves))

    def details_of_dropped(self, rows: pa.RecordBatch) -> pa.StringArray:
        """Why rows of `rejected/` may never be read again: all may."""
        return pa.nulls(len(rows), pa.string())


def read_changes(folder: str, shard: int) -> Changes:
    """Changes that were written down for a shard."""
    places = ChangePlaces(folder)
    leaving, joining = places.leaving(shard), places.joining(shard)
    return Changes(
        read_rows(leaving) if exists(leaving) else LEAVING.empty_table(),
        read_rows(joining) if exists(joining) else None,
    )
