"""Pairs of a dataset on a list: one pass over its sidecars, and one over what it dropped."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alignset.pipeline.datasets.history import FOLDER as HISTORY
from alignset.pipeline.datasets.numbers import in_threads
from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.earlier_sets import OF_SETS
from alignset.pipeline.runs.documents import Manifest
from alignset.transforms.blocklists.blocklists import Blocklists
from alignset.transforms.columns.rejects import keys_of, without_contents
from alignset.transforms.rules.given import BLOCKED, TAKEN_DOWN
from alignset.transforms.shards.leaving_pairs import leaving_of, may_be_taken
from alignset.transforms.shards.listed_pairs import (
    LISTED,
    listed_in_shard,
    listed_rejects,
    listed_texts,
)
from alignset.transforms.shards.shard_places import ShardPlaces
from alignset.transforms.storage.files import is_local, match
from alignset.transforms.storage.parquet_files import batches_of, schema_of, write_batches

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
    leaving: dict[str, pa.Table]
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
        stem = places.tar(shard).removesuffix(".tar")
        return pa.Table.from_batches([listed_in_shard(stem, lists, original=original)])

    def list_texts(path: str) -> pa.Table:
        tables = (pa.Table.from_batches([batch]) for batch in batches_of(path))
        return pa.Table.from_batches([listed_texts(table, lists) for table in tables], LISTED)

    names = [places.rejected(shard) for shard in holding]
    names += [f"{out}/rejected/text-{Path(path).name}" for path in texts]
    kept = [*in_threads(list_shard, holding), *in_threads(list_texts, texts)]
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
    # Which have texts, and images of examples.
    paths += [path for path, _ in match(f"{out}/{HISTORY}") if "/rejected/" in path]
    rejected = dict(zip(paths, in_threads(list_rejects, paths), strict=True))
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
    for name in (*OF_SETS, "responses", HISTORY):
        folder = Path(out, name)
        linked = [path for path in folder.rglob("*") if path.is_symlink()]
        if folder.is_symlink() and name not in ("shards", "holdout"):  # whose files are named
            linked = [folder]
        if linked:
            raise UsageError(
                f"{min(linked)} is a link, and what it leads to would keep the pairs: put the file "
                "there; nothing was changed"
            )


def forget_listed(out: str, lists: Blocklists) -> None:
    """Takes URL and text out of the rows of `history/*/rejected/` that are on a list, or whose
    pairs this run has blocked, as by its image. The earlier datasets' own files stay."""
    if not lists.lists:
        return
    blocked = set[str]()
    for path, _ in match(f"{out}/rejected"):
        for rows in batches_of(path, ["key", "reason"]):
            blocked |= {*rows.filter(pc.equal(rows["reason"], BLOCKED))["key"].to_pylist()}
    value_set = pa.array(blocked, pa.string())

    def marks(rows: pa.RecordBatch) -> pa.BooleanArray:
        urls, captions = (pc.fill_null(rows[name], "") for name in ("url", "caption"))
        listed = lists.match_pairs(urls, captions, keys_of(rows["key"])).is_valid()
        is_blocked = pc.fill_null(pc.is_in(rows["key"], value_set=value_set), False)
        return pc.and_(rows["url"].is_valid(), pc.or_(listed, is_blocked))

    for path in (path for path, _ in match(f"{out}/{HISTORY}") if "/rejected/" in path):
        if any(pc.any(marks(rows)).as_py() for rows in batches_of(path)):
            forgotten_rows = (without_contents(rows, marks(rows)) for rows in batches_of(path))
            write_batches(path, schema_of(path), forgotten_rows, None)
