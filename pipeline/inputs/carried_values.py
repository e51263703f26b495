"""The columns that go with the pairs of a file, as readers find them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alignset.pipeline.inputs.row_groups import STRINGS, RowGroups, check_footer
from alignset.pipeline.inputs.splits import Split
from alignset.transforms.columns.carried import CARRIED, WRONG_TYPE, json_column, json_values, typed
from alignset.transforms.columns.hashing import Bools
from alignset.transforms.columns.pair_columns import SOURCE_LICENSE
from alignset.transforms.storage.files import open_to_read

LICENSE = "page_license"  # as sidecars have it


def source_columns(split: Split) -> dict[str, str]:
    """The columns of a file that are read, by the names that they get."""
    texts = dict(zip(STRINGS, split.text_columns, strict=False))
    return texts | {
        CARRIED + column.field.name: column.source for column in split.carried if column.source
    }


def add_carried(columns: dict[str, pa.Array], size: int, split: Split) -> dict[str, pa.Array]:
    """The columns of a batch with all that are carried, in the types of the run."""
    for field in (column.field for column in split.carried):
        values = columns.get(CARRIED + field.name, pa.nulls(size, field.type))
        columns[CARRIED + field.name], wrong = typed(values, field.type)
        _mark_wrong(columns, size, split, wrong)
    return columns


def add_json_values(
    rows: pa.RecordBatch, split: Split, records: Sequence[Mapping[str, Any]]
) -> pa.RecordBatch:
    """Rows with the carried columns of their objects of JSON; `malformed`, string[n], also says
    whose values do not fit."""
    columns = dict(zip(rows.schema.names, rows.columns, strict=True))
    for column in split.carried:
        if column.source:
            values = [record.get(column.source) for record in records]
            columns[CARRIED + column.field.name], wrong = json_column(values, column.field.type)
            _mark_wrong(columns, len(rows), split, wrong)
    if split.of_set:
        licences = [record.get(LICENSE) for record in records]
        columns[SOURCE_LICENSE], _ = json_column(licences, pa.string())
    return pa.record_batch(columns)


def _mark_wrong(columns: dict[str, pa.Array], size: int, split: Split, wrong: Bools | None) -> None:
    """Adds values that do not fit their column to `malformed`, where a pair goes for one."""
    if wrong is not None and not split.keeps_all:
        faults = columns.get("malformed", pa.nulls(size)).cast(pa.string())
        wrong_types = pc.if_else(pa.array(wrong), WRONG_TYPE, pa.scalar(None, pa.string()))
        columns["malformed"] = pc.coalesce(faults, wrong_types)


class SidecarValues:
    """The carried columns in a shard's sidecar, for samples whose JSON lacks some, such as a
    model's score. The sidecar is read once, where it is needed first."""

    def __init__(self, split: Split) -> None:
        self._split = split
        # What pages said is in the sidecars of datasets of ours alone.
        self._sources = [*split.sources, *([LICENSE] if split.of_set else [])]
        self._rows: dict[str, dict[str, Any]] | None = None

    def complete(self, name: str, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """The carried fields of a sample's JSON, and those that only its row has."""
        if all(source in record for source in self._sources):
            return record
        if self._rows is None:
            try:
                self._rows = self._read()
            except (OSError, KeyError, TypeError, ValueError, pa.ArrowException):
                self._rows = {}
        return {**self._rows.get(name.rpartition("/")[2], {}), **record}

    def _read(self) -> dict[str, dict[str, Any]]:
        """The rows by their keys."""
        kinds = {column.source: column.field.type for column in self._split.carried}
        kinds.setdefault(LICENSE, pa.string())
        rows: dict[str, dict[str, Any]] = {}
        with open_to_read(f"{self._split.path.removesuffix('.tar')}.parquet") as source:
            names = pq.read_schema(source).names
            sources = [name for name in self._sources if names.count(name) == 1]
            groups = RowGroups(source, {name: name for name in ("key", *sources)})
            check_footer(groups.footer, source.seek(0, io.SEEK_END))
            for group in range(groups.footer.num_row_groups):
                for batch in groups.read(group):
                    values = {name: _json_or_misfits(batch[name], kinds[name]) for name in sources}
                    for at, key in enumerate(batch["key"].to_pylist()):
                        rows[key] = {name: of_name[at] for name, of_name in values.items()}
        return rows


def _json_or_misfits(column: pa.Array, kind: pa.DataType) -> list[Any]:
    """A column as JSON has it; a value that does not fit becomes one that JSON lacks."""
    values, wrong = typed(column, kind)
    texts = json_values(values)
    if wrong is None:
        return texts
    return [object() if is_wrong else text for text, is_wrong in zip(texts, wrong, strict=True)]
