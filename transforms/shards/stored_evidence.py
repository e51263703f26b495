"""Licence hints and responses that datasets have of their images, for a dataset made from them."""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.columns.pair_columns import SOURCE_LICENSE
from alignset.transforms.shards.stated_opt_outs import RESPONSE, RESPONSE_TYPE, RESPONSES
from alignset.transforms.storage.broken_files import BrokenInputError
from alignset.transforms.storage.files import exists
from alignset.transforms.storage.parquet_files import read_columns

# Columns of the sidecars, by their names on the way to a shard.
_STATED = {
    SOURCE_LICENSE: "page_license",
    "web_statement": "web_statement",
    "usage_terms": "usage_terms",
}
_SHORT = 1 << 12  # characters of a text
_IDENTITY = ("key", "url", "caption")
_SIDECAR = pa.schema([(name, pa.string()) for name in (*_IDENTITY, *_STATED.values())])


def stored_evidence(pairs: pa.Table) -> dict[str, pa.Array]:
    """The hints on licences and the responses of pairs whose images are stored in datasets of ours,
    as these have them.

    Args:
      pairs: columns url, caption, and perhaps source_path (string or binary): where a stored image
        is.

    Returns:
      By name n rows each, null where nothing is known: SOURCE_LICENSE, web_statement and
      usage_terms, string[n], and RESPONSE, a struct. Nothing where no image is stored.
    """
    if "source_path" not in pairs.column_names:
        return {}
    columns: dict[str, list[object]] = {name: [None] * len(pairs) for name in (*_STATED, RESPONSE)}
    pairs_of: dict[bytes, list[int]] = {}
    for pair, path in enumerate(pairs["source_path"].to_pylist()):
        if path:
            pairs_of.setdefault(os.fsencode(path), []).append(pair)
    texts = (pairs[name].to_pylist() for name in ("url", "caption"))
    identities = [(url[:_SHORT], caption[:_SHORT]) for url, caption in zip(*texts, strict=True)]
    for path, members in sorted(pairs_of.items()):
        rows = _rows_beside(os.fsdecode(path), {identities[pair] for pair in members})
        for pair in members:
            if row := rows.get(identities[pair]):
                for name in columns:
                    columns[name][pair] = row[name]
    kinds = dict.fromkeys(_STATED, pa.string()) | {RESPONSE: RESPONSE_TYPE}
    return {name: pa.array(values, kinds[name]) for name, values in columns.items()}


def filled(column: pa.Array | None, evidence: pa.Array) -> pa.Array:
    """A column with what is known of it where it is null."""
    return evidence if column is None else pc.if_else(column.is_valid(), column, evidence)


def _rows_beside(
    tar: str, wanted: set[tuple[str, str]]
) -> dict[tuple[str, str], dict[str, object]]:
    """The rows of a shard of a dataset of ours, by the URLs and alt-texts that are wanted; none of
    another tool's, or where they cannot be read."""
    folder, _, name = tar.rpartition("/")
    root, _, side = folder.rpartition("/")
    if side not in ("shards", "holdout") or not exists(f"{root}/manifest.json"):
        return {}
    number = f"{'holdout-' if side == 'holdout' else ''}{name.removesuffix('.tar')}"
    rows: dict[tuple[str, str], dict[str, object]] = {}
    try:
        for batch in read_columns(f"{tar.removesuffix('.tar')}.parquet", _SIDECAR, _SHORT):
            for row in batch.rename_columns([*_IDENTITY, *_STATED]).to_pylist():
                if (row["url"], row["caption"]) in wanted:
                    rows[row["url"], row["caption"]] = row | {RESPONSE: None}
        path = f"{root}/responses/{number}_responses.parquet"
        if exists(path):
            rows_by_key = {row["key"]: row for row in rows.values()}
            for batch in read_columns(path, RESPONSES, _SHORT):
                for response in batch.to_pylist():
                    if row := rows_by_key.get(response["key"]):
                        row[RESPONSE] = {of.name: response[of.name] for of in RESPONSE_TYPE}
    except BrokenInputError:
        return {}
    return rows
