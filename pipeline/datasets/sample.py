"""Some pairs of a dataset: always the same ones, of a bounded number of its files.

The files stand in the order of the hashes of their names. In the first ones, the pairs are chosen
whose keys are the smallest when read backwards, since the keys of a shard may begin alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alignset.pipeline.inputs.row_groups import RowGroups
from alignset.transforms.columns.records import host_of
from alignset.transforms.rules.overlap import MIN_EVALUATION_DISTANCE
from alignset.transforms.storage.broken_files import BrokenInputError, broken_file
from alignset.transforms.storage.files import open_to_read

ENOUGH_FILES = 16  # 160,000 pairs of shards of the usual size
MOST_FILES = 1024  # of a rare reason
LONGEST = 500  # characters of a text that are read
FindKeys = Callable[[str], pa.Array]  # those of a file, by its path


@dataclass(frozen=True)
class Pair:
    """A pair as it is shown: columns of its row as text, and empty where they are not there.

    Attributes:
      evaluation_set, evaluation_image: the evaluation image, or the listed one, that it copies.
      thumbnail: the dropped image as a JPEG.
      file: the path of the file that the pair stands in.
    """

    key: str = ""
    url: str = ""
    caption: str = ""
    reason: str = ""
    detail: str = ""
    language: str = ""
    width: str = ""
    height: str = ""
    evaluation_set: str = ""
    evaluation_image: str = ""
    evaluation_distance: str = ""
    thumbnail: bytes = b""
    file: str = ""

    @property
    def copy_of(self) -> str:
        is_copy = self.evaluation_set and self.reason in ("", MIN_EVALUATION_DISTANCE.reason)
        return f"{self.evaluation_set}/{self.evaluation_image}" if is_copy else ""

    @property
    def why(self) -> str:
        if self.copy_of:
            return f"copy of {self.copy_of}"
        return f"{self.reason}: {self.detail}" if self.detail else self.reason

    @property
    def distance(self) -> str:
        return f"{float(self.evaluation_distance or 0):.3g}" if self.copy_of else ""

    @property
    def host(self) -> str:
        return host_of(self.url)

    @property
    def size(self) -> str:
        return f"{self.width}x{self.height}" if self.width and self.height else ""


_SCHEMA = pa.schema(
    [(of.name, pa.binary() if of.name == "thumbnail" else pa.string()) for of in fields(Pair)]
)


def take_sample(
    files: Sequence[str],
    count: int,
    find_keys: FindKeys | None = None,
    **values: str,
) -> tuple[list[Pair], int, Counter[str]]:
    """Some pairs, each key once.

    Args:
      files: Parquet files in the order in which they are read.
      count: how many pairs, at most.
      find_keys: returns the keys of a file whose pairs may be shown; None: all may be. It takes
        long, so that no more files are read than hold so many pairs.
      values: of columns of the pairs, such as reason, detail and language; empty: any.

    Returns:
      The pairs; how many files they are of; how many rows of these files have each reason, or each
      detail where one is chosen.
    """
    names = _SCHEMA.names[: -1 if values.get("reason") else _SCHEMA.names.index("evaluation_set")]
    schema = pa.schema([_SCHEMA.field(name) for name in (*names, "file")])
    enough, most = (1, len(files)) if find_keys else (ENOUGH_FILES, MOST_FILES)
    chosen, files_read, row_counts = _SCHEMA.empty_table(), 0, Counter[str]()
    for path in files[:most]:
        if files_read >= enough and len(chosen) == count:
            break
        files_read += 1
        keys = find_keys(path) if find_keys else None
        for rows in tables_of(path, names) if keys is None or len(keys) else ():
            if keys is not None:
                rows = rows.filter(pc.is_in(rows["key"], keys.cast(rows["key"].type)))
            for name, value in {"reason": "", **values}.items():
                if name == ("detail" if values.get("detail") else "reason"):
                    for row in pc.value_counts(rows[name]).to_pylist():
                        row_counts[row["values"] or ""] += row["counts"]
                rows = rows.filter(pc.equal(rows[name], value)) if value else rows
            rows = _first_rows(rows, count)
            rows = rows.append_column("file", pa.array([path] * len(rows), pa.string()))
            both = pa.concat_tables([chosen, rows.cast(schema)], promote_options="default")
            chosen = _first_rows(both, count)
    known = ({n: value for n, value in row.items() if value} for row in chosen.to_pylist())
    return [Pair(**row) for row in known], files_read, row_counts


def _first_rows(rows: pa.Table, count: int) -> pa.Table:
    """The rows whose keys, or URLs where they have none, are the smallest when read backwards; of
    equal ones the first."""
    texts = [rows[name].cast(pa.string()) for name in ("key", "url", "caption")]
    order = pc.utf8_reverse(pc.coalesce(*texts, "")).combine_chunks()
    places = pc.array_sort_indices(order)
    values = order.take(places).to_numpy(zero_copy_only=False)
    is_first = np.append(True, values[1:] != values[:-1])[: len(values)] & (values != "")
    return rows.take(places.filter(pa.array(is_first, pa.bool_()))[:count])


def tables_of(path: str, names: Sequence[str]) -> Iterator[pa.Table]:
    """Some columns of a file, some rows at a time; null where it has no such column.

    A file may be anybody's: one of 300 KB may hold a value of 1 MB 16,384 times. So texts are cut
    to `LONGEST` characters, and long images stay a dictionary.

    Raises:
      BrokenInputError: it is damaged.
    """
    try:
        with open_to_read(path) as source:
            schema = pq.read_schema(source)
            columns = {
                name: name
                for name in names
                if schema.names.count(name) == 1 and not pa.types.is_nested(schema.field(name).type)
            }
            rows = RowGroups(source, [], [], columns)
            for number in range(rows.footer.num_row_groups if columns else 0):
                for batch in rows.read(number, whole=True):
                    nulls = pa.nulls(len(batch), pa.string())
                    yield pa.table({n: _cut(batch[n]) if n in columns else nulls for n in names})
    except Exception as error:
        fault = broken_file(path, error)
        if fault is None:
            raise
        raise BrokenInputError(
            f"{path} cannot be read: {fault.fault}; replace the file, or take it out of the dataset"
        ) from error


def _cut(values: pa.Array) -> pa.Array:
    if isinstance(values, pa.DictionaryArray):
        is_image = pa.types.is_binary(values.dictionary.type)
        return values if is_image else _cut(values.dictionary).take(values.indices)
    is_text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    return pc.utf8_slice_codeunits(values, 0, LONGEST) if is_text else values
