"""Data of the page's script: examples with their previews, and what thresholds keep."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain, zip_longest
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import JpegImagePlugin

from alignset.pipeline.datasets.facts import Facts
from alignset.pipeline.datasets.numbers import in_threads
from alignset.pipeline.datasets.page_numbers import NEVER_PICTURED, Example
from alignset.pipeline.datasets.set_files import SetFiles
from alignset.pipeline.report.sliders import is_open
from alignset.pipeline.shown_texts import printable
from alignset.transforms.columns.records import THUMBNAIL_PX, host_of
from alignset.transforms.images.examine import Image, examine
from alignset.transforms.images.thumbnail import thumbnail
from alignset.transforms.rules.catalogue import Catalogue
from alignset.transforms.rules.rule import IMAGES, TEXTS
from alignset.transforms.storage.broken_files import BrokenInputError

# Of the page, which is to have 12 MB at most: all that the script reads; in it the examples without
# their images; and these, of which base64 makes four bytes of three.
MOST_BYTES, MOST_TEXT_BYTES, MOST_PICTURE_BYTES = 11_000_000, 2_500_000, 6 << 20
MOST_EXAMPLES = 3_000
_LARGEST_PICTURE = 1 << 13
_MOST_PIXELS, _QUALITY = 1 << 23, 75  # of an image that is not a JPEG, whose takes 0.1 s
_KEY = 16  # characters
_THUMBNAILS = pa.schema([("key", pa.string()), ("thumbnail", pa.binary())])


def all_lists(facts: Facts) -> dict[str, list[Example]]:
    """The examples by list, as `list_name` names it."""
    return {
        printable(facts.catalogue.list_name(stage, name)): examples
        for stage in (TEXTS, IMAGES)
        for name, examples in facts.numbers.of(stage).examples.items()
    }


def page_data(facts: Facts) -> dict[str, Any]:
    """Data of the script as JSON: at most `MOST_BYTES`. `left_out` counts the examples and previews
    that did not fit."""
    lists = all_lists(facts)
    data: dict[str, Any] = {
        "images": _plane(facts, IMAGES),
        "texts": _plane(facts, TEXTS),
        "thresholds": {
            name: {
                "rule": name,
                "axis": limit.measure.axis,
                "reason": limit.reason,
                "beyond": limit.beyond,
                "open": is_open(facts, limit),
            }
            for name, limit in facts.catalogue.limits.items()
        },
        "measures": {
            axis: [measure.short, measure.unit]
            for axis, measure in facts.catalogue.measures.items()
        },
        "rules": facts.rules,
        "textOnly": facts.text_only,
    }
    picks: dict[tuple[str, str, str], Example] = {}
    shown, size = list[dict[str, Any]](), 0
    for example in filter(None, chain.from_iterable(zip_longest(*lists.values()))):  # by turns
        if example.id not in picks:
            as_shown = shown_fields(example, facts.catalogue)
            size += len(encode_for_page(as_shown).encode()) + 1
            if size > MOST_TEXT_BYTES or len(picks) >= MOST_EXAMPLES:
                break
            picks[example.id] = example
            shown.append(as_shown)
    room = MOST_BYTES - size - len(encode_for_page(data).encode())
    room, more_pictures = min(MOST_PICTURE_BYTES, room * 3 // 4), 0
    pictures = read_pictures(facts.files, [*picks.values()])
    for as_shown, body in zip(shown, pictures, strict=True):
        has_room = len(body) + 2 <= room  # base64 fills up to three bytes
        more_pictures += bool(body) and not has_room
        if body and has_room:
            room -= len(body) + 2
            as_shown["picture"] = base64.b64encode(body).decode()
    places = {name: place for place, name in enumerate(picks)}
    all_of_them = {example.id for of_list in lists.values() for example in of_list}
    return data | {
        "examples": shown,
        "lists": {
            name: [places[example.id] for example in of_list if example.id in places]
            for name, of_list in lists.items()
        },
        "left_out": [len(all_of_them) - len(picks), more_pictures],
    }


def shown_fields(example: Example, catalogue: Catalogue) -> dict[str, Any]:
    """An example as the script shows it: no text in it gives a page, or a reader, commands."""
    is_blurred = any(  # until its pair is opened
        example.reason == limit.reason
        or example.values.get(limit.measure.axis, 0) > limit.measure.blurs
        for limit in catalogue.limits.values()
        if math.isfinite(limit.measure.blurs)
    )
    values: dict[str, Any] = {
        "key": example.key,
        "url": printable(example.url),
        "host": printable(host_of(example.url)),
        "text": printable(example.caption),
        "reason": printable(example.reason),
        "detail": printable(example.detail),
        "shard": printable(example.shard),
        "near": printable(example.near),
        "width": example.width or "",
        "height": example.height or "",
        "blurred": is_blurred or "",
        "values": {printable(n[:40]): round(of, 4) for n, of in example.values.items()} or "",
    }
    return {name: value for name, value in values.items() if value != ""}


def read_pictures(files: SetFiles, examples: Sequence[Example]) -> list[bytes]:
    """The thumbnails of examples, empty where there is none: of kept pairs made of their images, of
    others as `rejected/` has them."""
    by_file: dict[str, dict[str, int]] = {}
    for place, example in enumerate(examples):
        if example.reason not in NEVER_PICTURED:
            by_file.setdefault(example.path, {})[example.key] = place
    pictures = [b""] * len(examples)
    read = partial(_pictures_of, files)
    for places, bodies in zip(by_file.values(), in_threads(read, by_file.items()), strict=True):
        for key, body in bodies.items():
            pictures[places[key]] = body
    return pictures


def _pictures_of(files: SetFiles, item: tuple[str, Collection[str]]) -> dict[str, bytes]:
    path, keys = item
    pictures = dict[str, bytes]()
    # A file that is gone, or cut: the examples are shown without their images.
    with suppress(OSError, BrokenInputError):
        if path in files.kept_files:
            for key, body in files.images(path, keys):
                pictures[key] = small_picture(body)
            return pictures
        for batch in files.read(path, _THUMBNAILS, _KEY):
            rows = batch.filter(pc.is_in(batch["key"], pa.array([*keys])))
            for row in rows.to_pylist():
                if body := row["thumbnail"]:  # of copies it has 192 px
                    pictures[row["key"]] = body if is_thumbnail(body) else small_picture(body)
    return pictures


def small_picture(body: bytes) -> bytes:
    """The thumbnail of an image file, or nothing."""
    with suppress(Exception):  # decoders raise some ten kinds; the pair is shown all the same
        image = examine(body)
        is_small = isinstance(image, Image) and image.width * image.height <= _MOST_PIXELS
        if isinstance(image, Image) and (image.format == "jpeg" or is_small):
            return thumbnail(body, image, THUMBNAIL_PX, _QUALITY)
    return b""


def is_thumbnail(body: bytes) -> bool:
    """Whether bytes are a JPEG of the size of a thumbnail: a dataset may be anybody's."""
    try:
        with JpegImagePlugin.JpegImageFile(io.BytesIO(body)) as picture:
            return len(body) <= _LARGEST_PICTURE and max(picture.size) <= THUMBNAIL_PX
    except Exception:  # Pillow raises some ten kinds
        return False


def _plane(facts: Facts, plane: str) -> dict[str, Any]:
    """Pairs that other thresholds keep: by each alone, and by several at once of a sample."""
    numbers = facts.numbers.of(plane)
    size = len(numbers.hashes)
    weight = numbers.free / max(1, size)
    return {
        "axes": {name: axis.edges for name, axis in numbers.axes.items()},
        "alone": {
            rule: {str(at): int(of_rule[at]) for at in np.flatnonzero(of_rule).tolist()}
            for rule, of_rule in numbers.alone.items()
        },
        "bins": {name: bins.tolist() for name, bins in numbers.bins.items()},
        "weights": [round(weight, 6)] * size,
        "exact": numbers.free == size,
    }


def encode_for_page(data: Mapping[str, Any]) -> str:
    """JSON that may stand within a `script` element: no text in it can end that."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for bare, escape in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(bare, escape)
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
