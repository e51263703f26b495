"""An index made, added to, and taken from. `index.json` is written when all else is there, so a
command that is killed leaves the index that was there before."""

import dataclasses
import fcntl
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from alignset.train.errors import SettingsError, TrainingError
from alignset.train.model.embedder import Embedder
from alignset.train.search.blocklist import (
    DIGESTS,
    Blocklist,
    datasets_of,
    store_blocklist,
    stored_blocklist,
    taken_down_keys,
)
from alignset.train.search.build_parts import REASONS, Making, PartBuilder
from alignset.train.search.index_files import (
    DOCUMENT,
    FORMAT,
    IndexDocument,
    part_path,
    read_index,
    read_part,
    vector_pieces,
    write_index,
    write_part,
)
from alignset.train.search.neighbours import (
    Vectors,
    factory_for,
    make_faiss_index,
    measured_recall,
    write_faiss_index,
)
from alignset.train.search.pictures import PictureSource, ShardSource

Say = Callable[[str], None]


class Added(NamedTuple):
    """What a command has done: the index, how many rows are new, what it left out, and how many
    rows it took out because their pairs were taken down from their datasets."""

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


def add_sources(
    folder: Path, sources: list[PictureSource], model: Embedder, making: Making, say: Say
) -> Added:
    """Makes an index of these sources, or adds what it lacks of them to the one that is there.

    Args:
      say: gets a line when rows are sorted into cells.

    Raises:
      SettingsError: the index is of another model, or nothing could be taken in.
      TrainingError: a source cannot be read, or another command works on the index.
    """
    with _only_one(folder):
        old = read_index(folder) if (folder / DOCUMENT).exists() else None
        if old is not None:
            check_model(old, model, folder)
        shards = [source.where for source in sources if isinstance(source, ShardSource)]
        sets = sorted({*datasets_of(shards), *(old.sets if old else ())})
        gone = Blocklist.of_keys(taken_down_keys(sets))
        names = list(old.parts) if old else []
        builder = PartBuilder(folder, model, stored_blocklist(folder).joined(gone), making, names)
        left_out = dict.fromkeys(REASONS, 0)
        for source in sources:
            for name, progress in builder.build(source):
                if name not in names:
                    names.append(name)
                    for reason, count in progress.left_out.items():
                        left_out[reason] += count
        if len(gone):  # rows that are there already, and those of a command that was killed
            names = [_without(folder, name, gone, write=True)[0] for name in names]
        rows = [len(read_part(folder, name)[0]) for name in names]
        if not sum(rows) and old is None:
            counts = ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count)
            raise SettingsError(
                f"nothing could be taken into the index ({counts or 'no samples'}): name shards or "
                "a folder of pictures that can be opened"
            )
        document = IndexDocument(
            FORMAT, model.name, model.digest, model.width, names, sum(rows), "", "", 1.0, sets
        )
        document = _finish(folder, old, document, say)
        same = sum(rows[: len(old.parts)]) if old else 0
        return Added(document, sum(rows) - same, left_out, (old.rows if old else 0) - same)


def remove_rows(folder: Path, blocklist: Blocklist, *, dry_run: bool, say: Say) -> Removed:
    """Takes the rows that are on a list out of an index, from all of its files, and has the index
    keep the list, so that they never come in again.
    """
    read_index(folder)  # before a folder is made for its lock
    with _only_one(folder):
        old = read_index(folder)
        if not dry_run:
            store_blocklist(folder, stored_blocklist(folder).joined(blocklist))
        names, keys, matches = [], list[str](), set[str]()
        for name in old.parts:
            name, blocked, lines = _without(folder, name, blocklist, write=not dry_run)
            names.append(name)
            keys += blocked
            matches |= lines
        if not dry_run:  # with no key too: a killed command may have left such rows
            document = dataclasses.replace(old, parts=names, rows=old.rows - len(keys))
            _finish(folder, old, document, say)
        return Removed(keys, [line for line in blocklist.lines() if line not in matches])


def _without(
    folder: Path, name: str, blocklist: Blocklist, *, write: bool
) -> tuple[str, list[str], set[str]]:
    """A part under another name, without the rows that are on a list, or as it is where it has none
    of them; their keys, and the lines of the list that name them.

    Args:
      write: otherwise nothing is written, and the part keeps its name.
    """
    rows, progress = read_part(folder, name)
    lines = [
        blocklist.lines_of(row) for row in rows.select(["key", "url", "host", *DIGESTS]).to_pylist()
    ]
    blocked = np.array([bool(of_row) for of_row in lines], bool)
    keys: list[str] = rows["key"].filter(pa.array(blocked)).to_pylist()
    if keys and write:
        stem, number = re.fullmatch(r"(.*?)(?:\.(\d+))?", name).groups()  # type: ignore[union-attr]
        name = f"{stem}.{int(number or 0) + 1}"
        left_out = progress.left_out | {"blocked": progress.left_out["blocked"] + len(keys)}
        rows = rows.filter(pa.array(~blocked))
        write_part(folder, name, rows, dataclasses.replace(progress, left_out=left_out))
    return name, keys, set().union(*lines)


def _finish(
    folder: Path, old: IndexDocument | None, document: IndexDocument, say: Say
) -> IndexDocument:
    """Has faiss sort the rows where there are many, writes `index.json`, and deletes what no longer
    belongs to the index."""
    factory = factory_for(document.rows)
    document = dataclasses.replace(document, factory=factory, cells="", recall=1.0)
    if old and (old.parts, old.factory) == (document.parts, factory):
        document = dataclasses.replace(document, cells=old.cells, recall=old.recall)
    elif factory_for(document.rows) != factory_for(0):
        say(f"sorting {document.rows:,} rows into cells")
        parts = [read_part(folder, name)[0]["vector"] for name in document.parts]
        pieces = [piece for column in parts for piece in vector_pieces(column)]
        vectors = Vectors(pieces, document.dimensions)
        index = make_faiss_index(vectors, factory)
        number = int(re.sub(r"\D", "", old.cells) or 0) if old else 0
        cells = f"cells-{number + 1}.faiss"
        write_faiss_index(folder / cells, index)
        recall = round(measured_recall(vectors, index), 4)
        document = dataclasses.replace(document, cells=cells, recall=recall)
    write_index(folder, document)
    files = {part_path(folder, name) for name in document.parts} | {folder / document.cells}
    for path in [*(folder / "parts").iterdir(), *folder.glob("cells-*")]:
        if path not in files:
            path.unlink()
    return document


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
