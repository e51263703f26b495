"""An index made, added to, and taken from. `index.json` is written when all else is there, so a
command that is killed leaves the index that was there before."""

import dataclasses
import fcntl
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from alignset.train.errors import SettingsError, TrainingError
from alignset.train.model.embedder import Embedder
from alignset.train.search.blocklist import Blocklist, keep_blocklist, kept_blocklist
from alignset.train.search.index_files import (
    FORMAT,
    IndexDocument,
    part_rows,
    part_vectors,
    read_index,
    read_part,
    write_document,
)
from alignset.train.search.index_neighbours import with_neighbours
from alignset.train.search.neighbours import kind_for
from alignset.train.search.part_builder import REASONS, PartBuilder
from alignset.train.search.pictures import Source
from alignset.train.search.taken_down import sets_of, taken_keys
from alignset.train.search.thinned_parts import thinned_part

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Making:
    """How an index is made.

    Attributes:
      tell: is told how many samples more were read.
      say: is told what begins.
    """

    batch_size: int
    thumbnail_px: int
    threads: int
    tell: Callable[[int], None]
    say: Say


@dataclasses.dataclass(frozen=True)
class Added:
    """What a command has done: the index, how many rows are new, what it left out, and how many
    rows it took out because their pairs were taken down from their sets."""

    document: IndexDocument
    rows: int
    left_out: dict[str, int]
    taken_out: int


class Removed(NamedTuple):
    """The keys of the rows that were taken out, and the lines of the list that matched none."""

    keys: list[str]
    unmatched: list[str]


def check_model(document: IndexDocument, model: Embedder, folder: Path) -> None:
    """Raises SettingsError where an index is of another model."""
    if document.digest != model.digest:
        raise SettingsError(
            f"the index in {str(folder)!r} was made by the model {document.model} "
            f"({document.digest[:12]}) and not by {model.name} ({model.digest[:12]}): give the "
            "--model that it was made by, or another --index"
        )


def add_sources(folder: Path, sources: list[Source], model: Embedder, making: Making) -> Added:
    """Makes an index of these sources, or adds what it lacks of them to the one that is there.

    Raises:
      SettingsError: the index is of another model, or nothing could be taken in.
      TrainingError: a source cannot be read, or another command works on the index.
    """
    with _only_one(folder):
        old = read_index(folder) if (folder / "index.json").exists() else None
        if old is not None:
            check_model(old, model, folder)
        sets = sorted({*sets_of(sources), *(old.sets if old else ())})
        taken = Blocklist.of_keys(taken_keys(sets))
        blocklist = kept_blocklist(folder).joined(taken)
        names, left_out = _built_parts(folder, sources, model, making, (old, blocklist))
        if len(taken):  # rows that are there already, and those of a command that was killed
            names = [thinned_part(folder, name, taken, write=True).name for name in names]
        rows = [_rows(folder, name) for name in names]
        if not sum(rows) and old is None:
            raise SettingsError(
                f"nothing could be taken into the index ({_told(left_out)}): name shards or a "
                "folder of pictures that can be opened"
            )
        document = _finish(folder, old, (names, rows, sets), model, making.say)
        kept = sum(rows[: len(old.parts)]) if old else 0
        before = old.total if old else 0
        return Added(document, document.total - kept, left_out, before - kept)


def remove_rows(folder: Path, blocklist: Blocklist, *, dry_run: bool, say: Say) -> Removed:
    """Takes the rows that are on a list out of an index, from all of its files, and has the index
    keep the list, so that they never come in again.
    """
    read_index(folder)  # before a folder is made for its lock
    with _only_one(folder):
        document = read_index(folder)
        keys: list[str] = []
        names: list[str] = []
        matched: set[str] = set()
        for name in document.parts:
            thinned = thinned_part(folder, name, blocklist, write=not dry_run)
            names.append(thinned.name)
            keys += thinned.keys
            matched |= thinned.lines
        removed = Removed(keys, [line for line in blocklist.lines() if line not in matched])
        if dry_run:
            return removed
        keep_blocklist(folder, kept_blocklist(folder).joined(blocklist))
        if keys:
            rows = [_rows(folder, name) for name in names]
            _finish(folder, document, (names, rows, document.sets), None, say)
        else:  # what a killed command has left may hold such rows too
            _clear(folder, document)
        return removed


def _built_parts(
    folder: Path,
    sources: Iterable[Source],
    model: Embedder,
    making: Making,
    before: tuple[IndexDocument | None, Blocklist],
) -> tuple[list[str], dict[str, int]]:
    """The names of all parts, and what was left out of these sources by reason.

    Args:
      before: the index that is there, and what must not come in.
    """
    old, blocklist = before
    names = [*old.parts] if old else []
    builder = PartBuilder(
        folder,
        model.digest,
        model.embed_images,
        blocklist,
        {re.sub(r"\.\d+$", "", name): name for name in names},
        {hash_ for name in names for hash_ in _key_hashes(folder, name)},
        making.batch_size,
        making.thumbnail_px,
        making.threads,
        making.tell,
    )
    left_out = dict.fromkeys(REASONS, 0)
    there = set(names)
    for source in sources:
        for name in builder.build(source):
            if name in there:
                continue
            there.add(name)
            names.append(name)
            part = read_part(folder, name)
            for reason, count in (part.left_out if part else {}).items():
                left_out[reason] = left_out.get(reason, 0) + count
    return names, left_out


def _key_hashes(folder: Path, name: str) -> list[int]:
    hashes: list[int] = part_rows(folder, name, ["key_hash"])["key_hash"].to_pylist()
    return hashes


def _rows(folder: Path, name: str) -> int:
    part = read_part(folder, name)
    if part is None:
        raise TrainingError(f"{folder}/parts/{name}.json is gone: make the index anew")
    return part.rows


def _finish(
    folder: Path,
    old: IndexDocument | None,
    content: tuple[list[str], list[int], list[str]],
    model: Embedder | None,
    say: Say,
) -> IndexDocument:
    """Makes what finds the nearest of these parts' rows, writes `index.json`, and clears away what
    no longer belongs to the index.

    Args:
      content: names and rows of the parts, and the sets that they are of.
      model: None where rows were taken out: the cells and the settings stay.
    """
    assert old or model
    names, rows, sets = content
    if model is not None:
        full = (name for name, n in zip(names, rows, strict=True) if n)
        dimensions = old.dimensions if old else part_vectors(folder, next(full)).shape[1]
        named = (model.name, model.digest, dimensions)
    else:
        assert old
        named = (old.model, old.digest, old.dimensions)
    document = IndexDocument(FORMAT, *named, names, rows, "exact", "", 0, {}, 1.0, sets)
    if kind_for(document.total) != "exact":
        say(f"sorting {document.total:,} rows into cells")
        document = with_neighbours(folder, old, document, model)
    write_document(folder / "index.json", document)
    _clear(folder, document)
    return document


def _clear(folder: Path, document: IndexDocument) -> None:
    """Deletes the files that an index does not lead to."""
    for path in folder.glob("neighbours-*.faiss*"):
        if path.name != document.neighbours:
            path.unlink()
    ours = set(document.parts)
    for path in (folder / "parts").iterdir():
        name = re.sub(r"(\.thumbnails)?\.(json|npy|parquet)(\.tmp)?$", "", path.name)
        if name not in ours or path.suffix == ".tmp":
            path.unlink(missing_ok=True)


def _told(left_out: dict[str, int]) -> str:
    counts = ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count)
    return counts or "no samples"


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Keeps a second command off an index that is being changed."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise TrainingError(
                f"another command is changing the index in {str(folder)!r}: wait for it to end"
            ) from error
        yield
