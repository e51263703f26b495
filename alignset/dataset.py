"""A dataset as `curate` leaves it, for Python: its files, counts, tables and samples."""

from __future__ import annotations

import html
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from alignset.pipeline.datasets.set_files import find_own_set, no_set
from alignset.pipeline.datasets.summary import funnel_html, summary_lines
from alignset.pipeline.errors import UsageError
from alignset.pipeline.runs.documents import Funnel, Step
from alignset.pipeline.shown_texts import counted
from alignset.transforms.storage.files import open_to_read
from alignset.transforms.storage.tar_members import tar_members


class Paths(NamedTuple):
    """Where the files of a dataset are, each list in the order of their names.

    Fields:
      shards: the tars to train on. tables: the Parquet file beside each, or without images the
        files of `pairs/`.
      holdout_shards, holdout_tables: the same of what is held out.
      rejected: the Parquet files of dropped pairs.
      report: the page, written at a run's end.
    """

    shards: list[str]
    tables: list[str]
    holdout_shards: list[str]
    holdout_tables: list[str]
    rejected: list[str]
    report: str


class Sample(NamedTuple):
    """A kept pair with its image.

    Fields:
      image: the bytes of its file. record: what the shard's JSON has of it, such as `url`.
    """

    key: str
    image: bytes
    caption: str
    record: dict[str, Any]


class Dataset:
    """A dataset, in a folder of this machine or of an object store.

    Args:
      path: the `output` that it was made with. A run that is under way has its finished shards
        here.

    Raises:
      UsageError: there is no dataset.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        files = find_own_set(os.fspath(path))
        if files is None:
            raise no_set(os.fspath(path))
        self.path = files.out
        self._funnel = files.funnel
        tables = files.kept_files if files.is_of_shards else []
        shards = [f"{path.removesuffix('.parquet')}.tar" for path in tables]
        self.paths = Paths(
            _select_split(shards),
            _select_split(files.kept_files),
            _select_split(shards, holdout=True),
            _select_split(files.kept_files, holdout=True),
            sorted(files.rejected_files),
            f"{self.path}/report.html",
        )

    @property
    def funnel(self) -> Funnel:
        """`funnel.json`: the counts of the run, docs/files.md has its fields.

        Raises:
          UsageError: the run has not ended, or another version of alignset made the dataset.
        """
        if self._funnel is None:
            raise UsageError(f"{self.path} has no funnel.json of this version of alignset")
        return self._funnel

    @property
    def steps(self) -> list[Step]:
        """The steps in order: the pairs that each has seen, kept, and dropped for each reason."""
        return self.funnel.steps

    @cached_property
    def dropped(self) -> dict[str, int]:
        """How many pairs were dropped for each reason that dropped some."""
        counts = Counter[str]()
        for step in self.steps:
            counts.update(step.dropped)  # a reason may stand in two steps
        return dict(+counts)

    def __len__(self) -> int:
        """How many pairs are kept, with those that are held out. Without a `funnel.json` the files
        are counted: during a run, and after a pipeline of one's own."""
        if self._funnel is not None:
            return self._funnel.pairs
        return sum(map(_rows, [*self.paths.tables, *self.paths.holdout_tables]))

    def __iter__(self) -> Iterator[Sample]:
        """The kept pairs to train on, as `samples` gives them."""
        return self.samples()

    def kept(self, columns: Sequence[str] | None = None, *, holdout: bool = False) -> pa.Table:
        """The kept pairs, a row each.

        Args:
          columns: those to read; all of them where none are named.
          holdout: read the pairs that are held out, and not those to train on.

        Raises:
          UsageError: there is no such column.
        """
        return _read(self.paths.holdout_tables if holdout else self.paths.tables, columns)

    def rejected(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The dropped pairs, a row each, with `step`, `reason` and `detail`.

        Args:
          columns: those to read; all of them where none are named.

        Raises:
          UsageError: there is no such column.
        """
        return _read(self.paths.rejected, columns)

    def samples(self, *, holdout: bool = False) -> Iterator[Sample]:
        """The kept pairs with their images, shard by shard in the order of their keys."""
        for path in self.paths.holdout_shards if holdout else self.paths.shards:
            yield from _samples(path)

    def __repr__(self) -> str:
        return f"Dataset({self.path!r})"

    def __str__(self) -> str:
        if self._funnel is None:
            return f"{self.path}: {counted(len(self.paths.tables), 'finished shard')}"
        return "\n".join(
            [f"{self.path}: {counted(len(self), 'pair')}", *summary_lines(self.funnel)]
        )

    def __fspath__(self) -> str:
        return self.path

    def _repr_html_(self) -> str:
        if self._funnel is None:
            return f"<pre>{html.escape(str(self))}</pre>"
        caption = html.escape(f"{self.path}: {counted(len(self), 'pair')}")
        return f"<table><caption>{caption}</caption>{funnel_html(self.steps)}</table>"


def _select_split(paths: Iterable[str], *, holdout: bool = False) -> list[str]:
    """The files of what is held out, or those to train on."""
    return sorted(path for path in paths if (Path(path).parent.name == "holdout") == holdout)


def _rows(path: str) -> int:
    with open_to_read(path) as source:
        return int(pq.read_metadata(source).num_rows)


def _read(paths: Sequence[str], columns: Sequence[str] | None) -> pa.Table:
    tables = []
    for path in paths:
        with open_to_read(path) as source:
            file = pq.ParquetFile(source)
            names = file.schema_arrow.names
            if missing := [name for name in columns or () if name not in names]:
                raise UsageError(f"{path} has no column {missing[0]!r}; it has {', '.join(names)}")
            tables.append(file.read(columns=columns and [*columns]))
    return pa.concat_tables(tables, promote_options="default") if tables else pa.table({})


def _samples(path: str) -> Iterator[Sample]:
    with open_to_read(path) as source:
        for key, members in groupby(tar_members(source), lambda member: _key_of(member.name)):
            files = {}
            for member in members:
                source.seek(member.at)
                files[member.name.removeprefix(f"{key}.")] = source.read(member.size)
            caption, record = files.pop("txt").decode(), json.loads(files.pop("json"))
            (image,) = files.values()
            yield Sample(key, image, caption, record)


def _key_of(name: str) -> str:
    return name.partition(".")[0]
