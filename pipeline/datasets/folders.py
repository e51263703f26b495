"""Folders of WebDataset shards, or of images as img2dataset lays them out, that are not dataset of
ours: each is read once into one in a temporary folder, which has sidecars, rejected pairs and
records as ours do, and the places of images instead of tars."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pyarrow as pa

from alignset.pipeline.datasets.copy_groups import PICTURES
from alignset.pipeline.datasets.copy_pictures import look_at_copies
from alignset.pipeline.datasets.folder_samples import (
    FolderShard,
    Sample,
    folder_shards,
    shard_samples,
)
from alignset.pipeline.shown_texts import counted, printable
from alignset.transforms.columns.hashing import string_hashes
from alignset.transforms.columns.rejects import REJECTED, key_column
from alignset.transforms.duplicates.contents import COLUMNS as OF_CONTENTS
from alignset.transforms.duplicates.contents import CopyRules, contents_of
from alignset.transforms.duplicates.judge_contents import judge_contents
from alignset.transforms.duplicates.near_sample import hashes_of, sample_near
from alignset.transforms.fetching.fetch import Fetched
from alignset.transforms.fetching.fetch_settings import FetchSettings
from alignset.transforms.images.resize_settings import ResizeSettings
from alignset.transforms.pairs.measure_pairs import measure
from alignset.transforms.rules.catalogue import PRODUCT, Catalogue, RunRules
from alignset.transforms.rules.popularity import MAX_TEXTS_PER_IMAGE
from alignset.transforms.rules.rule import Limit, Measure, Stage
from alignset.transforms.shards.build_shard import build_shard, published_files
from alignset.transforms.shards.image_places import write_places
from alignset.transforms.shards.shard_files import SHARD_SCHEMA
from alignset.transforms.shards.shard_places import ShardPlaces
from alignset.transforms.shards.shard_settings import ShardSettings
from alignset.transforms.shards.shard_stats import (
    Copies,
    NearDuplicates,
    SharedContents,
    add_copies,
)
from alignset.transforms.storage.broken_files import broken_file
from alignset.transforms.storage.documents import write_document
from alignset.transforms.storage.parquet_files import read_rows

_BARS, _MOST_NUMBERS, _LONGEST_NAME = 40, 12, 40  # of histograms, columns, a column's name
_MOST_NOTED = 5  # broken files that are named
_MOST_LOOKED_INTO = 8  # shards, for columns of numbers
_TOLD_EVERY_S = 10.0
_KEPT: list[tempfile.TemporaryDirectory[str]] = []  # until the process ends
# Columns that are not scores, or that a record has itself.
_OTHERS = {*SHARD_SCHEMA.names, *REJECTED.names, *PRODUCT.measures, "bytes", "formats", "words"}


@dataclass(frozen=True)
class Folder:
    """A folder that is read.

    Attributes:
      path: as it was given. place: the temporary dataset.
      shards: those that are read, by their numbers there; `of` so many.
      catalogue: the product's rules, and an axis of each column of numbers.
      notes: what there is to know of it, in whole sentences.
    """

    path: str
    place: str
    shards: Sequence[FolderShard]
    of: int
    catalogue: Catalogue
    notes: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """Which of its shards cannot be read to their ends."""
        return self.notes[1:]


@dataclass(frozen=True)
class _FolderRules(RunRules):
    """Rules that drop nothing, and the axes of some columns."""

    own: tuple[Limit, ...] = ()

    @property
    def catalogue(self) -> Catalogue:
        return Catalogue(self.own)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(limit.measure.column for limit in self.own)


def read_folder(path: str, most: int = 0) -> Folder | None:
    """Reads a folder, whose temporary dataset ends with the process; None where it has no shards.

    Args:
      most: so many shards at most, the same ones each time; 0: all.
    """
    shards = tuple(folder_shards(path))
    return _read_folder(path, most, shards) if shards else None


@lru_cache(maxsize=4)
def _read_folder(path: str, most: int, shards: tuple[FolderShard, ...]) -> Folder:
    sample = shards[:: max(1, len(shards) // most)][:most] if most else shards
    _KEPT.append(tempfile.TemporaryDirectory(prefix="alignset-folder-"))
    place, notes = _KEPT[-1].name, [_about(path, len(sample), len(shards))]
    limits = _limits(sample, notes)
    settings = _settings(limits)
    told_at = time.monotonic()
    for number, shard in enumerate(sample):
        _read_shard(number, shard, settings, place, notes)
        if time.monotonic() - told_at > _TOLD_EVERY_S:
            told_at = time.monotonic()
            message = f"{path}: read {number + 1:,} of {counted(len(sample), 'shard')}"
            print(message, file=sys.stderr, flush=True)
    if len(notes) > _MOST_NOTED:
        notes[_MOST_NOTED:] = [f"{len(notes) - _MOST_NOTED:,} more are broken."]
    return Folder(path, place, sample, len(shards), Catalogue(limits), notes)


def _about(path: str, count: int, of: int) -> str:
    shards = f"{count:,} of {counted(of, 'shard')}" if count < of else counted(of, "shard")
    return (
        f"A folder of another tool, which records no rules and no dropped texts: the images of "
        f"{shards} were read, and their sizes and hashes are of the files as they are stored."
    )


def _settings(limits: tuple[Limit, ...]) -> ShardSettings:
    numbers: dict[str, Any] = {rule.name: rule.default for rule in PRODUCT.rules}
    numbers.update(PRODUCT.opened)
    numbers.update({limit.name: limit.default for limit in limits})
    return ShardSettings(
        _FolderRules(numbers, own=limits),
        FetchSettings(opt_outs="report", max_image_bytes=1 << 26),
        ResizeSettings(),
        thumbnails=16,
    )


def _limits(shards: Sequence[FolderShard], notes: list[str]) -> tuple[Limit, ...]:
    """An axis of each column of numbers in the first shard that has some, of a few."""
    for shard in shards[:_MOST_LOOKED_INTO]:
        columns: dict[str, list[float]] = {}
        for sample in _unless_broken(shard, notes):
            for name, value in sample.numbers.items():
                columns.setdefault(name, []).append(value)
        candidates = (
            _limit(name, np.array(columns[name]))
            for name in columns
            if name not in _OTHERS and len(name) <= _LONGEST_NAME and printable(name) == name
        )
        if limits := tuple(limit for limit in candidates if limit is not None):
            return limits[:_MOST_NUMBERS]
    return ()


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


def _unless_broken(shard: FolderShard, notes: list[str]) -> Iterator[Sample]:
    """The samples up to where a file is broken, which is noted."""
    try:
        yield from shard_samples(shard)
    except Exception as error:
        fault = broken_file(shard.path, error)
        if fault is None:
            raise
        note = f"{shard.name} cannot be read to its end: {printable(fault.fault)}."
        if note not in notes:
            notes.append(note)


def _read_shard(
    number: int, shard: FolderShard, settings: ShardSettings, place: str, notes: list[str]
) -> None:
    samples, places = [*_unless_broken(shard, notes)], ShardPlaces(place)
    if not samples:
        return
    table = _pairs(shard, samples, settings.rules.columns)
    faults = table["fault"].to_pylist()

    def screen(bodies: Iterable[Fetched], urls: Sequence[str]) -> Iterator[Fetched]:
        for answer in bodies:
            kind, _, detail = (faults[answer.index] or "").partition(" ")
            if not kind:
                yield answer
            else:
                body = b"" if kind == "decode" else None
                yield replace(answer, body=body, detail=detail or "unknown")

    whole = table.drop_columns(["fault", "name", "tar"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stats = build_shard(
            *(number, whole, replace(settings, screen=screen), None, folder),
            *(lambda _count: None, Event()),
        )
        for file_name, path in published_files(stats, places).items():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            (folder / file_name).replace(path)
    Path(places.stats(number)).parent.mkdir(exist_ok=True)
    Path(places.stats(number)).write_bytes(stats.encode())
    keys = key_column(table["key"].to_numpy())
    write_places(table.set_column(0, "key", keys), places.tar(number))


def _pairs(shard: FolderShard, samples: Sequence[Sample], columns: Sequence[str]) -> pa.Table:
    """The samples as `build_shard` takes pairs, with their names and faults."""
    urls = pa.array([sample.url for sample in samples], pa.binary())
    texts = pa.array([sample.caption for sample in samples], pa.binary())
    pairs = measure(pa.record_batch([urls, texts], ["url", "caption"]))
    keys = pairs.key.copy()
    bare = np.flatnonzero(~pairs.usable())  # its URL or text may be that of many
    names = [f"{shard.name}/{sample.name}" for sample in samples]
    names = [
        f"{name}/{s.tar}" if s.tar > 0 else name for name, s in zip(names, samples, strict=True)
    ]
    shown = pa.array([as_bytes(name).decode("utf-8", "backslashreplace") for name in names])
    keys[bare] = string_hashes(shown.cast(pa.string()).take(pa.array(bare)))
    captions = [
        text.as_py() or sample.caption.decode("utf-8", "replace")
        for text, sample in zip(pairs.text, samples, strict=True)
    ]
    table = pa.table(
        {
            "key": keys,
            "url": pairs.url,
            "caption": pa.array(captions, pa.string()),
            "page_url": pa.nulls(len(samples), pa.string()),
            "source_path": pa.array([as_bytes(sample.path) for sample in samples], pa.binary()),
            "source_at": pa.array([sample.at for sample in samples], pa.int64()),
            "source_size": pa.array([sample.size for sample in samples], pa.int64()),
            "name": pa.array([as_bytes(sample.name) for sample in samples], pa.binary()),
            "tar": pa.array([sample.tar for sample in samples], pa.int32()),
            "fault": pa.array([sample.fault for sample in samples], pa.string()),
        }
        | {
            name: pa.array([sample.numbers.get(name) for sample in samples], pa.float64())
            for name in columns
        }
    )
    return table.take(pa.array(np.argsort(keys, kind="stable"))).combine_chunks()


def as_bytes(name: str) -> bytes:
    """The bytes of a name, whose surrogates stand for bytes that are not UTF-8."""
    return name.encode("utf-8", "surrogateescape")


def find_folder_copies(folder: Folder) -> tuple[SharedContents, NearDuplicates]:
    """How many images have the bytes of another, and look like one; writes their images."""
    places = ShardPlaces(folder.place)
    numbers = [n for n in range(len(folder.shards)) if Path(places.sidecar(n)).exists()]
    rows = {n: read_rows(places.sidecar(n), [*OF_CONTENTS, "phash"]) for n in numbers}
    rules = CopyRules(int(MAX_TEXTS_PER_IMAGE.opened or 0))
    contents = [contents_of(n, of, rules.texts_of_shard) for n, of in rows.items()]
    hashes = [hashes_of(n, of) for n, of in rows.items()]
    if not rows:
        return SharedContents(), NearDuplicates()
    verdict = judge_contents(pa.Table.from_batches(contents), rules)
    own = Copies(shared=verdict.shared, groups=verdict.groups)
    copies = add_copies([own, sample_near(pa.Table.from_batches(hashes))])
    pictures = look_at_copies(folder.place, copies)
    write_document(f"{folder.place}/{PICTURES}", pictures)
    return copies.shared, pictures.near
