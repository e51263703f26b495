"""Rows of datasets: how keys and dropped pairs are written, each with its step, reason and detail;
and rows as a report shows them: a few examples, chosen by the hashes of their keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.columns.pair_columns import LANGUAGE_COLUMNS, PAGE_URL

KEPT = "kept"  # the outcome of a pair that was dropped for no reason
THUMBNAIL_PX = 96  # the longer side, at most
LONGEST_TEXT, LONGEST_URL, LONGEST_WORD = 300, 500, 120  # characters that are shown
MOST_WORDS = 99  # texts of more words are in one bin with those of so many
_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd: a shard's keys share their top bits

Ints = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Axis:
    """The bins of one measure.

    Attributes:
      edges: ascending. A value's bin is how many edges it passes, in the sense of its rule; the bin
        after the last is of what has no such value.
    """

    name: str
    edges: list[float]

    @property
    def bins(self) -> int:
        return len(self.edges) + 2

    @property
    def no_value(self) -> int:
        """The bin of what has no value."""
        return len(self.edges) + 1

    def passes(self, bins: Ints, edge: float, *, beyond: bool) -> npt.NDArray[np.bool_]:
        """Which bins a rule keeps whose threshold is an edge, all where it is none: what is
        `beyond` the edge or else what is not, and what has no value."""
        if edge not in self.edges:
            return np.ones(len(bins), np.bool_)
        place = self.edges.index(edge)
        is_kept = bins > place if beyond else bins <= place
        return is_kept | (bins == self.no_value)


def key_hashes(keys: UInt64s) -> UInt64s:
    """uint64[n], by which examples are chosen: the smallest are, on every runner."""
    return keys * _MIX


def least_rows(hashes: UInt64s, rows: Ints, count: int) -> Ints:
    """The rows with the smallest hashes among some, in their order; the first of equal hashes.

    Args:
      hashes: uint64[n], of all rows. rows: int64[m]. count: at most so many.
    """
    of_rows = hashes[rows]
    if len(rows) > 8 * count:
        bound = np.partition(of_rows, 4 * count)[4 * count]
        near = np.flatnonzero(of_rows <= bound)
        _, first = np.unique(of_rows[near], return_index=True)
        if len(first) >= count:
            return rows[near[first[:count]]]
    _, first = np.unique(of_rows, return_index=True)
    return rows[first[:count]]


def nearest_rows(ranks: npt.NDArray[np.float64], hashes: UInt64s, rows: Ints, count: int) -> Ints:
    """The rows with the smallest ranks among some; the smallest hashes decide between equal ranks.

    Args:
      ranks: float64[n]; a row without one (NaN) is never chosen.
    """
    rows = rows[~np.isnan(ranks[rows])]
    if len(rows) > count:
        bound = np.partition(ranks[rows], count)[count]
        rows = rows[ranks[rows] <= bound]
    order = np.lexsort((hashes[rows], ranks[rows]))
    return rows[order[:count]]


def cut(text: str | None, longest: int) -> str:
    """A text as it is shown: only the beginning of a very long one."""
    text = text or ""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def hosts_of(urls: pa.StringArray) -> pa.StringArray:
    """The host of each URL, with its port where that is given; "" where there is none."""
    found = pc.struct_field(pc.extract_regex(urls, r"://(?:[^/?#]*@)?(?P<host>[^/?#@]*)"), [0])
    return pc.utf8_slice_codeunits(pc.utf8_lower(pc.fill_null(found, "")), 0, LONGEST_WORD)


def host_of(url: str) -> str:
    """The host of one URL, as `hosts_of` has it."""
    return hosts_of(pa.array([url]))[0].as_py()


REJECTED = pa.schema(
    [
        ("key", pa.string()),
        ("url", pa.string()),
        ("caption", pa.string()),
        ("step", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("also_reasons", pa.string()),  # further reasons of the text stage that apply
        (PAGE_URL, pa.string()),
        *((name, pa.string()) for name in ("page_license", "page_rsl")),  # as sidecars have all
        ("opted_out", pa.string()),
        # Doubles: as a float, a score just below the threshold would be shown as the threshold.
        ("language_score", pa.float64()),
        ("width", pa.int32()),  # px, of an image that could be looked at
        ("height", pa.int32()),
        ("unsafe_score", pa.float64()),
        ("evaluation_set", pa.string()),
        ("evaluation_image", pa.string()),
        ("evaluation_distance", pa.float64()),
        ("evaluation_numbers", pa.string()),  # JSON: what the measure found on the way
        ("thumbnail", pa.binary()),  # JPEG, of a copy of an evaluation image or an example
    ]
)
# How images look, in sidecars where `--duplicates=near` asks for it.
LOOK_SCHEMA = pa.schema(
    [
        ("descriptor", pa.list_(pa.int8(), 64)),
        ("trimmed_phash", pa.string()),
        ("chroma", pa.list_(pa.int8(), 32)),
        ("one_tone", pa.float32()),
        ("has_border", pa.bool_()),
    ]
)
# By which an image came.
RESPONSE = pa.schema(
    [
        *(("final_url", pa.string()), ("status", pa.int16()), ("date", pa.timestamp("ms", "UTC"))),
        *((name, pa.string()) for name in ("content_type", "etag", "last_modified")),
    ]
)
RULE_COLUMN = "rule_"  # how columns of ledgers begin that have what rules of users measured
# A row for each image that a shard requested, sorted by `image`, the hash of its URL's identity.
# `key` is of the first pair that is kept with it, by which its file is in the tar; the reason says
# why it is dropped, whatever its pair is. Sizes, bytes, format and SHA-256 are of the fetched file.
# Further columns follow for rules of users that see pixels alone. What nobody knows is null,
# and so is all but `image` and the reason of what was taken down.
LEDGER = pa.schema(
    [
        *(("image", pa.uint64()), ("bytes", pa.int64()), ("width", pa.int32())),
        *(("height", pa.int32()), ("unsafe_score", pa.float64())),
        ("evaluation_distance", pa.float64()),
        *((name, pa.string()) for name in ("key", "reason", "detail", "format", "sha256", "phash")),
        *((f"evaluation_{name}", pa.string()) for name in ("set", "image", "numbers")),
        *((name, pa.string()) for name in ("opted_out", "web_statement", "usage_terms")),
        ("opt_out_headers", pa.string()),  # as `record_response` has it; null: nobody knows
        *RESPONSE,
    ]
)
BOXES = pa.field("boxes", pa.string())  # of ledgers, where boxes are blurred: their hash
# A row for each file by which a host's images in a shard were judged (HostAnswer), sorted by its
# first three columns.
EVIDENCE = pa.schema(
    [
        *((name, pa.string()) for name in ("origin", "kind", "url")),
        *(("status", pa.int16()), ("detail", pa.string()), ("read_at", pa.timestamp("ms", "UTC"))),
        *(("sha256", pa.string()), ("body", pa.binary())),
    ]
)


def key_column(keys: npt.NDArray[np.uint64]) -> pa.StringArray:
    """uint64[n] keys as 16 hex digits each, the most significant first: string[n]."""
    digits = keys.astype(">u8").tobytes().hex().encode()
    ends = np.arange(len(keys) + 1, dtype=np.int32) * 16
    return pa.StringArray.from_buffers(len(keys), pa.py_buffer(ends), pa.py_buffer(digits))


def keys_of(column: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.uint64]:
    """uint64[n] of keys or perceptual hashes that are written as 16 hex digits; 0 of a null."""
    digits = pc.fill_null(column, "0" * 16).to_pylist()
    return np.frombuffer(bytes.fromhex("".join(digits)), ">u8").astype(np.uint64)


def extend_schema(schema: pa.Schema, columns: Iterable[str | pa.Field]) -> pa.Schema:
    """A schema with further columns behind its own. Columns that are only named have numbers,
    except languages."""
    for column in columns:
        if isinstance(column, str):
            kind = pa.string() if column in LANGUAGE_COLUMNS else pa.float64()
            column = pa.field(column, kind)
        schema = schema.append(column)
    return schema


def set_columns(table: pa.Table, columns: Mapping[str, pa.Array | pa.ChunkedArray]) -> pa.Table:
    """A table with some columns, in place of those that have their names."""
    columns_before = dict(zip(table.column_names, table.columns, strict=True))
    return pa.table(columns_before | dict(columns)).combine_chunks()


def fill_columns(
    schema: pa.Schema, columns: Mapping[str, pa.Array | pa.ChunkedArray], count: int
) -> pa.Table:
    """A table of `count` rows with some columns; those that are not there are null."""
    arrays = [
        columns[field.name].cast(field.type)
        if field.name in columns
        else pa.nulls(count, field.type)
        for field in schema
    ]
    return pa.table(arrays, schema=schema)


def pages_of(rows: pa.RecordBatch) -> pa.StringArray:
    """The column `page_url`, string[n]; null where the source knows no page."""
    if PAGE_URL in rows.schema.names:
        return rows[PAGE_URL]
    return pa.nulls(len(rows), pa.string())


def rejected_rows(
    pairs: pa.RecordBatch,
    reasons: pa.StringArray,
    details: pa.StringArray,
    steps: Mapping[str, str],
    measures: Mapping[str, pa.Array] | None = None,
    schema: pa.Schema = REJECTED,
) -> pa.RecordBatch:
    """The dropped pairs of a batch in the form in which they are written.

    Args:
      pairs: columns `key` (uint64[n]), `url`, `caption` and perhaps `page_url`
        (string[n]).
      reasons: string[n], null for the kept. details: string[n] or null.
      steps: of the stage, by reason.
      measures: further columns by name, n rows each; those that are not here are null. The
        columns above go before what has their names.
      schema: REJECTED, or that `extend_schema` of rules of users.
    """
    is_dropped = reasons.is_valid()
    rows, why = pairs.filter(is_dropped), reasons.filter(is_dropped)
    names = why.dictionary_encode()
    of_reasons = pa.array([steps[reason] for reason in names.dictionary.to_pylist()], pa.string())
    further = {PAGE_URL: pages_of(pairs), **(measures or {})}
    columns = {
        name: column.filter(is_dropped)
        for name, column in further.items()
        if name in schema.names and column is not None
    } | {
        "key": key_column(rows["key"].to_numpy()),
        "url": rows["url"],
        "caption": rows["caption"],
        "step": of_reasons.take(names.indices),
        "reason": why,
        "detail": details.filter(is_dropped),
    }
    arrays = [columns.get(of.name, pa.nulls(len(rows), of.type)) for of in schema]
    return pa.record_batch(arrays, schema=schema)


def clear_contents(rows: pa.RecordBatch, which: pa.BooleanArray) -> pa.RecordBatch:
    """Rows of REJECTED or of a ledger, some of them with key, step, reason and detail, or image,
    alone: without URL, text, page, hashes or response.

    Args:
      which: bool[n].
    """
    if not pc.any(which).as_py():
        return rows
    names = ("key", "step", "reason", "detail", "image")
    columns = [
        rows[name]
        if name in names
        else pc.if_else(which, pa.scalar(None, rows[name].type), rows[name])
        for name in rows.schema.names
    ]
    return pa.record_batch(columns, schema=rows.schema)
