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

from alignset.transforms.columns.records import host_of
from alignset.transforms.rules.thresholds import MIN_EVALUATION_DISTANCE
from alignset.transforms.storage.parquet_files import read_columns

ENOUGH_FILES = 16  # 160,000 pairs of shards of the usual size
MOST_FILES = 1024  # of a rare reason
LONGEST = 500  # characters of a text that are read
FindKeys = Callable[[str], pa.Array]  # those of a file, by its path
Read = Callable[[str, pa.Schema, int], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class Pair:
    """A pair as it is shown: columns of its row as text, and empty where they are not there.

    Attributes:
      evaluation_set, evaluation_image: the evaluation image, or the listed one, that it copies.
      thumbnail: the dropped image as a JPEG.
      file: the path of the file that the pair stands in.
      name: in place of the key, of a folder of another tool.
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
    file: str = ""
    name: str = ""
    thumbnail: bytes = b""

    @property
    def shown_key(self) -> str:
        return self.name or self.key

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


_SCHEMA = pa.schema([(of.name, pa.string()) for of in fields(Pair)[:-3]])  # of a file's rows
_THUMBNAILS = pa.schema([("key", pa.string()), ("thumbnail", pa.binary())])


def take_sample(
    files: Sequence[str],
    count: int,
    find_keys: FindKeys | None = None,
    read: Read = read_columns,
    **values: str,
) -> tuple[list[Pair], int, Counter[str]]:
    """Some pairs, each key once.

    Args:
      files: of rows, in the order in which they are read.
      count: how many pairs, at most.
      find_keys: returns the keys of a file whose pairs may be shown; None: all may be. It takes
        long, so that no more files are read than hold so many pairs.
      read: reads columns of a file, as `read_columns` does.
      values: of columns of the pairs, such as reason, detail and language; empty: any.

    Returns:
      The pairs; how many files they are of; how many rows of these files have each reason, or each
      detail where one is chosen.
    """
    # A kept pair also has a nearest evaluation image, but it is not a copy of that image.
    names = _SCHEMA.names[: None if values.get("reason") else _SCHEMA.names.index("evaluation_set")]
    schema = pa.schema([_SCHEMA.field(name) for name in names])
    if read is not read_columns:  # a column of ours with that name is the input's
        schema = schema.append(pa.field("name", pa.string()))
    enough, most = (1, len(files)) if find_keys else (ENOUGH_FILES, MOST_FILES)
    chosen, files_read, row_counts = pa.table({}), 0, Counter[str]()
    for path in files[:most]:
        if files_read >= enough and len(chosen) == count:
            break
        files_read += 1
        keys = find_keys(path) if find_keys else None
        for batch in read(path, schema, LONGEST) if keys is None or len(keys) else ():
            rows = pa.Table.from_batches([batch])
            if keys is not None:
                rows = rows.filter(pc.is_in(rows["key"], keys))
            for name, value in {"reason": "", **values}.items():
                if name == ("detail" if values.get("detail") else "reason"):
                    for row in pc.value_counts(rows[name]).to_pylist():
                        row_counts[row["values"] or ""] += row["counts"]
                rows = rows.filter(pc.equal(rows[name], value)) if value else rows
            rows = rows.append_column("file", pa.array([path] * len(rows), pa.string()))
            both = pa.concat_tables([chosen, rows], promote_options="default")
            chosen = _first_rows(both, count)
    known = [{n: value for n, value in row.items() if value} for row in chosen.to_pylist()]
    thumbnails = dict[tuple[str, str], bytes]()
    for path in {row["file"] for row in known if row.get("reason")}:
        keys = [row["key"] for row in known if row["file"] == path and "key" in row]
        for key, body in thumbnails_in(path, keys, read):
            thumbnails.setdefault((path, key), body)
    pairs = [
        Pair(**of, thumbnail=thumbnails.get((of["file"], of.get("key", "")), b"")) for of in known
    ]
    return pairs, files_read, row_counts


def thumbnails_in(path: str, keys: Sequence[str], read: Read) -> Iterator[tuple[str, bytes]]:
    """Reads the thumbnails of some pairs in a file of `rejected/`, which few have."""
    for batch in read(path, _THUMBNAILS, LONGEST):
        rows = batch.filter(pc.is_in(batch["key"], pa.array(keys, pa.string())))
        yield from ((row["key"], row["thumbnail"] or b"") for row in rows.to_pylist())


def _first_rows(rows: pa.Table, count: int) -> pa.Table:
    """The rows whose keys, or URLs where they have none, are the smallest when read backwards; of
    equal ones the first."""
    order = pc.utf8_reverse(pc.coalesce(rows["key"], rows["url"], rows["caption"], ""))
    places = pc.sort_indices(pa.table({"order": order}), [("order", "ascending")])
    values = order.take(places).to_numpy()
    is_first = np.append(True, values[1:] != values[:-1])[: len(values)] & (values != "")
    return rows.take(places.filter(pa.array(is_first, pa.bool_()))[:count])
