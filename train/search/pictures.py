"""Where images come from: shards with their sidecars, or a folder of image files; and which of them
are there now."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.dataset as ds

from alignset.train.data.find_shards import find_shards
from alignset.train.data.images import image_files
from alignset.train.data.samples import LONGEST_IMAGE, LONGEST_TEXT, shard_samples
from alignset.train.data.tables import read_table
from alignset.train.errors import SettingsError, TrainingError, counted

# Formats that nobody reads here, so that their files are not passed over in silence.
_UNREAD = frozenset({".svg", ".svgz", ".heic", ".heif", ".jxl", ".jp2", ".psd", ".ico"})
_CAPTIONS = "captions.csv"
_SIDECAR = pa.schema({"key": pa.string(), "url": pa.string(), "unsafe_score": pa.float64()})


class Picture(NamedTuple):
    """One image of a source; `data` is None where it has no image that is read, and `in_sidecar`
    says whether the table beside its shard names it."""

    key: str
    data: bytes | None
    caption: str
    url: str = ""
    unsafe_score: float | None = None
    in_sidecar: bool = False

    @property
    def image_sha256(self) -> str:
        """Hex; of the file as it is here."""
        return hashlib.sha256(self.data or b"").hexdigest()


class PictureSource(NamedTuple):
    """Images in an order that is always the same.

    Attributes:
      path: the real path of a local shard, the absolute path of a folder of images, with a slash
        at its end, or the name of another shard.
      pictures: begins to read them. Raises TrainingError where they cannot be read.
    """

    path: str
    pictures: Callable[[], Iterator[Picture]]


def find_sources(where: str) -> list[PictureSource]:
    """The sources that `where` names: each shard, or a folder without shards.

    Raises:
      SettingsError: it names nothing, or a folder without shards and images, or with a table of
        captions that cannot be read or names a file that is not there.
    """
    folder = Path(where)
    if not folder.is_dir() or any(folder.glob("*.tar")):
        shards = find_shards(where)
        paths = [os.path.realpath(shard) if os.path.exists(shard) else shard for shard in shards]
        return [*map(PictureSource, paths, (partial(_read_shard, shard) for shard in shards))]
    files = image_files(folder)
    if not files:
        _, unread = unread_pictures(where)
        but = f" that are read ({unread})" if unread else ""
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
    table, captions = folder / _CAPTIONS, dict[str, str]()
    if table.exists():
        rows = read_table(table, ["file"], ["caption"])
        captions = {file: text[:LONGEST_TEXT] for file, text in rows}
    if missing := sorted(captions.keys() - {*files}):
        raise SettingsError(
            f"{table} has {counted(len(missing), 'caption')} of what is not among the images that "
            f"are read, the first of {missing[0]!r}: put images there, or take these lines out"
        )
    path = os.path.join(os.path.abspath(folder), "")
    return [PictureSource(path, partial(_read_folder, folder, files, captions))]


def unread_pictures(where: str) -> tuple[int, str]:
    """How many images of a folder without shards have formats that are not read; and by format, as
    "2 .svg, 1 .heic; the first is 'a.svg'"."""
    folder = Path(where)
    is_read = folder.is_dir() and not any(folder.glob("*.tar"))
    files = image_files(folder, _UNREAD) if is_read else []
    counts = Counter(Path(file).suffix.lower() for file in files)
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in counts.most_common())
    return len(files), f"{kinds}; the first is {files[0]!r}" if files else ""


def _read_shard(shard: str) -> Iterator[Picture]:
    """The samples of a tar, with what the sidecar beside it says of them."""
    path = Path(os.path.realpath(shard)).with_suffix(".parquet")
    rows: dict[str, tuple[str | None, float | None]] = {}
    if path.exists():
        columns = [column.to_pylist() for column in _read_sidecar(path, *_SIDECAR.names)]
        rows = {key: (url, score) for key, url, score in zip(*columns, strict=True)}
    for sample in shard_samples(shard):
        name = sample.key.rpartition("/")[2]
        url, score = rows.get(name, ("", None))
        yield Picture(sample.key, sample.image, sample.text or "", url or "", score, name in rows)


def _read_folder(folder: Path, files: list[str], captions: dict[str, str]) -> Iterator[Picture]:
    """An image's key is its path in the folder. Its caption is the one of `captions.csv`, or the
    first line of the text file beside it (`cat.txt` of `cat.png`), or empty."""
    for file in files:
        path = folder / file
        try:
            data = None if path.stat().st_size > LONGEST_IMAGE else path.read_bytes()
        except OSError as error:
            raise TrainingError(f"{path} cannot be read ({error}): put it right") from error
        caption = captions.get(file)
        if caption is None:
            caption = ""
            with suppress(OSError), open(path.with_suffix(".txt"), "rb") as text:
                caption = text.readline(LONGEST_TEXT).decode("utf-8", "replace").strip()
        yield Picture(file, data, caption)


def manifest_of(folder: str) -> Path:
    """The manifest of the dataset whose shards are in a folder, be it there or not."""
    return Path(folder).parent / "manifest.json"


def manifest_hash(folder: str) -> str:
    """The SHA-256 of that manifest; empty where there is none."""
    path = manifest_of(folder)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def sidecar_keys(folder: str) -> pa.Array:
    """The keys of all sidecars in a folder. Raises TrainingError where one cannot be read."""
    paths = [*Path(folder).glob("*.parquet")]
    keys = [_read_sidecar(path, "key")["key"] for path in paths]
    return pa.chunked_array([c for column in keys for c in column.chunks], pa.string())


def _read_sidecar(path: Path, *names: str) -> pa.Table:
    """Columns of a table that anybody may have written; those that it lacks are null.

    Raises:
      TrainingError: it cannot be read.
    """
    try:
        table = ds.dataset([path], schema=_SIDECAR).to_table(columns=[*names])
        table.validate(full=True)  # such as texts that are not UTF-8
        return table
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = str(error).partition("\n")[0]
        raise TrainingError(
            f"{path} cannot be read ({reason:.150}): put it right, or take it away"
        ) from error
