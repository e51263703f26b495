"""Pairs of a dataset on a list: one pass over its sidecars, and one over what it dropped."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alignset.pipeline.datasets.funnel import FOLDER as HISTORY
from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.earlier_sets import OF_SETS
from alignset.pipeline.runs.documents import Manifest
from alignset.transforms.blocklists.blocklists import Blocklists
from alignset.transforms.columns.pair_columns import LEDGERS
from alignset.transforms.columns.records import keys_of
from alignset.transforms.rules.given import TAKEN_DOWN
from alignset.transforms.shards.leaving_pairs import (
    LISTED,
    leaving_of,
    listed_in_shard,
    listed_rejects,
    listed_texts,
    may_be_taken,
)
from alignset.transforms.shards.shard_places import OF_OLDER_SETS, ShardPlaces
from alignset.transforms.storage.files import is_local, match
from alignset.transforms.storage.parquet_files import batches_of
from alignset.transforms.workers.threads import map_in_threads

FEW = 10  # pairs; a dataset of fewer is a trial


@dataclass(frozen=True)
class Listed:
    """Pairs of a dataset on a list.

    Attributes:
      details: how many pairs that it holds are on each list, by which kind of entry; pairs: their
        sum.
      shards: how many shards hold some.
      rejected_rows: how many rows of what it dropped name what is on a list; newly_taken: those in
        `rejected/` itself that were not taken down before.
      leaving: what leaves or is marked, as LEAVING, by the name of its file of `rejected/`.
      of: how many shards hold something. most: whether more than half is on a list, perhaps by
        mistake.
    """

    details: dict[str, int]
    pairs: int
    shards: int
    rejected_rows: int
    newly_taken: int
    leaving: dict[str, pa.Table] = field(repr=False)
    of: int
    most: bool


def find_listed(out: str, manifest: Manifest, lists: Blocklists, *, forget: bool) -> Listed:
    """Looks through a finished dataset; changes nothing.

    Args:
      forget: whether rows that a takedown with lists of these names has left are listed too.

    Raises:
      UsageError: a file is a link, whose target would keep what leaves.
    """
    if is_local(out):
        _refuse_links(out)
    places, holding = ShardPlaces(out), manifest.holding
    original = manifest.resize["resize_mode"] == "original"
    texts = [path for path, _ in match(f"{out}/pairs")] if manifest.job["text_only"] else []

    def list_shard(shard: int) -> pa.Table:
        rows = listed_in_shard(places.stem(shard), lists, original=original)
        return pa.Table.from_batches([rows])

    def list_texts(path: str) -> pa.Table:
        tables = (pa.Table.from_batches([batch]) for batch in batches_of(path))
        return pa.Table.from_batches([listed_texts(table, lists) for table in tables], LISTED)

    names = [places.rejected(shard) for shard in holding]
    names += [f"{out}/rejected/text-{Path(path).name}" for path in texts]
    kept = [*map_in_threads(list_shard, holding), *map_in_threads(list_texts, texts)]
    found = pa.concat_tables([LISTED.empty_table(), *kept]).combine_chunks()
    nothing = LISTED.empty_table().select(["key", "detail"])

    def list_rejects(path: str) -> tuple[pa.Table, int]:
        """Keys and details of rows that are taken down, and how many were not before."""
        tables, new = [nothing], 0
        for rows in batches_of(path):
            details = listed_rejects(rows, lists, found)
            is_taken = pc.equal(rows["reason"], TAKEN_DOWN)
            for of in lists.lists if forget else ():  # of images, whose hashes no row has
                before = pc.and_(is_taken, pc.starts_with(rows["detail"], f"{of.name}:"))
                again = pc.coalesce(details, rows["detail"])
                details = pc.if_else(pc.fill_null(before, False), again, details)
            which = pc.and_(details.is_valid(), may_be_taken(rows, forget=forget))
            columns = [pa.array(keys_of(rows["key"])), details]
            tables.append(pa.table(columns, schema=nothing.schema).filter(which))
            new += pc.sum(pc.and_(which, pc.invert(is_taken))).as_py() or 0
        return pa.concat_tables(tables), new if path.startswith(f"{out}/rejected/") else 0

    paths = [path for path, _ in match(f"{out}/rejected")]
    # Until 0.2 the rejects of earlier datasets came along.
    paths += [path for path, _ in match(f"{out}/{HISTORY}") if "/rejected/" in path]
    rejected = dict(zip(paths, map_in_threads(list_rejects, paths), strict=True))
    of_files = {path: [table] for path, (table, _) in rejected.items() if len(table)}
    for path, rows in zip(names, kept, strict=True):
        if len(rows):
            of_files[path] = [rows.select(nothing.column_names), *of_files.get(path, [])]
    leaving = {}
    for path, tables in of_files.items():
        pairs = pa.concat_tables(tables).combine_chunks()
        keys, first = np.unique(pairs["key"].to_numpy(), return_index=True)
        details = pairs["detail"].combine_chunks().take(pa.array(first))
        leaving[path.removeprefix(f"{out}/")] = leaving_of(keys, TAKEN_DOWN, details)
    return Listed(
        dict(sorted(Counter(found["detail"].to_pylist()).items())),
        len(found),
        sum(len(rows) > 0 for rows in kept[: len(holding)]),
        sum(len(table) for table, _ in rejected.values()),
        sum(new for _, new in rejected.values()),
        leaving,
        len(holding),
        2 * len(found) > manifest.pairs >= FEW,
    )


def _refuse_links(out: str) -> None:
    for name in (*OF_SETS, LEDGERS, *OF_OLDER_SETS, HISTORY):
        folder = Path(out, name)
        linked = [path for path in folder.rglob("*") if path.is_symlink()]
        if folder.is_symlink() and name not in ("shards", "holdout"):  # whose files are named
            linked = [folder]
        if linked:
            raise UsageError(
                f"{min(linked)} is a link, and what it leads to would keep the pairs: put the file "
                "there; nothing was changed"
            )
