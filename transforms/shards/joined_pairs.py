"""Pairs that join a finished shard: they get the URL and the image of one that is there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.columns.carried import json_values
from alignset.transforms.shards.listed_pairs import keys_of
from alignset.transforms.shards.shard_files import TarWriter
from alignset.transforms.storage.tar_members import Member, tar_members

MOVED = pa.schema([("key", pa.string()), ("url", pa.string())])
FIRST_URL = "first_url"  # beside the columns of a sidecar: of a pair that moves


def as_columns(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows with all columns of a schema; null where they have none."""
    columns = [
        rows[field.name].cast(field.type)
        if field.name in rows.column_names
        else pa.nulls(len(rows), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def with_joined_rows(rows: pa.Table, joining: pa.Table) -> tuple[pa.Table, dict[str, str]]:
    """The rows of a sidecar with others that join it, and of each of these the pair whose image and
    URL it gets, by their keys."""
    image = pc.index_in(joining["kept"], pa.array(keys_of(rows["key"])))
    there = pc.is_in(joining["key"], value_set=rows["key"].combine_chunks())
    new = as_columns(joining, rows.schema).set_column(
        rows.schema.get_field_index("url"), rows.schema.field("url"), rows["url"].take(image)
    )
    sources = dict(
        zip(joining["key"].to_pylist(), rows["key"].take(image).to_pylist(), strict=True)
    )
    return pa.concat_tables([rows, new.filter(pc.invert(there))]).sort_by("key"), sources


def with_joined_responses(responses: pa.Table, joining: pa.Table) -> pa.Table:
    """The responses, and those from which the images of the joining pairs came."""
    at = pc.index_in(joining["kept"], pa.array(keys_of(responses["key"])))
    there = pc.is_in(joining["key"], value_set=responses["key"].combine_chunks())
    joins = pc.and_(at.is_valid(), pc.invert(there))
    new = responses.take(at.filter(joins)).set_column(
        0, responses.schema.field("key"), joining["key"].filter(joins)
    )
    return pa.concat_tables([responses, new]).sort_by("key")


def with_first_urls(moved: pa.Table, joining: pa.Table) -> pa.Table:
    """The first URLs of moved pairs, as MOVED, and of those that join."""
    there = pc.is_in(joining["key"], value_set=moved["key"].combine_chunks())
    new = joining.filter(pc.invert(there)).select(["key", FIRST_URL])
    return pa.concat_tables([moved, new.rename_columns(MOVED.names).cast(MOVED)]).sort_by("key")


def write_tar(
    source: BinaryIO, writer: TarWriter, rows: pa.Table, sources: Mapping[str, str]
) -> str:
    """Copies the samples of some rows out of a tar, in the order of their keys; returns the SHA-256
    of what is written.

    Args:
      sources: of samples that join, the one whose image they get; an attempt that was killed may
        have added them.
    """
    members: dict[str, list[Member]] = {}
    for member in tar_members(source):
        members.setdefault(key_of(member), []).append(member)

    def body(member: Member) -> bytes:
        source.seek(member.at)
        return source.read(member.size)

    for at, key in enumerate(rows["key"].to_pylist()):
        if key in sources:
            image, metadata = members[sources[key]][:2]
            extension = image.name.partition(".")[2]
            (row,) = _json_rows(rows.slice(at, 1))
            # It has what the pair has whose image it gets.
            writer.add_sample(row, body(image), extension, [*json.loads(body(metadata))])
            continue
        for member in members.get(key, ()):
            writer.add((member.name, body(member)))
    return writer.finish()


def _json_rows(rows: pa.Table) -> list[dict[str, Any]]:
    """The rows of a sidecar as samples have them in JSON."""
    columns = [json_values(column.combine_chunks()) for column in rows.columns]
    return [
        dict(zip(rows.column_names, of_row, strict=True)) for of_row in zip(*columns, strict=True)
    ]


def key_of(member: Member) -> str:
    """The key of the sample that a member of a tar is of."""
    return member.name.partition(".")[0]
