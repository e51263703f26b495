"""Sets of img2dataset: what their stats and sidecars tell."""

from __future__ import annotations

import glob
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alignset.pipeline.datasets.set_records import SetRecords
from alignset.pipeline.runs.documents import Step
from alignset.pipeline.shown_texts import counted
from alignset.transforms.columns.hashing import string_hashes
from alignset.transforms.columns.records import (
    KEPT,
    LONGEST_TEXT,
    LONGEST_URL,
    LONGEST_WORD,
    MOST_HOSTS,
    Example,
    Record,
    Top,
    cut,
    host_of,
    nested,
    top_of,
)
from alignset.transforms.columns.rejects import key_column
from alignset.transforms.storage.files import is_local, open_to_read
from alignset.transforms.storage.matching import match

_STATS = "_stats.json"
_SAMPLED_SHARDS, _SAMPLED_ROWS, _MOST_STATS_BYTES = 16, 20_000, 1 << 22
_ROWS_AT_ONCE = 1000
_DOWNLOAD, _RESIZE = "failed_to_download", "failed_to_resize"


@dataclass
class ForeignSet:
    """What is known of a set of img2dataset; as `Facts`."""

    shards: int = 0
    kept: int = 0
    steps: list[Step] = field(default_factory=list)
    details: dict[str, dict[str, int]] = field(default_factory=dict)
    records: SetRecords = field(default_factory=SetRecords)
    notes: list[str] = field(default_factory=list)


def is_foreign(out: str) -> bool:
    """Whether a folder has shards as img2dataset writes them: their stats are in it itself."""
    return bool(_stats(out))


def find_foreign(out: str) -> ForeignSet:
    """What the stats of all shards tell, and of a sample of them the sidecars."""
    stats = _stats(out)
    totals: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    unread = 0
    for path in stats:
        said = _read_stats(path)
        unread += said is None
        for name in ("count", "successes", _DOWNLOAD, _RESIZE):
            totals[name] += _count((said or {}).get(name))
        of_stats = (said or {}).get("status_dict")
        if isinstance(of_stats, dict):
            for end, count in of_stats.items():
                ends[cut(str(end), LONGEST_WORD)] += _count(count)
    fetched = max(0, totals["count"] - totals[_DOWNLOAD])
    kept = max(0, fetched - totals[_RESIZE])
    foreign = ForeignSet(len(stats), kept)
    foreign.steps = [
        Step("fetch", totals["count"], fetched, {_DOWNLOAD: totals[_DOWNLOAD]}),
        Step("resize", fetched, kept, {_RESIZE: totals[_RESIZE]}),
    ]
    failed = {end: n for end, n in ends.most_common(200) if end not in ("success", _RESIZE)}
    foreign.details = {_DOWNLOAD: failed} if failed else {}
    foreign.notes = [
        "This is a set of img2dataset, which records no rules and no dropped texts: the report "
        "tells what its stats and its Parquet files do."
    ]
    if unread:
        foreign.notes.append(f"{unread:,} of {len(stats):,} stats cannot be read.")
    chosen = stats[:: max(1, len(stats) // _SAMPLED_SHARDS)][:_SAMPLED_SHARDS]
    foreign.records.images.add(list(_sampled(chosen, foreign.notes)), {})
    return foreign


def _stats(out: str) -> list[str]:
    """Those of the folder alone: it may be anybody's, of any depth."""
    folder = glob.escape(out) if is_local(out) else out
    return [path for path, _ in match(f"{folder}/*{_STATS}")]


def _read_stats(path: str) -> dict[str, Any] | None:
    try:
        with open_to_read(path) as source:
            said = json.loads(source.read(_MOST_STATS_BYTES))
    except (ValueError, RecursionError, OSError):
        return None
    return said if isinstance(said, dict) else None


def _count(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < 1 << 60 else 0


def _sampled(stats: Sequence[str], notes: list[str]) -> Iterator[Record]:
    """Records of the sidecars beside some stats: hosts and examples of their first rows."""
    rows_read = 0
    for path in stats:
        sidecar = path.removesuffix(_STATS) + ".parquet"
        try:
            with open_to_read(sidecar) as source:
                rows = list(islice(_rows(source), _SAMPLED_ROWS))
        except (OSError, pa.ArrowException):
            continue
        if rows:
            rows_read += len(rows)
            yield _record(rows, Path(sidecar).stem)
    told = counted(len(stats), "shard")
    notes.append(f"Hosts and examples are a sample: {counted(rows_read, 'row')} of {told}.")


_COLUMNS = (
    *("key", "url", "caption", "status", "error_message", "original_width", "original_height"),
)


def _rows(source: BinaryIO) -> Iterator[dict[str, Any]]:
    """The rows of a sidecar, of its long strings the beginnings: a file of 50 KB may hold one of
    1 MB 20,000 times, so they are cut while it is there once, in a dictionary."""
    schema = pq.ParquetFile(source).schema_arrow
    once = [name for name in _COLUMNS if len(schema.get_all_field_indices(name)) == 1]
    kinds = {name: schema.field(name).type for name in once}
    texts = [name for name in once if pa.types.is_string(kinds[name])]
    numbers = [name for name in once if pa.types.is_integer(kinds[name])]
    source.seek(0)
    file = pq.ParquetFile(source, read_dictionary=texts)
    for batch in file.iter_batches(_ROWS_AT_ONCE, columns=[*texts, *numbers]):
        columns = {name: batch[name] for name in numbers}
        for name in texts:
            values = pc.utf8_slice_codeunits(batch[name].dictionary, 0, LONGEST_URL + 1)
            columns[name] = values.take(batch[name].indices)
        yield from pa.RecordBatch.from_pydict(columns).to_pylist()


def _record(rows: Sequence[Mapping[str, Any]], shard: str) -> Record:
    examples = []
    hosts: list[tuple[str, str]] = []
    urls = pa.array([str(row.get("url") or "") for row in rows], pa.string())
    keys = key_column(string_hashes(urls)).to_pylist()
    for key, row in zip(keys, rows, strict=True):
        reason = {"success": "", _RESIZE: _RESIZE}.get(str(row.get("status")), _DOWNLOAD)
        detail = cut(str(row.get("error_message") or ""), LONGEST_WORD) if reason else ""
        url = str(row.get("url") or "")
        hosts.append((host_of(url), f"{reason}: {detail}" if reason else KEPT))
        examples.append(
            Example(
                key=key,
                url=cut(url, LONGEST_URL),
                caption=cut(str(row.get("caption") or ""), LONGEST_TEXT),
                lists=[reason or KEPT],
                reason=reason,
                detail=detail,
                width=_count(row.get("original_width")),
                height=_count(row.get("original_height")),
                shard=f"{row.get('key')} of {shard}"[:60],
            )
        )
    tops = {"hosts": top_of(nested(hosts), MOST_HOSTS), "texts": Top()}
    return Record(pairs=len(rows), tops=tops, examples=sorted(examples, key=lambda e: e.hash)[:200])
