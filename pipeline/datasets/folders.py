"""Folders of WebDataset shards, or of img2dataset's, that are not a dataset of ours: rows of their
sidecars, or else of the names and JSON in their tars. Nothing is written, and no image decoded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from glob import escape
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alignset.pipeline.inputs.readers import tar_samples
from alignset.pipeline.shown_texts import printable
from alignset.transforms.images.file_formats import IMAGE_EXTENSIONS
from alignset.transforms.rules.catalogue import PRODUCT, Catalogue
from alignset.transforms.rules.given import FETCH_FAILED, NOT_AN_IMAGE, UNDECODABLE
from alignset.transforms.rules.rule import Limit, Measure, Stage
from alignset.transforms.shards.shard_files import SHARD_SCHEMA
from alignset.transforms.storage.broken_files import BrokenInputError, FileFault, broken_file
from alignset.transforms.storage.files import is_local, match, open_to_read
from alignset.transforms.storage.parquet_files import read_columns, schema_of
from alignset.transforms.storage.tar_members import tar_members

REJECTED = "#rejected"  # behind the path of a shard: its rows that are not kept
MAX_BYTES = 1 << 26  # of an image's file
LONGEST = 2000  # characters of a text
_BARS, _MOST_NUMBERS, _LONGEST_NAME = 40, 12, 40  # of histograms, columns, a column's name
_MOST_NOTED = 5  # files that are named
_LEADING_SHARDS, _LEADING_BATCHES = 3, 4  # that are searched for columns of numbers
_ROWS_AT_ONCE = 1000
_STATS = "_stats.json"
_NO_IMAGE = "no_image"  # a status of ours: of a sample of a tar
_REASONS = {"failed_to_resize": UNDECODABLE, _NO_IMAGE: NOT_AN_IMAGE}  # by status; else not fetched
# What says which row is kept.
_STATED = pa.schema([(name, pa.string()) for name in ("key", "status", "error_message")])
# Columns that are not scores.
_OTHERS = {*SHARD_SCHEMA.names, *PRODUCT.measures, "reason", "detail"}


@dataclass(frozen=True)
class Folder:
    """A folder of another tool.

    Attributes:
      path: as it was given.
      sidecars: by shards, which are paths of tars, or the paths that a sidecar and a folder of
        files begin with; "" where there is none.
      faults: sentences on files that could not be read to their ends, so far.
    """

    path: str
    sidecars: Mapping[str, str]
    faults: list[str] = field(default_factory=list)

    @cached_property
    def catalogue(self) -> Catalogue:
        """The product's rules, and a limit that drops nothing for each column of numbers."""
        for shard in [*self.sidecars][:_LEADING_SHARDS]:
            names = [of for of in self._numbers_in(shard) if len(of) <= _LONGEST_NAME]
            names = [of for of in names if of not in _OTHERS and printable(of) == of]
            columns = pa.schema([(name, pa.float64()) for name in names])
            batches = islice(self.read(shard, columns) if names else (), _LEADING_BATCHES)
            rows = pa.Table.from_batches(batches, columns)
            limits = filter(None, (_limit(name, rows[name].to_numpy()) for name in names))
            if of_columns := (*islice(limits, _MOST_NUMBERS),):
                return Catalogue(of_columns)
        return PRODUCT

    @property
    def notes(self) -> list[str]:
        """Whole sentences on where its numbers come from, and on files that cannot be read."""
        more = len(self.faults) - _MOST_NOTED
        return [
            "A folder of another tool, which records no rules and no dropped texts. No image was "
            "decoded: sizes and hashes are what its sidecars say, or the JSON in its tars.",
            *self.faults[:_MOST_NOTED],
            *([f"{more:,} more cannot be read."] if more > 0 else []),
        ]

    def read(
        self, path: str, columns: pa.Schema, longest: int = LONGEST
    ) -> Iterator[pa.RecordBatch]:
        """Reads some columns of a shard as `read_columns` does, as far as its files can be read: of
        the rows that are kept or, with REJECTED behind the path, of the others.

        They are named as ours. `name` is the shard's name and the sample's, as 00000/000000012, and
        `key` 16 hex digits of its hash. `reason` and `detail` are what a sidecar has as status and
        message.
        """
        shard = path.removesuffix(REJECTED)
        for rows in self._unless_broken(shard, columns, longest):
            known = {name: rows[name] for name in rows.schema.names}
            status = pc.fill_null(known["status"], "")
            is_kept = pc.is_in(status, pa.array(["", "success"]))
            reasons = [_REASONS.get(of, FETCH_FAILED) for of in status.to_pylist()]
            names = [self._name(shard, name or "") for name in known["key"].to_pylist()]
            known |= {
                "name": pa.array(names, pa.string()),
                "key": pa.array(map(_key_of, names), pa.string()),
                "reason": pc.if_else(is_kept, None, pa.array(reasons, pa.string())),
                "detail": pc.if_else(is_kept, None, known["error_message"]),
            }
            nulls = pa.nulls(len(rows))
            arrays = [known.get(of.name, nulls).cast(of.type, safe=False) for of in columns]
            batch = pa.record_batch(arrays, schema=columns)
            yield batch.filter(is_kept if path == shard else pc.invert(is_kept))

    def images(self, shard: str, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Reads the images of some rows of a shard, by `key`; of other files only headers, until
        all are found."""
        wanted = set(keys)
        try:
            for name, tar, path, at, size in _files_of(shard):
                if not wanted:
                    break
                extension = name.rpartition("/")[2].partition(".")[2]
                if size <= MAX_BYTES and extension.lower() in IMAGE_EXTENSIONS:
                    sample = _sample_name(name.removesuffix(f".{extension}"), tar)
                    key = _key_of(self._name(shard, sample))
                    if key in wanted:
                        wanted.remove(key)
                        with open_to_read(path) as source:
                            source.seek(at)
                            yield key, source.read(size)
        except Exception as error:
            self._note(shard, error)

    def _name(self, shard: str, sample: str) -> str:
        label = shard.removesuffix(".tar").removeprefix(self.path).strip("/")
        return f"{_shown(label)}/{sample}"

    def _has_rows(self, shard: str) -> bool:
        """Whether a shard's sidecar names its samples and has their texts."""
        try:
            sidecar = self.sidecars[shard]
            return bool(sidecar) and {"key", "caption"} <= {*schema_of(sidecar).names}
        except Exception as error:
            self._note(sidecar, error)
            return False

    def _numbers_in(self, shard: str) -> list[str]:
        """The columns of numbers of a sidecar, or of the JSON of the first samples."""
        if self._has_rows(shard):
            columns = schema_of(self.sidecars[shard])
            is_number = (pa.types.is_integer, pa.types.is_floating)
            return [of.name for of in columns if any(is_kind(of.type) for is_kind in is_number)]
        names = dict[str, None]()
        with suppress(FileFault, OSError), open_to_read(shard) as source:
            for sample in islice(tar_samples(source, None), _ROWS_AT_ONCE):
                fields = sample["carried"].items()
                names |= {name: None for name, value in fields if type(value) in (int, float)}
        return [*names]

    def _unless_broken(
        self, shard: str, columns: pa.Schema, longest: int
    ) -> Iterator[pa.RecordBatch]:
        """The rows of a shard's sidecar, or its samples as such rows, up to where they can be read:
        some columns, and what says whether a row is kept."""
        columns = pa.schema([*_STATED, *(of for of in columns if of.name not in _STATED.names)])
        read, path = _read_tar, shard
        if self._has_rows(shard):
            read, path = read_columns, self.sidecars[shard]
        try:
            yield from read(path, columns, longest)
        except Exception as error:
            self._note(path, error)

    def _note(self, path: str, error: Exception) -> None:
        cause = error.__cause__ if isinstance(error, BrokenInputError) else error
        fault = broken_file(path, cause) if cause else None
        if fault is None:
            raise error
        note = f"{Path(path).name} cannot be read to its end: {printable(fault.fault)}."
        if note not in self.faults:
            self.faults.append(note)


def find_folder(path: str) -> Folder | None:
    """Finds the shards of a folder; None where it has none. They are the tars in it, or else in
    folders of it, or else what has img2dataset's stats beside its sidecar. Nothing deeper is looked
    at: it may be anybody's."""
    path = path.rstrip("/") or path
    folder = escape(path) if is_local(path) else path
    files = {file for file, _ in match(f"{folder}/*")}
    if not any(file.endswith(".tar") for file in files):
        files |= {file for file, _ in match(f"{folder}/*/*.tar") + match(f"{folder}/*/*.parquet")}
    shards = [file for file in sorted(files) if file.endswith(".tar")]
    if not shards:
        stems = [file.removesuffix(_STATS) for file in sorted(files) if file.endswith(_STATS)]
        shards = [stem for stem in stems if f"{stem}.parquet" in files]
    sidecars = [f"{shard.removesuffix('.tar')}.parquet" for shard in shards]
    found = {s: side if side in files else "" for s, side in zip(shards, sidecars, strict=True)}
    return Folder(path, found) if found else None


def _files_of(shard: str) -> Iterator[tuple[str, int, str, int, int]]:
    """The files of a shard: name, number of the tar behind each other, path, place and bytes."""
    if not shard.endswith(".tar"):
        for path, size in match(shard):
            yield path.rpartition("/")[2], 0, path, 0, size
        return
    with open_to_read(shard) as source:
        for member in tar_members(source):
            if member.plain:
                yield member.name, member.tar, shard, member.at, member.size


def _read_tar(path: str, columns: pa.Schema, longest: int) -> Iterator[pa.RecordBatch]:
    """The samples of a tar as rows of a sidecar; a value of another type is null."""
    rows: list[dict[str, Any]] = []
    fault: Exception | None = None
    with open_to_read(path) as source:
        try:
            for sample in tar_samples(source, None) if path.endswith(".tar") else ():
                rows.append(_row_of(sample, columns, longest))
                if len(rows) == _ROWS_AT_ONCE:
                    yield pa.RecordBatch.from_pylist(rows, columns)
                    rows = []
        except (FileFault, OSError) as error:  # not `finally`: a reader may stop before the end
            fault = error
    yield pa.RecordBatch.from_pylist(rows, columns)
    if fault:
        raise fault


def _row_of(sample: Mapping[str, Any], columns: pa.Schema, longest: int) -> dict[str, Any]:
    fields = sample["carried"] | {"key": _sample_name(sample["name"], sample["tar"])}
    fields |= {n: (sample[n] or b"").decode("utf-8", "replace") for n in ("url", "caption")}
    fields |= {"status": "", "error_message": ""}
    if sample["source_at"] <= 0:
        detail = "sparse_or_link" if sample["source_at"] else "no_file"
        fields |= {"status": _NO_IMAGE, "error_message": detail}
    row: dict[str, Any] = {}
    for of in columns:
        value = fields.get(of.name)
        if pa.types.is_string(of.type):
            row[of.name] = value[:longest] if isinstance(value, str) else None
        elif type(value) in (int, float) and abs(value) < 2 ** (of.type.bit_width - 1):
            row[of.name] = float(value) if pa.types.is_floating(of.type) else int(value)
    return row


def _sample_name(name: str, tar: int) -> str:
    """The name of a sample: with the number of its tar where it is not the first of several behind
    each other."""
    name = _shown(name.removeprefix("./"))
    return f"{name}/{tar}" if tar else name


def _shown(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _key_of(name: str) -> str:
    return blake2b(name.encode(), digest_size=8).hexdigest()


def _limit(name: str, values: np.ndarray) -> Limit | None:
    """The rule that gives a column its axis: nothing is judged by it."""
    values = values[np.isfinite(values) & (abs(values) < 1e15)]
    if not len(values) or values.min() == values.max():
        return None
    low, high = np.quantile(values, [0.005, 0.995])
    edges = sorted({float(f"{edge:.4g}") for edge in np.linspace(low, high, _BARS + 1)})
    axis = Measure(
        axis=name, label=name, short=name, of=lambda rows: rows[name], edges=edges, column=name
    )
    return Limit(
        name=f"min_{name}",
        reason=f"low_{name}",
        step=name,
        stage=Stage.PAIR,
        means="",
        help="",
        words=name,
        keeps=">=",
        default=edges[0],
        opened=edges[0],
        measure=axis,
    )
