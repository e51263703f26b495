"""Where pictures come from: shards with their sidecars, or a folder of image files."""

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from alignset.train.counts import counted
from alignset.train.data.captions import LONGEST_TEXT
from alignset.train.data.find_shards import find_shards
from alignset.train.data.fingerprint import fingerprint
from alignset.train.data.samples import LONGEST_IMAGE, shard_samples
from alignset.train.errors import SettingsError, TrainingError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif", ".tif", ".tiff"})
# Of pictures that nobody reads here, so that they are not passed over in silence.
_OTHERS = frozenset({".svg", ".svgz", ".heic", ".heif", ".jxl", ".jp2", ".psd", ".ico", ".ppm"})
_CAPTIONS = "captions.csv"
_OF_SIDECARS = ("key", "url", "unsafe_score")


class Picture(NamedTuple):
    """One picture of a source; `data` is None where it has no image that is read."""

    key: str
    data: bytes | None
    caption: str
    url: str = ""
    unsafe_score: float | None = None


@dataclass(frozen=True)
class PictureSource:
    """Pictures in an order that is always the same.

    Attributes:
      where: a shard's name, or a folder.
      identity: tells its contents from others, wherever it lies.
    """

    where: str
    identity: str

    def pictures(self, first: int = 0) -> Iterator[Picture]:
        """All pictures from number `first` on.

        Raises:
          TrainingError: the source cannot be read.
        """
        raise NotImplementedError


class ShardSource(PictureSource):
    """A tar of samples, with what its sidecar beside it says of them."""

    def pictures(self, first: int = 0) -> Iterator[Picture]:
        rows = _sidecar(self.where)
        for sample in shard_samples(self.where, first):
            url, score = rows.get(sample.key.rpartition("/")[2], ("", None))
            yield Picture(sample.key, sample.image, sample.text or "", url, score)


@dataclass(frozen=True)
class FolderSource(PictureSource):
    """The image files of a folder and those below it.

    A picture's caption is the row of its path in `captions.csv` (columns `file` and `caption`), or
    the first line of the text file beside it (`cat.txt` of `cat.png`), or is empty. Its key is its
    path in the folder.

    Attributes:
      others: files that are pictures by their names, in formats that are not read.
    """

    files: tuple[str, ...]
    others: tuple[str, ...] = ()

    def pictures(self, first: int = 0) -> Iterator[Picture]:
        root = Path(self.where)
        captions = _captions(root, set(self.files))
        for file in self.files[first:]:
            path = root / file
            try:
                large = path.stat().st_size > LONGEST_IMAGE
                data = None if large else path.read_bytes()
            except OSError as error:
                raise TrainingError(f"{path} cannot be read ({error}): put it right") from error
            caption = captions[file] if file in captions else _first_line(path.with_suffix(".txt"))
            yield Picture(file, data, caption)


def find_sources(where: str) -> list[PictureSource]:
    """The sources that `where` names: a folder without shards is one, else each shard is one.

    Raises:
      SettingsError: it names nothing, or a folder without shards and pictures.
    """
    folder = Path(where)
    if folder.is_dir() and not any(folder.glob("*.tar")):
        return [_folder_source(folder)]
    shards = find_shards(where)
    try:
        return [ShardSource(shard, _identity(shard)) for shard in shards]
    except TrainingError as error:
        raise SettingsError(str(error)) from error


def _identity(shard: str) -> str:
    """The same wherever a shard lies, if both of its ends can be read."""
    mark = fingerprint(shard)
    return mark if mark.count(":") == 1 else f"{shard}:{mark}"


def _folder_source(folder: Path) -> FolderSource:
    pictures = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES | _OTHERS and path.is_file()
    ]
    files, others = (
        sorted(str(path.relative_to(folder)) for path in pictures if path.suffix.lower() in kinds)
        for kinds in (SUFFIXES, _OTHERS)
    )
    if not files:
        but = f" that are read ({format_counts(others)})" if others else ""
        raise SettingsError(
            f"{str(folder)!r} holds neither shards (.tar) nor pictures{but}: name a folder that "
            "does, such as OUT/shards"
        )
    odd = [file for file in files if not _is_utf8(file)]
    if odd:
        raise SettingsError(
            f"{str(folder)!r} has {counted(len(odd), 'picture')} by a name that is no UTF-8, the "
            f"first {os.fsencode(odd[0])!r}: rename them, since an index tells pictures by "
            "their names"
        )
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file}\0{(folder / file).stat().st_size}\0".encode(errors="replace"))
    identity = f"folder:{digest.hexdigest()[:32]}"
    return FolderSource(str(folder), identity, tuple(files), tuple(others))


def format_counts(files: Sequence[str]) -> str:
    """How many files of other formats there are, as "2 .svg, 1 .heic; the first is 'a.svg'"."""
    counts = Counter(Path(file).suffix.lower() for file in files)
    named = ", ".join(f"{count:,} {kind}" for kind, count in counts.most_common())
    return f"{named}; the first is {files[0]!r}"


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _sidecar(shard: str) -> dict[str, tuple[str, float | None]]:
    """(URL, unsafe score) by key, of the Parquet file beside a local shard; empty without one."""
    path = Path(shard).with_suffix(".parquet")
    if "://" in shard or not path.exists():
        return {}
    try:
        names = set(pq.read_schema(path).names)
        table = pq.read_table(path, columns=[n for n in _OF_SIDECARS if n in names])
        if "key" not in names:
            return {}
        texts = [
            [(value or b"").decode("utf-8", "replace") for value in column.to_pylist()]
            for column in (_bytes_of(table, "key"), _bytes_of(table, "url"))
        ]
        scores = table["unsafe_score"].cast(pa.float64()) if "unsafe_score" in names else None
    except (OSError, pa.ArrowException) as error:
        reason = str(error).partition("\n")[0]
        raise TrainingError(
            f"{path} cannot be read ({reason:.150}): put it right, or take it away"
        ) from error
    numbers = scores.to_pylist() if scores is not None else [None] * len(table)
    return dict(zip(texts[0], zip(texts[1], numbers, strict=True), strict=True))


def _bytes_of(table: pa.Table, name: str) -> pa.ChunkedArray:
    """A column of a table that anybody may have written: its strings need not be UTF-8."""
    if name not in table.column_names:
        return pa.chunked_array([pa.nulls(len(table), pa.binary())])
    column = table[name]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        column = column.cast(pa.large_string())
    return column.cast(pa.large_binary())


def _captions(root: Path, files: set[str]) -> dict[str, str]:
    """The captions of `captions.csv`, by file; empty where there is none.

    Raises:
      SettingsError: it lacks a column, or names a file that is not there.
    """
    path = root / _CAPTIONS
    if not path.exists():
        return {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines, restval="")  # of a row that is too short
            if not {"file", "caption"} <= set(reader.fieldnames or ()):
                raise SettingsError(
                    f"{path} needs the columns file and caption; it has {reader.fieldnames}"
                )
            captions = {row["file"]: row["caption"][:LONGEST_TEXT] for row in reader}
    except (OSError, ValueError, csv.Error) as error:
        raise SettingsError(f"{path} cannot be read ({error}): put it right") from error
    missing = sorted(file for file in captions if file not in files)
    if missing:
        raise SettingsError(
            f"{path} has {counted(len(missing), 'caption')} of what is not among the pictures that "
            f"are read, the first of {missing[0]!r}: put pictures there, or take these lines out"
        )
    return captions


def _first_line(path: Path) -> str:
    """Of a text file; empty where there is none."""
    try:
        with open(path, "rb") as file:
            return file.readline(LONGEST_TEXT).decode("utf-8", "replace").strip()
    except OSError:
        return ""
