"""The commands of search, but for serving."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from alignset.train.data.images import decode_image
from alignset.train.data.samples import LONGEST_IMAGE
from alignset.train.errors import SettingsError
from alignset.train.search.make_index import Making, make_index
from alignset.train.search.pictures import find_sources, unread_pictures
from alignset.train.search.query import (
    MAX_RESULTS,
    Filters,
    OpenedIndex,
    Result,
    SearchQuery,
    Term,
    find_results,
    query_vector,
)
from alignset.transforms.fetching.fetch_settings import FetchSettings

if TYPE_CHECKING:
    from alignset.train.model.embed import DualEmbedder

# No address that is not public is connected to, after each redirect anew.
FETCH = FetchSettings(timeout_s=20.0, shard_timeout_s=60.0, retries=1, max_retry_after_s=5.0)
_FETCH_HINTS = {
    "forbidden_address": "its host is at an address that is not public: save the image and give "
    "its file",
    "bad_url": "it is not a URL of http or https",
    "too_large": "it has more than 20 MB",
    "dns": "its host has no address: is the name right?",
}
TELL_S = 10.0  # between two reports of progress, where there is no terminal


def run_index(flags: argparse.Namespace) -> int:
    """Makes an index, and prints what it is as one line of JSON."""
    from alignset.train.model.embed import open_embedder

    sources = find_sources(flags.data)
    model = open_embedder(flags.model)
    seconds = 0.5 if sys.stderr.isatty() else TELL_S
    with tqdm(unit=" samples", mininterval=seconds, delay=seconds, file=sys.stderr) as bar:
        making = Making(flags.batch_size, flags.thumbnail_px, flags.threads, bar.update, _say)
        document = make_index(flags.index, sources, model, making)
    if unread := unread_pictures(flags.data):
        _say(
            f"left out, since images of their formats are not read: {unread}; convert them to PNG "
            "or JPEG"
        )
    result = {
        "index": str(flags.index),
        "rows": document.rows,
        "left_out": {reason: n for reason, n in making.left_out.items() if n},
        "search": document.kind,
        "recall@10": document.recall,
        "model": document.model,
    }
    print(json.dumps(result))
    return 0


def run_query(flags: argparse.Namespace) -> int:
    """Prints the results of a query."""
    if flags.n > MAX_RESULTS:
        raise SettingsError(f"n must be at most {MAX_RESULTS}; got {flags.n}")
    filters = Filters(flags.host, flags.caption, flags.min_side, flags.max_side, flags.safe)
    query = SearchQuery(tuple(Term(*term) for term in flags.terms), filters, not flags.all)
    images = {term.value: _image(term.value) for term in query.terms if term.kind == "image"}
    index = OpenedIndex(flags.index)
    for note in index.notes:
        _say(note)
    model = open_model(flags.model, index)
    vectors = {name: model.embed_images([image])[0] for name, image in images.items()}
    terms = [
        dataclasses.replace(term, vector=vectors[term.value]) if term.kind == "image" else term
        for term in query.terms
    ]
    query = dataclasses.replace(query, terms=tuple(terms))
    results = find_results(query_vector(query, index, model.embed_texts), query, index, flags.n)
    to_terminal = sys.stdout.isatty()
    if flags.format == "json" or (flags.format == "auto" and not to_terminal):
        for rank, result in enumerate(results, 1):
            print(json.dumps({"rank": rank, **result}, ensure_ascii=False))
        return 0
    columns = shutil.get_terminal_size((100, 24)).columns if to_terminal else 1000
    print("\n".join(table(results, columns)))
    if not results:
        _say("nothing fits these filters: leave one out")
    return 0


def open_model(name: str | None, index: OpenedIndex) -> DualEmbedder:
    """The model of an index, from the given place or from where the index was made with it.

    Raises:
      SettingsError: it is not there, or it is another.
    """
    from alignset.train.model.embed import open_embedder

    try:
        model = open_embedder(name or index.document.model)
    except SettingsError as error:
        if name:
            raise
        raise SettingsError(
            f"{error}; or say where the index's model lies now by --model"
        ) from error
    made_by = index.document
    if made_by.digest != model.digest:
        raise SettingsError(
            f"the index in {str(index.folder)!r} was made by the model {made_by.model} "
            f"({made_by.digest[:12]}) and not by {model.name} ({model.digest[:12]}): pass the "
            "--model that it was made by"
        )
    return model


def _image(where: str) -> Image.Image:
    """The image of a file or URL. Raises SettingsError where there is none."""
    try:
        if where.startswith(("http://", "https://")):
            data = _fetched_bytes(where)
        elif Path(where).stat().st_size > LONGEST_IMAGE:
            raise SettingsError(f"{where} has more than {LONGEST_IMAGE >> 20} MiB: make it smaller")
        else:
            data = Path(where).read_bytes()
    except OSError as error:
        raise SettingsError(f"the image {where!r} cannot be read ({error.strerror})") from error
    try:
        return decode_image(data)
    except Exception as error:  # Pillow raises many kinds
        # Pillow names the bytes' place in memory.
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "it is of no known format" if unknown else str(error)[:100]
        raise SettingsError(
            f"{where!r} cannot be opened as an image ({reason}): pass a JPEG, PNG, WebP, GIF, "
            "AVIF, TIFF or BMP"
        ) from error


def _fetched_bytes(url: str) -> bytes:
    from alignset.transforms.fetching.fetch import fetch_all  # here: files need no fetcher

    (response,) = fetch_all([url], FETCH)
    if response.body is None:
        hint = _FETCH_HINTS.get(str(response.detail), "pass another URL, or the image's file")
        raise SettingsError(f"{url[:200]!r} cannot be fetched ({response.detail}): {hint}")
    return response.body


def _say(line: str) -> None:
    tqdm.write(line, file=sys.stderr)


def table(results: Sequence[Result], columns: int) -> list[str]:
    """A head, and a line a result: rank, cosine, key, size, caption and URL, cut to the columns."""
    lines = [f"{'':>4} {'score':>6}  {'key':<16}  {'px':<11} caption"]
    for rank, result in enumerate(results, 1):
        size = f"{result['width']}x{result['height']}"
        more = f" (and {result['folded']} like it)" if result["folded"] else ""
        url = f" <{result['url']}>" if result["url"] else ""
        text = printable(f"{result['caption']}{more}{url}")
        key = printable(result["key"])
        line = f"{rank:>4} {result['score']:>6.3f}  {key:<16}  {size:<11} {text}"
        lines.append(line if len(line) <= columns else line[: columns - 1] + "…")
    return lines


def printable(text: str) -> str:
    """One line without control characters, which a caption could move the cursor with, or turn the
    direction of a line."""
    return "".join(" " if c.isspace() else c for c in text if c.isspace() or c.isprintable())
