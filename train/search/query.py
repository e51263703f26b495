"""An index that is searched, queries, and what they find.

1. The vectors of a query's terms are added up by their weights (`query_vector`).
2. faiss finds the nearest rows that their datasets still have, and that pass the filters.
3. Rows that show the same image are folded into the nearest one (`find_results`).

Texts and vectors of an index are in memory; a thumbnail is read from the file when it is shown.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shlex
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, UnidentifiedImageError

from alignset.called import give
from alignset.train.data.images import decode_image
from alignset.train.data.samples import LONGEST_IMAGE
from alignset.train.errors import SettingsError, TrainingError, counted
from alignset.train.search.index_files import (
    DOCUMENT,
    FORMAT,
    ROWS,
    IndexDocument,
    Neighbours,
    read_faiss_index,
    row_schema,
    say,
)
from alignset.train.search.known_rows import RowFile
from alignset.train.search.pictures import manifest_hash, manifest_of, sidecar_keys
from alignset.transforms.fetching.fetch_settings import FetchSettings

if TYPE_CHECKING:
    from alignset.train.model.embed import DualEmbedder

# No address that is not public is connected to, after each redirect anew.
FETCH = FetchSettings(timeout_s=20.0, shard_timeout_s=60.0, retries=1, max_retry_after_s=5.0)
MAX_TEXT = 1000  # characters; a model reads its first 64 tokens or so
MAX_TERMS = 16
MAX_WEIGHT = 10.0
MAX_FILTER = 200  # characters of a host or a part of a caption
UNSAFE_SCORE = 0.5  # above which an image may be unsafe
_MIN_SUM = 1e-3  # of the sum of weights; below it the rest of a sum is noise
_MASKS = 32  # filters whose rows are kept ready
_SHOWN = ("key", "caption", "url", "host", "width", "height", "unsafe_score")  # of a result
_COLUMNS = (*_SHOWN, "phash", "in_sidecar")
FileMark = tuple[int, int, int] | None
MAX_RESULTS = 1000
# Two images are one where their perceptual hashes differ by as few bits and their embeddings are
# as near: plain images have the same bits, and two cats nearly the same embedding.
_MAX_BITS, _MIN_COSINE = 6, 0.95
_MIN_COMPARED = 100  # of which the duplicates of few results are folded
EmbedTexts = Callable[[list[str]], np.ndarray]
# A row that was found: the columns that are shown; `score`, its cosine with the query;
# `unsafe`, whether its unsafe score is above UNSAFE_SCORE, None where it has none; and `folded`,
# how many rows beside itself it stands for, among the compared ones.
Result = dict[str, Any]


@dataclass(frozen=True)
class Term:
    """A part of a query.

    Attributes:
      kind: "text", "key" (of an image of the index), or another for images from elsewhere.
      value: the text, the key, or the name of an image.
      weight: how much of it; negative: away from it.
    """

    kind: str
    value: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.value.strip():
            raise SettingsError(
                f"an empty {self.kind} finds nothing: write what to look for, such as a red car"
            )
        if self.kind == "text" and len(self.value) > MAX_TEXT:
            raise SettingsError(
                f"a text must have at most {MAX_TEXT} characters; got {len(self.value)}"
            )
        if not 0 < abs(self.weight) <= MAX_WEIGHT:  # nor NaN
            raise SettingsError(
                f"a weight must be a number other than 0 from -{MAX_WEIGHT:g} to {MAX_WEIGHT:g}; "
                f"got {self.weight}"
            )


def make_terms(terms: Iterable[tuple[str, str, float]]) -> tuple[Term, ...]:
    """The terms of a query; raises SettingsError where there are none, or too many."""
    made = tuple(Term(*term) for term in terms)
    if not made:
        raise SettingsError("the query is empty: pass a text, an image, or both")
    if len(made) > MAX_TERMS:
        raise SettingsError(f"a query has at most {MAX_TERMS} terms; got {len(made)}")
    return made


@dataclass(frozen=True)
class SearchQuery:
    """A query: terms, and which rows may be found.

    Attributes:
      terms: added up by their weights.
      host: this host or one below it: example.org has img.example.org too. Empty: any.
      caption: what the caption contains, in whatever case. Empty: anything.
      min_side, max_side: px of the shorter side; 0: any.
      safe: without those whose unsafe score is above UNSAFE_SCORE. Ones without a score stay.
      fold: whether duplicates are one result.
    """

    terms: tuple[Term, ...] = ()
    host: str = ""
    caption: str = ""
    min_side: int = 0
    max_side: int = 0
    safe: bool = False
    fold: bool = True

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, str) and len(value) > MAX_FILTER:
                raise SettingsError(f"{name} must have at most {MAX_FILTER} characters")
            if isinstance(value, int) and not 0 <= value < 1 << 31:
                raise SettingsError(f"{name} must be a number of px, 0 or more")
        if self.max_side and self.max_side < self.min_side:
            raise SettingsError(
                f"max_side must be at least min_side; got {self.max_side} and {self.min_side}"
            )


class OpenedIndex:
    """Finds rows and shows what they hold. Several threads may use it at once.

    Attributes:
      rows: a table of the columns named above, n rows.
      pictures: how many of them their datasets still have; the others are never shown.
      phashes: uint64[n], perceptual hashes.
      notes: lines on datasets that have changed since, or cannot be read here.
    """

    def __init__(self, folder: Path):
        """Opens an index.

        Raises:
          SettingsError: there is no index, or another version made it. TrainingError: it is
            damaged.
        """
        path = folder / ROWS
        if not path.is_file():
            raise SettingsError(
                f"{str(folder)!r} holds no index: make one, as by alignset search index "
                f"--model=RUN/model --data=OUT/shards --output={folder}"
            )
        self._marks: dict[str, dict[str, FileMark]] = {"": {str(path): _mark(path)}}  # by folder
        self.folder, self._reading = folder, threading.Lock()
        try:
            self._file = RowFile(path)
            fields: dict[str, Any] = json.loads(self._file.metadata[DOCUMENT])
            if fields["format"] != FORMAT:
                raise SettingsError(
                    f"{path} is of another version of alignset: make the index anew"
                )
            # The fields get their types from the class.
            self.document = msgspec.convert(vars(IndexDocument(**fields)), IndexDocument)
            count, width = self.document.rows, self.document.dimensions
            if not self._file.schema.equals(row_schema(width)):
                raise ValueError("it has other columns")
            # In one piece: strings of many pieces are copied together for each search.
            self.rows = self._file.read(*_COLUMNS).combine_chunks()
            self.rows.validate(full=True)
            path = folder / os.path.basename(self.document.vectors)
            vectors = read_faiss_index(path)
            counts = {(vectors.ntotal, vectors.d), (len(self.rows), width)}
            if counts != {(count, width)} or min(self.document.sources.values(), default=-1) < 0:
                raise ValueError(f"it does not hold the {count} rows of the index")
            self.neighbours = Neighbours(vectors)
        except SettingsError:
            raise
        except Exception as error:  # Arrow, msgspec and faiss raise many kinds
            reason = str(error).strip().partition("\n")[0].rpartition(": ")[2]  # faiss: code first
            raise TrainingError(
                f"{path} cannot be read ({reason:.150}): the index is damaged, make it anew"
            ) from error
        self.notes: list[str] = []
        self._present = np.ones(len(self.rows), bool)
        for dataset in self.document.manifests:
            self._compare(dataset)
        self.pictures = int(self._present.sum())
        self.phashes: np.ndarray = self.rows["phash"].to_numpy()
        self._row_mask = functools.lru_cache(_MASKS)(self._find_rows)

    def has_changed(self) -> bool:
        """Whether the folder holds another index now, or its dataset has changed; costs 2
        microseconds, 4 a folder of shards, and 2 for each folder that holds images. A dataset that
        is away has not: what it no longer had stays hidden."""
        return any(
            (not dataset or os.path.isdir(dataset))
            and any(_mark(path) != mark for path, mark in marks.items())
            for dataset, marks in self._marks.items()
        )

    def _compare(self, dataset: str) -> None:
        """Notes which rows of a folder of shards, or of images, it has no longer."""
        paths, counts = zip(*self.document.sources.items(), strict=True)
        of_folder = np.repeat([os.path.dirname(path) == dataset for path in paths], counts)
        rows = self.rows.select(["key", "in_sidecar"]).filter(pa.array(of_folder))
        keys, has_images = rows["key"], paths == (os.path.join(dataset, ""),)
        below = {os.path.dirname(key) for key in keys.to_pylist()} if has_images else {""}
        # Before they are read. A takedown changes the shards' folder, and its manifest last.
        marked = [str(manifest_of(dataset)), *(os.path.join(dataset, folder) for folder in below)]
        self._marks[dataset] = {path: _mark(path) for path in marked}
        if not os.path.isdir(dataset):
            self.notes.append(
                f"{dataset}, which the index was made of, is not on a disk of this machine: "
                "pairs that left it since may be shown"
            )
            return
        if has_images:
            files = (os.path.join(dataset, key) for key in keys.to_pylist())
            is_there = np.array([*map(os.path.isfile, files)], bool)
        else:
            names = pc.replace_substring_regex(keys, "(?s)^.*/", "")
            is_kept = pc.is_in(names, value_set=sidecar_keys(dataset).combine_chunks())
            is_there = np.repeat([*map(os.path.exists, paths)], counts)[of_folder]
            is_there &= is_kept.to_numpy() | ~rows["in_sidecar"].to_numpy()
        self._present[of_folder] = is_there
        gone = int((~is_there).sum())
        if gone or manifest_hash(dataset) != self.document.manifests[dataset]:
            out = f" ({counted(gone, 'image')} left out)" if gone else ""
            words = map(shlex.quote, [self.document.model, dataset, str(self.folder)])
            self.notes.append(
                f"the index is older than {dataset}{out}: make it again: alignset search index "
                + "--model={} --data={} --output={}".format(*words)
            )

    def row_mask(self, query: SearchQuery) -> np.ndarray | None:
        """bool[n] of the rows that may be shown and pass a query's filters; None: all."""
        return self._row_mask(replace(query, terms=(), fold=True))

    def _find_rows(self, filters: SearchQuery) -> np.ndarray | None:
        rows, mask = self.rows, self._present.copy()
        if filters.host:
            host = filters.host.lower().strip(".")
            below = pc.ends_with(rows["host"], f".{host}")
            mask &= pc.or_(pc.equal(rows["host"], host), below).to_numpy()
        if filters.caption:
            has = pc.match_substring(rows["caption"], filters.caption, ignore_case=True)
            mask &= has.to_numpy()
        if filters.min_side or filters.max_side:
            shorter = pc.min_element_wise(rows["width"], rows["height"]).to_numpy()
            mask &= (shorter >= filters.min_side) & (shorter <= (filters.max_side or shorter))
        if filters.safe:
            mask &= ~(rows["unsafe_score"].to_numpy() > UNSAFE_SCORE)  # null: NaN
        return None if mask.all() else mask

    def row_of(self, key: str) -> int | None:
        """The row of a key; None where the index has none, or its dataset no longer has it."""
        row = int(pc.index(self.rows["key"], key).as_py())  # 3 ms of a million
        return row if row >= 0 and self._present[row] else None

    def thumbnail(self, row: int) -> bytes:
        """The WebP of a row."""
        with self._reading:
            picture: bytes = self._file.row(row, ("thumbnail",))["thumbnail"]
        return picture


def _mark(path: Path | str) -> FileMark:
    """Another one for each state of a folder, or of a file that is replaced as a whole; None: it is
    not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def query_vector(
    query: SearchQuery,
    index: OpenedIndex,
    embed_texts: EmbedTexts,
    images: Mapping[str, np.ndarray] | None = None,
) -> np.ndarray:
    """float32[d], unit length: the sum of the terms' vectors by their weights.

    The paper adds the embeddings of an image and of a text, each of unit length (section 5.3 shows
    what that finds).

    Args:
      images: the vectors of other terms, by their values.

    Raises:
      SettingsError: the index has no such key, or the terms cancel each other out.
    """
    texts = [term.value for term in query.terms if term.kind == "text"]
    text_vectors = dict(zip(texts, embed_texts(texts) if texts else (), strict=True))
    vectors = []
    for term in query.terms:
        if term.kind != "key":
            known = text_vectors if term.kind == "text" else images or {}
            vectors.append(known[term.value])
            continue
        row = index.row_of(term.value)
        if row is None:
            raise SettingsError(
                f"the index has no image {term.value[:80]!r}: give a key of a result"
            )
        vector = index.neighbours.vectors_of(np.array([row]))[0]
        vectors.append(vector / np.linalg.norm(vector))
    weights = np.array([term.weight for term in query.terms], np.float32)
    total = weights @ np.stack(vectors)
    length = np.linalg.norm(total)
    if length < _MIN_SUM * np.abs(weights).sum():
        raise SettingsError("the terms cancel each other out: take one away, or weigh it less")
    return total / length


def find_results(
    vector: np.ndarray, query: SearchQuery, index: OpenedIndex, count: int
) -> list[Result]:
    """Up to `count` results, the nearest first. The first of more are the first of fewer."""
    mask, compared = index.row_mask(query), max(2 * count, _MIN_COMPARED)
    scores, rows = index.neighbours.nearest(vector, compared if query.fold else count, mask)
    # int[m]: the number of the first row that shows the same image; its own for most rows.
    first = fold_duplicates(index, rows) if query.fold else np.arange(len(rows))
    heads = np.flatnonzero(first == np.arange(len(rows)))[:count]
    copies = np.bincount(first, minlength=len(rows)) - 1
    return _results(index, scores[heads], rows[heads], copies[heads])


def sample_results(index: OpenedIndex, count: int) -> list[Result]:
    """Up to `count` rows from all over the index, none of them scored unsafe; their score is 0."""
    mask = index.row_mask(SearchQuery(safe=True))
    rows = np.arange(len(index.rows)) if mask is None else np.flatnonzero(mask)
    if len(rows) > count:
        rows = rows[np.linspace(0, len(rows) - 1, count).astype(int)]
    zeros = np.zeros(len(rows), int)
    return _results(index, zeros, rows, zeros)


def fold_duplicates(index: OpenedIndex, rows: np.ndarray) -> np.ndarray:
    """int[m] of rows int[m]: the number of the first one that shows the same image."""
    hashes = index.phashes[rows]  # uint64[m]
    bits = np.bitwise_count(hashes[:, None] ^ hashes[None])  # uint8[m, m]
    alike = np.argwhere(np.tril(bits <= _MAX_BITS, -1))  # (later, earlier), in order of later
    first = np.arange(len(rows))
    distinct, numbers = np.unique(alike, return_inverse=True)
    vectors = index.neighbours.vectors_of(rows[distinct])  # float32[s, d]
    # One product for all, since the pairs' rows of 2,000 equal hashes would take 10 GB.
    cosines = vectors @ vectors.T
    later, earlier = numbers.reshape(alike.shape).T
    near = alike[cosines[later, earlier] >= _MIN_COSINE]
    for row, at in zip(*np.unique(near[:, 0], return_index=True), strict=True):
        first[row] = first[near[at, 1]]
    return first


def _results(
    index: OpenedIndex, scores: np.ndarray, rows: np.ndarray, copies: np.ndarray
) -> list[Result]:
    results: list[Result] = index.rows.select(_SHOWN).take(rows).to_pylist()
    for result, score, copy in zip(results, scores.tolist(), copies.tolist(), strict=True):
        unsafe_score = result.pop("unsafe_score")
        is_unsafe = None if unsafe_score is None else unsafe_score > UNSAFE_SCORE
        result |= {"score": round(score, 4), "unsafe": is_unsafe, "folded": copy}
    return results


def run_query(flags: argparse.Namespace) -> int:
    """Prints the results of a query."""
    if flags.n > MAX_RESULTS:
        raise SettingsError(f"n must be at most {MAX_RESULTS}; got {flags.n}")
    terms = make_terms(flags.terms)
    filters = flags.host, flags.caption, flags.min_side, flags.max_side, flags.safe
    query = SearchQuery(terms, *filters, fold=not flags.all)
    images = {term.value: _read_image(term.value) for term in query.terms if term.kind == "image"}
    index = OpenedIndex(flags.index)
    model = open_model(flags.model, index)
    vectors = {name: model.embed_images([image])[0] for name, image in images.items()}
    vector = query_vector(query, index, model.embed_texts, vectors)
    results = find_results(vector, query, index, flags.n)
    rows = [{"rank": rank, **result} for rank, result in enumerate(results, 1)]
    to_terminal = sys.stdout.isatty()
    if flags.format == "json" or (flags.format == "auto" and not to_terminal):
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    else:
        columns = shutil.get_terminal_size((100, 24)).columns if to_terminal else 1000
        lines = table(results, columns)
        if not results:
            say("nothing fits these filters: leave one out")
    give(rows, *lines)
    return 0


def open_model(name: str | None, index: OpenedIndex) -> DualEmbedder:
    """The model of an index, from the given place or from where the index was made with it; says
    the index's notes.

    Raises:
      SettingsError: it is not there, or it is another.
    """
    from alignset.train.model.embed import BF16, open_embedder

    for note in index.notes:
        say(note)
    made_by = index.document
    try:
        model = open_embedder(name or made_by.model, fast=False)
    except SettingsError as error:
        hint = "" if name else "; or say where the index's model lies now by --model"
        raise SettingsError(f"{error}{hint}") from error
    if made_by.digest.removeprefix(BF16) != model.digest:
        raise SettingsError(
            f"the index in {str(index.folder)!r} was made by the model {made_by.model} "
            f"({made_by.digest[:12]}) and not by {model.name} ({model.digest[:12]}): pass the "
            "--model that it was made by, or make the index again"
        )
    return model


def _read_image(where: str) -> Image.Image:
    """The image of a file or URL. Raises SettingsError where there is none."""
    try:
        if where.startswith(("http://", "https://")):
            from alignset.transforms.fetching.fetcher import (
                fetch_all,  # here: files need no fetcher
            )

            (response,) = fetch_all([where], FETCH)
            if response.body is None:
                raise SettingsError(
                    f"{where[:200]!r} cannot be fetched ({response.detail}): pass another URL, or "
                    "the image's file"
                )
            data = response.body
        else:
            with open(where, "rb") as file:
                data = file.read(LONGEST_IMAGE + 1)
    except OSError as error:
        raise SettingsError(f"the image {where!r} cannot be read ({error.strerror})") from error
    try:
        return decode_image(data)
    except Exception as error:  # Pillow raises many kinds, and names the bytes' place in memory
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "it is of no known format" if unknown else str(error)[:100]
        raise SettingsError(
            f"{where!r} cannot be opened as an image ({reason}): pass a JPEG, PNG, WebP, GIF, "
            "AVIF, TIFF or BMP"
        ) from error


def table(results: Sequence[Result], columns: int) -> list[str]:
    """A head, and a line a result: rank, cosine, key, size, caption and URL, cut to the columns.
    Control characters could move the cursor, or turn the direction of a line: none is left."""
    lines = [f"{'':>4} {'score':>6}  {'key':<16}  {'px':<11} caption"]
    for rank, result in enumerate(results, 1):
        size = f"{result['width']}x{result['height']}"
        more = f" (and {result['folded']} like it)" if result["folded"] else ""
        url = f" <{result['url']}>" if result["url"] else ""
        key, text = (
            "".join(" " if c.isspace() else c for c in text if c.isspace() or c.isprintable())
            for text in (result["key"], f"{result['caption']}{more}{url}")
        )
        line = f"{rank:>4} {result['score']:>6.3f}  {key:<16}  {size:<11} {text}"
        lines.append(line if len(line) <= columns else line[: columns - 1] + "…")
    return lines
