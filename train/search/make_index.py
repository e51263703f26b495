"""An index made, or brought to what its sources have now. `index.json` is written when all else is
there, so a command that is killed leaves the index that was there before."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import pyarrow as pa

from alignset.train.data.whole_files import write_whole
from alignset.train.errors import SettingsError, TrainingError
from alignset.train.search.index_files import (
    DOCUMENT,
    FORMAT,
    IndexDocument,
    column_vectors,
    part_path,
    read_index,
    read_part,
    read_parts,
    write_index,
)
from alignset.train.search.neighbours import (
    factory_for,
    make_faiss_index,
    measured_recall,
    write_faiss_index,
)
from alignset.train.search.pictures import PictureSource, ShardSource, manifest_hash, place_of
from alignset.train.search.source_rows import Making, SourceRows

if TYPE_CHECKING:
    from alignset.train.model.embed import DualEmbedder

Say = Callable[[str], None]


class Added(NamedTuple):
    """Result of a command: the index, how many rows are new, and how many rows it took out, since
    their shards have changed or are gone."""

    document: IndexDocument
    rows: int
    removed_rows: int


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
    """Makes an index of these sources, or brings the one that is there to what they have now. Rows
    of other sources stay, but for shards that are gone from their folder.

    Args:
      say: gets a line when rows are sorted into cells.

    Raises:
      SettingsError: the index is of another model, or nothing could be taken in.
      TrainingError: a source cannot be read, or another command works on the index.
    """
    with _only_one(folder):
        old = read_index(folder) if (folder / DOCUMENT).exists() else None
        generation, old_parts = 1, dict[str, str]()
        if old is not None:
            check_model(old, model, folder)
            generation, old_parts = old.generation + 1, old.parts
        stems = {_stem(source, model): source for source in sources}
        places = {
            stem: place_of(source.where) if isinstance(source, ShardSource) else ""
            for stem, source in stems.items()
        }
        manifests = {} if old is None else old.manifests
        # Before the shards are read, which may change meanwhile.
        manifests |= {of: manifest_hash(of) for of in map(os.path.dirname, places.values()) if of}
        parts: dict[str, str] = {}
        for name, place in old_parts.items():
            stem = name.partition(".")[0]
            changed = place in places.values() or (
                os.path.isdir(os.path.dirname(place)) and not os.path.exists(place)
            )
            if stem in stems or not place or not changed:
                parts[name] = places.get(stem, place)
        rows_before = sum(len(read_part(folder, name)) for name in parts)
        known = {name.partition(".")[0] for name in parts}
        keys = {key for name in parts for key in _keys_of(folder, name)}
        for stem in [stem for stem in stems if stem not in known]:
            name = f"{stem}.{generation}"
            _make_part(folder, name, SourceRows(stems[stem], model, making, keys))
            parts[name] = places[stem]
        rows = sum(len(read_part(folder, name)) for name in parts)
        if not rows and old is None:
            reasons = ", ".join(f"{count} {why}" for why, count in making.left_out.items() if count)
            raise SettingsError(
                f"nothing could be taken into the index ({reasons or 'no samples'}): name shards "
                "or a folder of images that can be opened"
            )
        used = set(map(os.path.dirname, parts.values()))
        document = IndexDocument(
            FORMAT,
            generation,
            os.path.abspath(model.name) if os.path.isdir(model.name) else model.name,
            model.digest,
            model.width,
            parts,
            rows,
            factory_for(rows),
            1.0,
            {of: digest for of, digest in sorted(manifests.items()) if of in used},
        )
        document = _finish(folder, old, document, say)
        return Added(document, rows - rows_before, (old.rows if old else 0) - rows_before)


def _make_part(folder: Path, name: str, rows: SourceRows) -> None:
    """Writes a part, unless a command that was killed left it, and it repeats no key."""
    path = part_path(folder, name)
    if path.exists() and rows.keys.isdisjoint(own_keys := _keys_of(folder, name)):
        rows.keys.update(own_keys)
    else:
        write_whole(path, rows.write)


def _stem(source: PictureSource, model: DualEmbedder) -> str:
    """The name of a source's part, up to the dot that a generation follows."""
    origin = f"{source.identity}\0{model.digest}"
    return hashlib.sha256(origin.encode(errors="replace")).hexdigest()[:16]


def _keys_of(folder: Path, name: str) -> list[str]:
    keys: list[str] = read_part(folder, name)["key"].to_pylist()
    return keys


def write_table(rows: pa.Table, file: IO[bytes]) -> None:
    """Writes rows as an Arrow file."""
    with pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows)


def _finish(
    folder: Path, old: IndexDocument | None, document: IndexDocument, say: Say
) -> IndexDocument:
    """Has faiss index the rows, writes `index.json`, and deletes what no longer belongs to the
    index."""
    if old and [*old.parts] == [*document.parts]:
        document = dataclasses.replace(old, parts=document.parts, manifests=document.manifests)
    else:
        if document.kind == "cells":
            say(f"sorting {document.rows:,} rows into cells")
        vectors = (part["vector"] for part in read_parts(folder, document))
        pieces = [piece for column in vectors for piece in column_vectors(column)]
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
