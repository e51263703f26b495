"""Contents of a finished dataset, for its card: sizes, examples and days, from a list of its files
and from a few of them, however many there are."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import UNSET, UnsetType

from alignset.pipeline.runs.documents import Days, Manifest, RunDescription
from alignset.pipeline.runs.work_folder import WrittenShard
from alignset.transforms.columns.pair_columns import LANGUAGE_COLUMNS
from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces
from alignset.transforms.storage.files import is_local, open_to_read
from alignset.transforms.storage.object_stores import match_objects

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_MOST_SHARDS, _EXAMPLES = 16, 5
_LONGEST_TEXT, _LONGEST_URL = 300, 200  # characters that are shown
# Columns of ours that state a licence or terms, and the names of an input's that may.
_LICENCES = ("page_license", "web_statement", "usage_terms")
_IS_LICENCE = re.compile("licen[cs]e|rights|terms", re.IGNORECASE).search
_MOST_LICENCES, _LONGEST_LICENCE = 10, 100
_COLUMNS = ("key", "caption", "width", "height", "url")
# Of JSON, as it is written within HTML; the last begins and ends code in Markdown.
_NEVER_BARE = "<>&`"


@dataclass(frozen=True)
class Contents:
    """Facts about the pairs for the card.

    Attributes:
      shards, pairs: how many were looked into.
      quantiles: by name, at QUANTILES. examples: a line of JSON each.
      tar_bytes: of all tars. languages: of the pairs that were looked into, the most first.
      licences: how many of these pairs have which value, by column, the most first; "" stands for
        rarer values.
    """

    shards: int = 0
    pairs: int = 0
    quantiles: dict[str, list[int]] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    tar_bytes: int = 0
    languages: dict[str, int] = field(default_factory=dict)
    licences: dict[str, dict[str, int]] = field(default_factory=dict)


def look_into(out: str, manifest: Manifest) -> Contents:
    """Facts about a dataset's pairs for the card.

    Keys are hashes, so that a few shards, evenly spread, are a random sample of the pairs.
    """
    if manifest.job["text_only"]:
        names = sorted(file.name for file in files_in(f"{out}/pairs"))[:_MOST_SHARDS]
        paths = [f"{out}/pairs/{name}" for name in names]
        licences, pairs = licence_counts(paths, manifest)
        return Contents(
            pairs=pairs,
            examples=_examples(_first_rows(paths)),
            languages=_counts_by(paths, LANGUAGE_COLUMNS[0]),
            licences=licences,
        )
    numbers = sorted(number for number, shard in manifest.shards.items() if shard.pairs)
    if not numbers:
        return Contents()
    sample = {numbers[at * len(numbers) // _MOST_SHARDS] for at in range(_MOST_SHARDS)}
    paths = [f"{out}/shards/{number}.parquet" for number in sorted(sample)]
    table = pa.concat_tables(map(_read, paths))
    columns = {
        "width, px": table["width"],
        "height, px": table["height"],
        "alt-text, words": word_counts(table["caption"]),
    }
    return Contents(
        len(sample),
        len(table),
        {
            name: [int(q) for q in np.quantile(values, QUANTILES, method="lower")]
            for name, values in columns.items()
        },
        _examples(table.slice(0, _EXAMPLES).to_pylist()),
        sum(file.bytes for file in files_in(f"{out}/shards") if file.name.endswith(".tar")),
        _counts_by(paths, LANGUAGE_COLUMNS[0]),
        licence_counts(paths, manifest)[0],
    )


def word_counts(texts: pa.ChunkedArray) -> Any:
    """int32[n], words as the rules count them, in scripts without spaces too."""
    from alignset.transforms.pairs.texts import measure_texts  # kernels, for this alone

    column = texts.combine_chunks()
    return measure_texts(column, np.ones(len(column), np.bool_)).word_count


def licence_counts(
    paths: Sequence[str], manifest: Manifest
) -> tuple[dict[str, dict[str, int]], int]:
    """The most frequent values of each column of some files that states a licence or terms, and how
    many pairs these have."""
    own = [name for name in manifest.columns or {} if _IS_LICENCE(name)]
    shown: dict[str, dict[str, int]] = {}
    for name in dict.fromkeys((*_LICENCES, *own)):
        counts = _counts_by(paths, name)
        values = {_shorten(of, _LONGEST_LICENCE): n for of, n in counts.items() if of}
        if values:
            most = dict([*values.items()][:_MOST_LICENCES])
            rest = sum(values.values()) - sum(most.values())
            shown[name] = most | ({"": rest} if rest else {})
    return shown, sum(map(_rows, paths))


def _rows(path: str) -> int:
    with open_to_read(path) as source:
        return int(pq.read_metadata(source).num_rows)


def _counts_by(paths: Iterable[str], name: str) -> dict[str, int]:
    """How many pairs of some files have which text in a column, the most first; empty where no file
    has it."""
    counts: Counter[str] = Counter()
    for path in paths:
        with open_to_read(path) as source:
            file = pq.ParquetFile(source)
            if (
                name in file.schema_arrow.names
                and file.schema_arrow.field(name).type == pa.string()
            ):
                column = file.read([name])[0]
                counts.update({n["values"]: n["counts"] for n in column.value_counts().to_pylist()})
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0] or "")))


class _File(NamedTuple):
    name: str
    bytes: int
    written_at: float  # seconds since 1970, or 0 where that is not known


def files_in(folder: str) -> list[_File]:
    """The files in a folder; none where there is no such folder."""
    if is_local(folder):
        if not os.path.isdir(folder):
            return []
        entries = [(entry.name, entry.stat()) for entry in os.scandir(folder)]
        return [_File(name, stat.st_size, stat.st_mtime) for name, stat in entries]
    return [
        _File(file.path.rpartition("/")[2], file.size_in_bytes, file.last_updated_in_seconds)
        for file in match_objects(f"{folder}/*")
    ]


def _read(path: str) -> pa.Table:
    with open_to_read(path) as source:
        return pq.read_table(source, columns=list(_COLUMNS))


def _first_rows(paths: Iterable[str]) -> Iterator[dict[str, Any]]:
    for path in paths:
        with open_to_read(path) as source:
            for batch in pq.ParquetFile(source).iter_batches(_EXAMPLES, columns=list(_COLUMNS)):
                yield from batch.to_pylist()
                break


def _examples(rows: Iterable[dict[str, Any]]) -> list[str]:
    return [example for example, _ in zip(map(as_example, rows), range(_EXAMPLES), strict=False)]


def as_example(row: dict[str, Any]) -> str:
    """A row as a line of JSON that is safe within Markdown and HTML, whatever its texts are."""
    fields = {name: row[name] for name in _COLUMNS if name in row}
    fields["caption"] = _shorten(fields["caption"], _LONGEST_TEXT)
    fields["url"] = _shorten(fields["url"], _LONGEST_URL)
    return "".join(map(_escape, json.dumps(fields, ensure_ascii=False)))


def _shorten(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}…"


def _escape(character: str) -> str:
    if character in _NEVER_BARE:
        return f"\\u{ord(character):04x}"
    return character if character.isprintable() else json.dumps(character)[1:-1]


def fetch_days(
    out: str,
    shards: Sequence[WrittenShard],
    run: RunDescription,
    before: Days | UnsetType = UNSET,
) -> Days | UnsetType:
    """On which days shards were fetched, by when their stats were written, which ends each shard.

    The shards themselves hold no clock. UNSET where nothing was fetched.

    Args:
      run: that fetched them; images of shards are not fetched.
      before: when other shards of the dataset were fetched.
    """
    days = [] if isinstance(before, UnsetType) else [before.first, before.last]
    if shards and any(file.format != "webdataset" for file in run.input):
        places = ShardPlaces(out)
        stats = {places.stats(shard.number) for shard in shards}
        days += [
            datetime.fromtimestamp(file.written_at, UTC).date().isoformat()
            for folder in places.folders[: 1 + any(shard.number >= HOLDOUT for shard in shards)]
            for file in files_in(folder)
            if f"{folder}/{file.name}" in stats and file.written_at
        ]
    return Days(min(days), max(days)) if days else UNSET
