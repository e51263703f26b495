"""The files of the input, and the parts of them that workers read, each alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType

from alignset.transforms.storage.broken_files import BrokenFile

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

ROWS_PER_SPLIT = 1 << 18
ROWS = "rows"  # the format of Parquet that a dataset of ours is read as: kept and dropped pairs


@dataclass(frozen=True, order=True)
class InputFile:
    """A file as it was found.

    Attributes:
      fault: the detail, where nothing of it can be read.
      ends: the SHA-256 of its first and last 64 KiB, by which a run knows its input elsewhere.
    """

    path: str
    bytes: int
    format: str
    fault: str | UnsetType = UNSET
    ends: str | UnsetType = UNSET


@dataclass(frozen=True)
class CarriedColumn:
    """A column that goes with the pairs.

    Attributes:
      source: its name in the file; "" where the file has none. field: as it is in the output.
    """

    source: str
    field: pa.Field


@dataclass(frozen=True)
class Split:
    """A part of a file that one worker reads."""

    path: str
    format: str
    compression: str = ""
    url_column: str = ""
    text_column: str = ""
    row_groups: tuple[int, ...] = ()  # of a Parquet file; any other file is one split
    page_column: str = ""  # the page that a pair is from; not every input has it
    broken: BrokenFile | None = None  # where nothing of it can be read
    carried: tuple[CarriedColumn, ...] = ()
    keeps_all: bool = False  # a value that does not fit its column is null; else its pair goes
    of_set: bool = False  # whether a run of ours wrote its texts, whose entities are decoded

    @property
    def text_columns(self) -> list[str]:
        """The columns of URLs, of texts, and of pages if the file has them."""
        return [self.url_column, self.text_column, *filter(None, [self.page_column])]

    @property
    def sources(self) -> list[str]:
        """The carried columns that the file has."""
        return [*dict.fromkeys(column.source for column in self.carried if column.source)]


def row_group_splits(split: Split, footer: pq.FileMetaData) -> list[Split]:
    """The splits of a Parquet file: some row groups each."""
    splits, group, rows = [], [], 0
    for index in range(footer.num_row_groups):
        group.append(index)
        rows += footer.row_group(index).num_rows
        if rows >= ROWS_PER_SPLIT or (rows and index == footer.num_row_groups - 1):
            splits.append(replace(split, row_groups=tuple(group)))
            group, rows = [], 0
    return splits
