"""What the commands do, but for serving."""

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
from PIL import UnidentifiedImageError

from alignset.train.counts import counted
from alignset.train.data.images import decode_image
from alignset.train.data.samples import LONGEST_IMAGE
from alignset.train.errors import SettingsError
from alignset.train.model.embed import open_embedder
from alignset.train.model.embedder import Embedder
from alignset.train.search.blocklist import read_blocklist
from alignset.train.search.fetched_images import fetched_image
from alignset.train.search.filters import Filters
from alignset.train.search.find_results import MOST_RESULTS, Query, find_results, query_vector
from alignset.train.search.index_files import IndexDocument
from alignset.train.search.make_index import Making, add_sources, check_model, remove_rows
from alignset.train.search.opened_index import OpenedIndex
from alignset.train.search.pictures import FolderSource, find_sources, told_of_others
from alignset.train.search.query_terms import Term, check_terms
from alignset.train.search.terminal import as_json, draw, drawing_for, printable, table

TELL_S = 10.0  # between two lines of progress
_FEW = 3  # lines that are named of more


def run_index(flags: argparse.Namespace) -> int:
    """Makes an index or adds to it, and prints what it is as one line of JSON."""
    sources = find_sources(flags.data)
    model = open_embedder(flags.model)
    told = _Told()
    making = Making(flags.batch_size, flags.thumbnail_px, flags.threads, told.samples, told.say)
    added = add_sources(flags.index, sources, model, making)
    told.end()
    document = added.document
    if repeated := added.left_out.get("repeated_key"):
        print(
            f"left out, since the index has a picture of the same key: {repeated:,} (of a folder a "
            "key is the path below --data)",
            file=sys.stderr,
        )
    others = [file for of in sources if isinstance(of, FolderSource) for file in of.others]
    if others:
        print(
            f"left out, since pictures of their formats are not read: {told_of_others(others)}; "
            "convert them to PNG or JPEG",
            file=sys.stderr,
        )
    left_out = added.left_out | {"other_format": len(others)}
    print(
        json.dumps(
            {
                "index": str(flags.index),
                "rows": document.total,
                "added": added.rows,
                **({"taken_out": added.taken_out} if added.taken_out else {}),
                "left_out": {reason: n for reason, n in left_out.items() if n},
                "search": document.kind,
                **document.settings,
                "recall@10": document.recall,
                "model": document.model,
            }
        )
    )
    return 0


def run_query(flags: argparse.Namespace) -> int:
    """Prints the results of a query."""
    filters = Filters(flags.host, flags.caption, flags.min_side, flags.max_side, flags.safe)
    if flags.n > MOST_RESULTS:
        raise SettingsError(f"n must be at most {MOST_RESULTS}; got {flags.n}")
    kinds = {"image": "picture"}
    terms = [Term(kinds.get(kind, kind), value, w) for kind, value, w in flags.terms or []]
    check_terms(terms)
    images = {term.value: _image_bytes(term.value) for term in terms if term.kind == "picture"}
    index = OpenedIndex(flags.index)
    model = open_model(flags.model, index.document, flags.index)
    embedded = [_with_vector(term, images, model) for term in terms]
    query = Query(tuple(embedded), filters, fold=not flags.all)
    vector = query_vector(query, index, model.embed_texts)
    results = find_results(vector, query, index, flags.n)
    to_terminal = sys.stdout.isatty()
    if flags.format == "json" or (flags.format == "auto" and not to_terminal):
        print(as_json(results), end="\n" if results else "")
        return 0
    columns = shutil.get_terminal_size((100, 24)).columns if to_terminal else 1000
    lines = table(results, columns).splitlines()
    drawing = drawing_for(os.environ) if to_terminal else ""
    print(lines[0])
    for result, line in zip(results, lines[1:], strict=True):
        print(line)
        if drawing and not result.unsafe:
            print(draw(index.thumbnail(result.row), drawing), end="")
    if not results:
        print("nothing fits these filters: leave one out", file=sys.stderr)
    return 0


def run_remove(flags: argparse.Namespace) -> int:
    """Takes rows out of an index, and prints their keys and how many they were."""
    blocklist = read_blocklist(flags.blocklist)
    told = _Told()
    keys, unmatched = remove_rows(flags.index, blocklist, dry_run=flags.dry_run, say=told.say)
    for key in keys:
        print(printable(key))
    if blocklist.others:
        print(
            f"passed over {counted(blocklist.others, 'line')} of what an index does not hold "
            "(phash, pdq, text): name what is found by them as key: or sha256:",
            file=sys.stderr,
        )
    if unmatched:
        few = ", ".join(printable(line)[:200] for line in unmatched[:_FEW])
        more = ", …" if len(unmatched) > _FEW else ""
        print(f"{counted(len(unmatched), 'line')} matched nothing: {few}{more}", file=sys.stderr)
    done = "would be taken out" if flags.dry_run else "taken out"
    follows = "; a server that runs follows by itself" if keys and not flags.dry_run else ""
    print(f"{done} of {flags.index}: {counted(len(keys), 'row')}{follows}", file=sys.stderr)
    return 0


def open_model(given: str | None, document: IndexDocument, folder: Path) -> Embedder:
    """The model of an index, from where it is said to lie, or lay.

    Raises:
      SettingsError: it is not there, or it is another.
    """
    try:
        model = open_embedder(given or document.model)
    except SettingsError as error:
        if given:
            raise
        raise SettingsError(
            f"{error}; or say where the index's model lies now by --model"
        ) from error
    check_model(document, model, folder)
    return model


def _image_bytes(where: str) -> bytes:
    """Of a picture's file or URL."""
    if where.startswith(("http://", "https://")):
        return fetched_image(where)
    try:
        if Path(where).stat().st_size > LONGEST_IMAGE:
            raise SettingsError(f"{where} has more than {LONGEST_IMAGE >> 20} MiB: make it smaller")
        return Path(where).read_bytes()
    except OSError as error:
        raise SettingsError(f"the picture {where!r} cannot be read ({error.strerror})") from error


def _with_vector(term: Term, images: dict[str, bytes], model: Embedder) -> Term:
    if term.kind != "picture":
        return term
    try:
        image = decode_image(images[term.value])
    except Exception as error:  # Pillow raises many kinds
        # Pillow names the bytes' place in memory.
        unknown = isinstance(error, UnidentifiedImageError)
        why = "it is of no known format" if unknown else str(error)[:100]
        raise SettingsError(
            f"{term.value!r} cannot be opened as a picture ({why}): give a JPEG, PNG, "
            "WebP, GIF, AVIF, TIFF or BMP"
        ) from error
    vector: np.ndarray = model.embed_images([image])[0]
    return Term(term.kind, term.value, term.weight, vector)


class _Told:
    """The progress: on a terminal a line that is drawn anew, elsewhere a line each 10 s."""

    def __init__(self) -> None:
        self._samples, self._start, self._drawn = 0, time.monotonic(), False
        self._told_at = self._start

    def samples(self, count: int) -> None:
        self._samples += count
        now = time.monotonic()
        rate = self._samples / max(0.001, now - self._start)
        line = f"{self._samples:,} samples, {rate:.3g}/s"
        if sys.stderr.isatty():
            print(f"\r{line}\033[K", end="", file=sys.stderr, flush=True)
            self._drawn = True
        elif now - self._told_at >= TELL_S:
            print(line, file=sys.stderr, flush=True)
            self._told_at = now

    def say(self, line: str) -> None:
        self.end()
        print(line, file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._drawn:
            print(file=sys.stderr)
            self._drawn = False
