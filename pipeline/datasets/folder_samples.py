"""The samples of folders of other tools: of WebDataset's tars, and of img2dataset's folders of
files, each with what their sidecars tell."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alignset.pipeline.inputs.readers import LONGEST_OF, new_sample, read_text, tar_samples
from alignset.pipeline.shown_texts import printable
from alignset.transforms.columns.records import LONGEST_WORD, cut
from alignset.transforms.images.file_formats import IMAGE_EXTENSIONS
from alignset.transforms.storage.broken_files import DAMAGED, FileFault, broken_file
from alignset.transforms.storage.files import exists, is_local, match, open_to_read

_STATS = "_stats.json"
_ROWS_AT_ONCE = 1000
_LONGEST = 2000  # characters of a string of a sidecar
_TEXTS = ("key", "url", "caption", "status", "error_message")
_MOST_NUMBERS = 32
_TEXT_TYPES = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)


@dataclass(frozen=True)
class FolderShard:
    """A shard of a folder.

    Attributes:
      path: of its tar, or of its folder of files.
      sidecar: the path of its Parquet file, "" where there is none.
      bytes: of both files, by which a shard that was changed is told.
    """

    path: str
    sidecar: str
    bytes: int = 0

    @property
    def name(self) -> str:
        return Path(self.path).name


@dataclass(frozen=True)
class Sample:
    """A sample, or a row of a sidecar whose image is not there.

    Attributes:
      name: bytes that are not UTF-8 are surrogates in it. tar: which of the tars behind each other
        it is in; -1 of a row whose sample is not there.
      path, at, size: where its image lies. fault: `fetch` or `decode`, and why there is none.
      numbers: what stands in its JSON or in its row of the sidecar.
    """

    name: str
    tar: int = -1
    url: bytes = b""
    caption: bytes = b""
    path: str = ""
    at: int = 0
    size: int = 0
    fault: str | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)


def folder_shards(out: str) -> list[FolderShard]:
    """The shards of a folder: the tars in it, or else in folders of it, or else the folders that
    have img2dataset's stats beside them. Nothing deeper is looked at: it may be anybody's."""
    folder = glob.escape(out) if is_local(out) else out
    sizes = dict(match(f"{folder}/*"))
    if not any(path.endswith(".tar") for path in sizes):
        sizes |= dict(match(f"{folder}/*/*.tar") + match(f"{folder}/*/*.parquet"))
    tars = {path.removesuffix(".tar"): path for path in sorted(sizes) if path.endswith(".tar")}
    stems = [path.removesuffix(_STATS) for path in sorted(sizes) if path.endswith(_STATS)]
    tars = tars or {stem: stem for stem in stems if match(f"{glob.escape(stem)}/*")}
    return [
        FolderShard(path, sidecar if sidecar in sizes else "", size)
        for stem, path in tars.items()
        for sidecar in [f"{stem}.parquet"]
        for size in [sizes.get(path, 0) + sizes.get(sidecar, 0)]
    ]


def shard_samples(shard: FolderShard) -> Iterator[Sample]:
    """The samples of a shard, and behind them the rows of its sidecar that have none. Where a
    file is broken, what is before that."""
    rows = _sidecar(shard.sidecar) if shard.sidecar else {}
    for sample in _of_tar(shard) if shard.path.endswith(".tar") else _of_files(shard):
        name = sample["name"].removeprefix("./")
        row = replace(rows.pop(name, Sample(name)), name=name)
        yield replace(
            row,
            tar=sample["tar"],
            url=sample["url"] or row.url,
            caption=sample["caption"] or row.caption,
            path=sample["source_path"],
            at=sample["source_at"],
            size=sample["source_size"],
            fault=None,
            numbers=_floats(_numbers(sample["carried"])) | {**row.numbers},
        )
    for row in rows.values():
        yield replace(row, path=shard.sidecar, fault=row.fault or "fetch not_in_its_shard")


def stated_pairs(shard: FolderShard) -> Iterator[tuple[tuple[int, str], bytes, bytes]]:
    """The files of a shard's samples in other words: the tar and the name of a sample, its URL, and
    each of its texts, whether KEY.json or KEY.txt has it.

    Raises:
      FileFault: the tar is broken, or a text is longer than is read.
    """
    for sample in _of_tar(shard) if shard.path.endswith(".tar") else _of_files(shard):
        if sample["unread"]:
            raise FileFault(DAMAGED, f"{printable(sample['unread'])} is longer than any text")
        place = sample["tar"], sample["name"].removeprefix("./")
        for text in dict.fromkeys((sample["caption"] or b"", sample["text"] or b"")):
            yield place, sample["url"] or b"", text


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type has texts, in whichever form a tool wrote them."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return any(of(kind) for of in _TEXT_TYPES)


def _numbers(fields: Mapping[str, Any]) -> dict[str, float]:
    """The first numbers among the fields of a sample's JSON."""
    numbers = ((name, value) for name, value in fields.items() if type(value) in (int, float))
    return dict(islice(numbers, _MOST_NUMBERS))


def _of_tar(shard: FolderShard) -> Iterator[dict[str, Any]]:
    with open_to_read(shard.path) as source:
        for sample in tar_samples(source, None):
            yield sample | {"source_path": shard.path}


def _of_files(shard: FolderShard) -> Iterator[dict[str, Any]]:
    sample = new_sample("")
    for path, size in match(shard.path):
        stem, _, extension = path.rpartition("/")[2].partition(".")
        if stem != sample["name"]:
            if sample["name"]:
                yield sample
            sample = new_sample(stem) | {"source_path": path}
        extension = extension.lower()
        if extension in IMAGE_EXTENSIONS:
            sample |= {"source_path": path, "source_size": size}
        elif size <= LONGEST_OF.get(extension, -1):
            with open_to_read(path) as source:
                read_text(sample, extension, source.read(size), None)
        elif extension in LONGEST_OF:
            sample["unread"] = path
    if sample["name"]:
        yield sample


def _sidecar(path: str) -> dict[str, Sample]:
    """The rows of a sidecar by their keys; none of one that cannot be read. Long strings
    only the beginnings are held: a file of 50 KB may hold one of 1 MB 20,000 times."""
    rows: dict[str, Sample] = {}
    if not exists(path):
        return rows
    try:
        with open_to_read(path) as source:
            for row in _rows(source):
                sample = _sample_of(row)
                rows.setdefault(sample.name, sample)
    except Exception as error:
        if broken_file(path, error) is None:
            raise
    return rows


def _rows(source: Any) -> Iterator[dict[str, Any]]:
    schema = pq.ParquetFile(source).schema_arrow
    once = [name for name in schema.names if len(schema.get_all_field_indices(name)) == 1]
    kinds = {name: schema.field(name).type for name in once}
    texts = [name for name in _TEXTS if name in kinds and is_text(kinds[name])]
    numbers = [
        name
        for name, kind in kinds.items()
        if name not in _TEXTS and (pa.types.is_integer(kind) or pa.types.is_floating(kind))
    ]
    source.seek(0)
    file = pq.ParquetFile(source, read_dictionary=texts)
    for batch in file.iter_batches(_ROWS_AT_ONCE, columns=[*texts, *numbers[:_MOST_NUMBERS]]):
        columns = {name: batch[name] for name in numbers[:_MOST_NUMBERS]}
        for name in texts:
            values = pc.utf8_slice_codeunits(batch[name].dictionary, 0, _LONGEST)
            columns[name] = values.take(batch[name].indices)
        yield from pa.RecordBatch.from_pydict(columns).to_pylist()


def _sample_of(row: dict[str, Any]) -> Sample:
    key, url, caption, status, message = (row.pop(name, None) or "" for name in _TEXTS)
    kind = {"": "", "success": "", "failed_to_resize": "decode"}.get(status, "fetch")
    fault = f"{kind} {cut(message, LONGEST_WORD)}" if kind else None
    return Sample(
        key, url=url.encode(), caption=caption.encode(), fault=fault, numbers=_floats(row)
    )


def _floats(numbers: Mapping[str, Any]) -> dict[str, float]:
    """The numbers that are not larger than a float holds."""
    return {
        name: float(value)
        for name, value in numbers.items()
        if value is not None and abs(value) < 1e15
    }
