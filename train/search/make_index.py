"""An index made, added to, and taken from. `index.json` is written when all else is there, so a
command that is killed leaves the index that was there before."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from alignset.train.data.whole_files import write_whole
from alignset.train.errors import SettingsError, TrainingError
from alignset.train.search.blocklist import (
    DIGESTS,
    Blocklist,
    datasets_of,
    store_blocklist,
    stored_blocklist,
    taken_down_keys,
)
from alignset.train.search.index_files import (
    DOCUMENT,
    FORMAT,
    IndexDocument,
    column_vectors,
    index_rows,
    part_path,
    read_index,
    read_part,
    write_index,
)
from alignset.train.search.neighbours import (
    factory_for,
    make_faiss_index,
    measured_recall,
    write_faiss_index,
)
from alignset.train.search.pictures import PictureSource, ShardSource
from alignset.train.search.source_rows import Making, SourceRows

if TYPE_CHECKING:
    from alignset.train.model.embed import DualEmbedder

Say = Callable[[str], None]


class Added(NamedTuple):
    """Result of a command: the index, how many rows are new, and how many rows it took out because
    their pairs were taken down from their datasets."""

    document: IndexDocument
    rows: int
    removed_rows: int


class Removed(NamedTuple):
    """The keys of the rows that were taken out, and the lines of the list that matched none."""

    keys: list[str]
    unmatched_lines: list[str]


def check_model(document: IndexDocument, model: DualEmbedder, folder: Path) -> None:
    """Raises SettingsError where an index is of another model."""
    if document.digest != model.digest:
        raise SettingsError(
            f"the index in {str(folder)!r} was made by the model {document.model} "
            f"({document.digest[:12]}) and not by {model.name} ({model.digest[:12]}): pass the "
            "--model that it was made by, or another --index"
        )


def add_sources(
    folder: Path, sources: list[PictureSource], model: DualEmbedder, making: Making, say: Say
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
        generation, names = 1, list[str]()
        if old is not None:
            check_model(old, model, folder)
            generation, names = old.generation + 1, list(old.parts)
        shards = [source.where for source in sources if isinstance(source, ShardSource)]
        sets = sorted({*datasets_of(shards), *(old.sets if old else ())})
        blocklist = stored_blocklist(folder).union(Blocklist.of_keys(taken_down_keys(sets)))
        keys = {key for name in names for key in _keys_of(folder, name)}
        stems = {name.partition(".")[0] for name in names}
        for source in sources:
            if (stem := _stem(source, model)) not in stems:
                name = f"{stem}.{generation}"
                _make_part(folder, name, SourceRows(source, model, blocklist, making, keys))
                names.append(name)
                stems.add(stem)
        if len(blocklist):  # rows that are there already, also from a killed command
            names = [_without(folder, name, blocklist, generation, write=True)[0] for name in names]
        counts = [len(read_part(folder, name)) for name in names]
        if not sum(counts) and old is None:
            reasons = ", ".join(f"{count} {why}" for why, count in making.left_out.items() if count)
            raise SettingsError(
                f"nothing could be taken into the index ({reasons or 'no samples'}): name shards "
                "or a folder of images that can be opened"
            )
        document = IndexDocument(
            FORMAT,
            generation,
            os.path.abspath(model.name) if os.path.isdir(model.name) else model.name,
            model.digest,
            model.width,
            names,
            sum(counts),
            factory_for(sum(counts)),
            1.0,
            sets,
        )
        document = _finish(folder, old, document, say)
        remaining = sum(counts[: len(old.parts)]) if old else 0
        return Added(document, sum(counts) - remaining, (old.rows if old else 0) - remaining)


def _make_part(folder: Path, name: str, rows: SourceRows) -> None:
    """Writes a part, unless a command that was killed left it, and it repeats no key."""
    path = part_path(folder, name)
    if path.exists() and rows.keys.isdisjoint(own_keys := _keys_of(folder, name)):
        rows.keys.update(own_keys)
    else:
        write_whole(path, rows.write)


def remove_rows(folder: Path, blocklist: Blocklist, *, dry_run: bool, say: Say) -> Removed:
    """Takes the rows that are on a list out of an index, from all of its files, and has the index
    keep the list, so that they never come in again.
    """
    read_index(folder)  # before a folder is made for its lock
    with _only_one(folder):
        old = read_index(folder)
        if not dry_run:
            store_blocklist(folder, stored_blocklist(folder).union(blocklist))
        generation = old.generation + 1
        names, keys, matches = [], list[str](), set[str]()
        for part in old.parts:
            name, removed_keys, lines = _without(
                folder, part, blocklist, generation, write=not dry_run
            )
            names.append(name)
            keys += removed_keys
            matches |= lines
        if not dry_run:  # with no key too: a killed command may have left such rows
            rows = old.rows - len(keys)
            document = dataclasses.replace(
                old, generation=generation, parts=names, rows=rows, factory=factory_for(rows)
            )
            _finish(folder, old, document, say)
        return Removed(keys, [line for line in blocklist.lines() if line not in matches])


def _stem(source: PictureSource, model: DualEmbedder) -> str:
    """The name of a source's part, up to the dot that a generation follows."""
    origin = f"{source.identity}\0{model.digest}"
    return hashlib.sha256(origin.encode(errors="replace")).hexdigest()[:16]


def _keys_of(folder: Path, name: str) -> list[str]:
    keys: list[str] = read_part(folder, name)["key"].to_pylist()
    return keys


def _without(
    folder: Path, name: str, blocklist: Blocklist, generation: int, *, write: bool
) -> tuple[str, list[str], set[str]]:
    """A part under another name, without the rows that are on a list, or as it is where it has none
    of them; their keys, and the lines of the list that name them.

    Args:
      write: otherwise nothing is written, and the part keeps its name.
    """
    rows = read_part(folder, name)
    lines = [
        blocklist.lines_of(row) for row in rows.select(["key", "url", "host", *DIGESTS]).to_pylist()
    ]
    is_blocked = np.array([bool(of_row) for of_row in lines], bool)
    keys: list[str] = rows["key"].filter(pa.array(is_blocked)).to_pylist()
    if keys and write:
        remaining = rows.filter(pa.array(~is_blocked))
        # A part of this command has no index that is open, and keeps its name.
        name = f"{name.partition('.')[0]}.{generation}"
        write_whole(part_path(folder, name), partial(write_table, remaining))
    return name, keys, set().union(*lines)


def write_table(rows: pa.Table, file: IO[bytes]) -> None:
    """Writes rows as an Arrow file."""
    with pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows)


def _finish(
    folder: Path, old: IndexDocument | None, document: IndexDocument, say: Say
) -> IndexDocument:
    """Has faiss index the rows, writes `index.json`, and deletes what no longer belongs to the
    index."""
    if old and old.parts == document.parts:
        document = dataclasses.replace(old, sets=document.sets)
    else:
        if document.kind == "cells":
            say(f"sorting {document.rows:,} rows into cells")
        pieces = column_vectors(index_rows(folder, document)["vector"])
        index = make_faiss_index(pieces, document.dimensions, document.factory)
        write_faiss_index(document.vectors_path(folder), index)
        recall = round(measured_recall(index), 4) if document.kind == "cells" else 1.0
        document = dataclasses.replace(document, recall=recall)
    write_index(folder, document)
    own_paths = {part_path(folder, name) for name in document.parts} | {
        document.vectors_path(folder)
    }
    for path in [*(folder / "parts").iterdir(), *folder.glob("vectors-*")]:
        if path not in own_paths:
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
