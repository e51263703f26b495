"""Where images come from: shards with their sidecars, or a folder of image files; and what they
have now."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from alignset.train.data.find_shards import find_shards
from alignset.train.data.images import image_files
from alignset.train.data.samples import LONGEST_IMAGE, LONGEST_TEXT, shard_samples
from alignset.train.data.shard_streams import fingerprint
from alignset.train.data.tables import read_table
from alignset.train.errors import SettingsError, TrainingError, counted

# Of images that nobody reads here, so that they are not passed over in silence.
_UNREAD = frozenset({".svg", ".svgz", ".heic", ".heif", ".jxl", ".jp2", ".psd", ".ico"})
FOLDER_PART = 1024  # files in a part at most; an interruption loses one part
_CAPTIONS = "captions.csv"
_OF_SIDECARS = {"key", "url", "unsafe_score"}


class Picture(NamedTuple):
    """One image of a source; `data` is None where it has no image that is read, and `in_sidecar`
    says whether the table beside its shard names it."""

    key: str
    data: bytes | None
    caption: str
    url: str = ""
    unsafe_score: float | None = None
    in_sidecar: bool = False


@dataclass(frozen=True)
class PictureSource:
    """Images in an order that is always the same.

    Attributes:
      where: a shard's name, or a folder.
      identity: tells its contents from others, wherever it lies.
    """

    where: str
    identity: str

    def pictures(self) -> Iterator[Picture]:
        """Raises TrainingError where the source cannot be read."""
        raise NotImplementedError


class ShardSource(PictureSource):
    """A tar of samples, with what its sidecar beside it says of them."""

    def pictures(self) -> Iterator[Picture]:
        rows = _sidecar(self.where)
        for sample in shard_samples(self.where):
            row = rows.get(sample.key.rpartition("/")[2])
            url, score = row or ("", None)
            text = sample.text or ""
            yield Picture(sample.key, sample.image, text, url, score, row is not None)


@dataclass(frozen=True)
class FolderSource(PictureSource):
    """Some image files of a folder and of those below it. An image's key is its path in it.

    Attributes:
      captions: of `captions.csv`, by file. Another image's is the first line of the text file
        beside it (`cat.txt` of `cat.png`), or is empty.
    """

    files: tuple[str, ...]
    captions: dict[str, str]

    def pictures(self) -> Iterator[Picture]:
        for file in self.files:
            path = Path(self.where) / file
            try:
                large = path.stat().st_size > LONGEST_IMAGE
                data = None if large else path.read_bytes()
            except OSError as error:
                raise TrainingError(f"{path} cannot be read ({error}): put it right") from error
            caption = self.captions.get(file)
            if caption is None:
                caption = _first_line(path.with_suffix(".txt"))
            yield Picture(file, data, caption)


def find_sources(where: str) -> list[PictureSource]:
    """The sources that `where` names: each shard, or a folder without shards in parts.

    Raises:
      SettingsError: it names nothing, or a folder without shards and images.
    """
    folder = Path(where)
    if folder.is_dir() and not any(folder.glob("*.tar")):
        return [*_folder_sources(folder)]
    shards = find_shards(where)
    try:
        marks = [(shard, fingerprint(shard)) for shard in shards]
    except TrainingError as error:
        raise SettingsError(str(error)) from error
    # The same wherever a shard lies, if both of its ends can be read.
    return [
        ShardSource(shard, mark if mark.count(":") == 1 else f"{shard}:{mark}")
        for shard, mark in marks
    ]


def _folder_sources(folder: Path) -> Iterator[FolderSource]:
    files, unread = image_files(folder), image_files(folder, _UNREAD)
    if not files:
        but = f" that are read ({format_counts(unread)})" if unread else ""
        raise SettingsError(
            f"{str(folder)!r} holds neither shards (.tar) nor images{but}: name a folder that "
            "does, such as OUT/shards"
        )
    bad_names = [file for file in files if file != file.encode(errors="replace").decode()]
    if bad_names:
        raise SettingsError(
            f"{str(folder)!r} has {counted(len(bad_names), 'image')} by a name that is not "
            f"UTF-8, the first {os.fsencode(bad_names[0])!r}: rename them, since an index tells "
            "images by their names"
        )
    captions = _captions(folder, set(files))
    parts: list[list[str]] = [[]]
    for file in files:
        parts[-1].append(file)
        # By names, so that one file more or less changes one part and not all after it.
        name = hashlib.sha256(file.encode()).digest()
        if len(parts[-1]) == FOLDER_PART or int.from_bytes(name[:4]) % (FOLDER_PART // 2) == 0:
            parts.append([])
    for part in filter(None, parts):
        digest = hashlib.sha256()
        for file in part:
            digest.update(f"{file}\0{(folder / file).stat().st_size}\0".encode())
        yield FolderSource(str(folder), f"folder:{digest.hexdigest()[:32]}", tuple(part), captions)


def unread_pictures(where: str) -> list[str]:
    """The images of a folder without shards whose formats are not read."""
    folder = Path(where)
    shards = any(folder.glob("*.tar")) or not folder.is_dir()
    return [] if shards else image_files(folder, _UNREAD)


def format_counts(files: Sequence[str]) -> str:
    """How many files of other formats there are, as "2 .svg, 1 .heic; the first is 'a.svg'"."""
    counts = Counter(Path(file).suffix.lower() for file in files)
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in counts.most_common())
    return f"{kinds}; the first is {files[0]!r}"


def place_of(where: str) -> str:
    """The absolute path of a local shard, where its sidecar is beside it, or of a folder of images,
    with a slash at its end; else the name."""
    if os.path.isdir(where):
        return os.path.join(os.path.abspath(where), "")
    if not os.path.exists(where):  # in a store, or what a command prints
        return where
    places = os.path.abspath(where), os.path.realpath(where)
    return next((path for path in places if Path(path).with_suffix(".parquet").exists()), places[0])


def manifest_of(folder: str) -> Path:
    """The manifest of the dataset whose shards are in a folder, be it there or not."""
    return Path(folder).parent / "manifest.json"


def manifest_hash(folder: str) -> str:
    """The SHA-256 of that manifest; empty where there is none."""
    path = manifest_of(folder)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def file_names(folder: str, below: Iterable[str]) -> pa.Array:
    """The paths in a folder, as bytes, of the files that some folders below it hold.

    Args:
      below: each empty, or with a slash at its end.
    """
    names: list[bytes] = []
    for of in below:
        with suppress(OSError), os.scandir(os.path.join(folder, of)) as entries:
            names += [os.fsencode(of + entry.name) for entry in entries if entry.is_file()]
    return pa.array(names, pa.binary())


def sidecar_keys(folder: str) -> pa.Array:
    """The keys of all sidecars in a folder.

    Raises:
      TrainingError: a sidecar cannot be read.
    """
    with ThreadPoolExecutor() as threads:
        keys = [*threads.map(_keys, sorted(Path(folder).glob("*.parquet")))]
    return pa.chunked_array(keys, pa.string()).combine_chunks()


def _keys(path: Path) -> pa.Array:
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            table = file.read(columns=["key"] if "key" in names else [])
        if table.schema.types == [pa.string()]:
            return table["key"].combine_chunks()
        return pa.array(_texts(table, "key"), pa.string())
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> TrainingError:
    reason = str(error).partition("\n")[0]
    return TrainingError(f"{path} cannot be read ({reason:.150}): put it right, or take it away")


def _sidecar(shard: str) -> dict[str, tuple[str, float | None]]:
    """(URL, unsafe score) by key, of the Parquet file beside a local shard; empty without one."""
    path = Path(place_of(shard)).with_suffix(".parquet")
    if not path.exists():
        return {}
    try:
        table = pq.read_table(path, columns=[*_OF_SIDECARS & {*pq.read_schema(path).names}])
        if "key" not in table.column_names:
            return {}
        keys, urls = (_texts(table, name) for name in ("key", "url"))
        scores: list[float | None] = [None] * len(table)
        if "unsafe_score" in table.column_names:
            scores = table["unsafe_score"].cast(pa.float64()).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error
    return dict(zip(keys, zip(urls, scores, strict=True), strict=True))


def _texts(table: pa.Table, name: str) -> list[str]:
    """A column of a table that anybody may have written: its strings need not be UTF-8."""
    if name not in table.column_names:
        return [""] * len(table)
    column = table[name]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
        column = column.cast(pa.large_string())
    values = column.cast(pa.large_binary()).to_pylist()
    return [(value or b"").decode("utf-8", "replace") for value in values]


def _captions(folder: Path, files: set[str]) -> dict[str, str]:
    """The captions of `captions.csv`, by file; empty where there is none.

    Raises:
      SettingsError: it can't be read, or names a file that is not there.
    """
    path = folder / _CAPTIONS
    if not path.exists():
        return {}
    captions = {file: text[:LONGEST_TEXT] for file, text in read_table(path, ["file"], ["caption"])}
    missing = sorted(captions.keys() - files)
    if missing:
        raise SettingsError(
            f"{path} has {counted(len(missing), 'caption')} of what is not among the images that "
            f"are read, the first of {missing[0]!r}: put images there, or take these lines out"
        )
    return captions


def _first_line(path: Path) -> str:
    """The caption from a text file; empty where there is none."""
    try:
        with open(path, "rb") as file:
            return file.readline(LONGEST_TEXT).decode("utf-8", "replace").strip()
    except OSError:
        return ""
