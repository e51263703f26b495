"""Images that lie in tars of the input, and what datasets of ours know of theirs."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.arrivals.images import COLUMNS, RESPONSES
from alignset.transforms.columns.pair_columns import SOURCE_LICENSE
from alignset.transforms.columns.rejects import with_values
from alignset.transforms.fetching.orders import Fetched
from alignset.transforms.storage.broken_files import BrokenInputError, broken_file
from alignset.transforms.storage.files import exists, open_to_read
from alignset.transforms.storage.parquet_files import read_columns

SPARSE_OR_LINK = -1  # in place of where an image is in its tar
# Columns of the sidecars, by their names on the way to a shard.
_STATED = {
    SOURCE_LICENSE: "page_license",
    "web_statement": "web_statement",
    "usage_terms": "usage_terms",
}
_SHORT = 1 << 12  # characters of a text
_IDENTITY = ("key", "url", "caption")
_SIDECAR = pa.schema([(name, pa.string()) for name in (*_IDENTITY, *_STATED.values())])


def stored_bodies(pairs: pa.Table, max_bytes: int) -> Iterator[Fetched]:
    """The images of pairs that come from shards, read from where they are.

    Args:
      pairs: columns source_path (string or binary), source_at and source_size (int64: place in the
        file, or SPARSE_OR_LINK).
      max_bytes: longer files are not read, and are `too_large`. Missing ones are `input_gone`.
    """
    rows = pairs.select(["source_path", "source_at", "source_size"])
    order = pc.sort_indices(rows, [("source_path", "ascending"), ("source_at", "ascending")])
    path, source = None, None
    try:
        for index in order.to_pylist():
            row = rows.slice(index, 1).to_pylist()[0]
            if row["source_at"] == SPARSE_OR_LINK:
                yield Fetched(index, None, "sparse_or_link")
                continue
            if row["source_size"] > max_bytes:
                yield Fetched(index, None, "too_large")
                continue
            try:
                if source is None or row["source_path"] != path:
                    if source is not None:
                        source.close()
                    path = row["source_path"]
                    source = open_to_read(os.fsdecode(path))
                source.seek(row["source_at"])
                body = source.read(row["source_size"])
            except Exception as error:
                if broken_file(os.fsdecode(row["source_path"]), error) is None:
                    raise
                body = b""
            is_whole = len(body) == row["source_size"]
            yield Fetched(index, body, None) if is_whole else Fetched(index, None, "input_gone")
    finally:
        if source is not None:
            source.close()


def with_stored_evidence(pairs: pa.Table) -> pa.Table:
    """Pairs with the licence hints and the responses that datasets of ours have of the images
    stored there, where nothing else is known.

    Args:
      pairs: columns url, caption, and perhaps source_path (string or binary): where a stored image
        is; SOURCE_LICENSE, web_statement, usage_terms and response are filled.
    """
    if "source_path" not in pairs.column_names:
        return pairs
    columns: dict[str, list[object]] = {
        name: [None] * len(pairs) for name in (*_STATED, "response")
    }
    pairs_by_path: dict[bytes, list[int]] = {}
    for pair, path in enumerate(pairs["source_path"].to_pylist()):
        if path:
            pairs_by_path.setdefault(os.fsencode(path), []).append(pair)
    texts = (pairs[name].to_pylist() for name in ("url", "caption"))
    identities = [(url[:_SHORT], caption[:_SHORT]) for url, caption in zip(*texts, strict=True)]
    for path, members in sorted(pairs_by_path.items()):
        rows = _rows_beside(os.fsdecode(path), {identities[pair] for pair in members})
        for pair in members:
            if row := rows.get(identities[pair]):
                for name in columns:
                    columns[name][pair] = row[name]
    filled = {}
    for name, values in columns.items():
        filled[name] = pa.array(values, COLUMNS.get(name, pa.string()))
        if name in pairs.column_names:
            known = pairs[name].combine_chunks()
            filled[name] = pc.if_else(known.is_valid(), known, filled[name])
    return with_values(pairs, filled)


def _rows_beside(
    tar: str, wanted: set[tuple[str, str]]
) -> dict[tuple[str, str], dict[str, object]]:
    """The rows of a shard of a dataset of ours, by the URLs and alt-texts that are wanted; none of
    another tool's, or where they cannot be read."""
    folder, _, name = tar.rpartition("/")
    root, _, split = folder.rpartition("/")
    if split not in ("shards", "holdout") or not exists(f"{root}/manifest.json"):
        return {}
    number = f"{'holdout-' if split == 'holdout' else ''}{name.removesuffix('.tar')}"
    rows: dict[tuple[str, str], dict[str, object]] = {}
    try:
        for batch in read_columns(f"{tar.removesuffix('.tar')}.parquet", _SIDECAR, _SHORT):
            for row in batch.rename_columns([*_IDENTITY, *_STATED]).to_pylist():
                if (row["url"], row["caption"]) in wanted:
                    rows[row["url"], row["caption"]] = row | {"response": None}
        path = f"{root}/responses/{number}_responses.parquet"
        if exists(path):
            rows_by_key = {row["key"]: row for row in rows.values()}
            for batch in read_columns(path, RESPONSES, _SHORT):
                for response in batch.to_pylist():
                    if row := rows_by_key.get(response["key"]):
                        row["response"] = response
    except BrokenInputError:
        return {}
    return rows
