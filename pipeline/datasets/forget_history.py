"""URLs and texts that are to be forgotten leave the rejects of earlier datasets, too."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from alignset.pipeline.datasets.history import FOLDER
from alignset.transforms.blocklists.blocklists import Blocklists
from alignset.transforms.columns.rejects import without_contents
from alignset.transforms.rules.given import BLOCKED
from alignset.transforms.shards.listed_pairs import keys_of
from alignset.transforms.storage.files import match
from alignset.transforms.storage.parquet_files import batches_of, schema_of, write_batches


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

    for path in (path for path, _ in match(f"{out}/{FOLDER}") if "/rejected/" in path):
        if any(pc.any(marks(rows)).as_py() for rows in batches_of(path)):
            forgotten_rows = (without_contents(rows, marks(rows)) for rows in batches_of(path))
            write_batches(path, schema_of(path), forgotten_rows, None)
