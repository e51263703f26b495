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
from alignset.transforms.columns.records import LONGEST_TEXT, LONGEST_URL, THUMBNAIL_PX, host_of
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
Lists = dict[str, list[Example]]
Which = tuple[str, str, str]


def all_lists(facts: Facts) -> Lists:
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
    picks, examples, size = _with_room(lists, facts.catalogue)
    size += len(encode_for_page(data).encode())
    bodies = read_pictures(facts.files, picks)
    pictures = _encode(bodies, min(MOST_PICTURE_BYTES, (MOST_BYTES - size) * 3 // 4))
    places = {_which(example): place for place, example in enumerate(picks)}
    all_of_them = {_which(example) for of_list in lists.values() for example in of_list}
    return data | {
        "examples": [
            example | ({"picture": picture} if picture else {})
            for example, picture in zip(examples, pictures, strict=True)
        ],
        "lists": {
            name: [places[_which(e)] for e in of_list if _which(e) in places]
            for name, of_list in lists.items()
        },
        "left_out": [
            len(all_of_them) - len(picks),
            sum(map(bool, bodies)) - sum(map(bool, pictures)),
        ],
    }


def _with_room(
    lists: Lists, catalogue: Catalogue
) -> tuple[list[Example], list[dict[str, Any]], int]:
    """The examples that fit on the page, from each list by turns, as they are and as they are
    shown; and the bytes of these."""
    picks: dict[Which, Example] = {}
    examples, size = list[dict[str, Any]](), 0
    for example in chain.from_iterable(zip_longest(*lists.values())):
        if example is None or _which(example) in picks:
            continue
        as_shown = shown_fields(example, catalogue)
        size += len(encode_for_page(as_shown).encode()) + 1
        if size > MOST_TEXT_BYTES or len(picks) >= MOST_EXAMPLES:
            break
        picks[_which(example)] = example
        examples.append(as_shown)
    return [*picks.values()], examples, size


def _which(example: Example) -> Which:
    """The id of an example; a pair may be in both stages."""
    return example.key, example.reason, example.shard


def shown_fields(example: Example, catalogue: Catalogue) -> dict[str, Any]:
    """An example as the script shows it: no text in it gives a page, or a reader, commands."""
    values: dict[str, Any] = {
        "key": example.key,
        "url": printable(example.url[:LONGEST_URL]),
        "host": printable(host_of(example.url)),
        "text": printable(example.caption[:LONGEST_TEXT]),
        "reason": printable(example.reason),
        "detail": printable(example.detail),
        "shard": printable(example.shard),
        "near": printable(example.near),
    }
    numbers: dict[str, Any] = {
        "width": example.width or None,
        "height": example.height or None,
    }
    numbers["blurred"] = is_blurred(example, catalogue) or None
    measures = {printable(name[:40]): round(value, 4) for name, value in example.values.items()}
    fields = {name: value for name, value in (values | numbers).items() if value not in ("", None)}
    return fields | ({"values": measures} if measures else {})


def is_blurred(example: Example, catalogue: Catalogue) -> bool:
    """Whether an image is blurred until its pair is opened."""
    return any(
        example.reason == limit.reason
        or example.values.get(limit.measure.axis, 0) > limit.measure.blurs
        for limit in catalogue.limits.values()
        if math.isfinite(limit.measure.blurs)
    )


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
                if row["thumbnail"] and is_thumbnail(row["thumbnail"]):
                    pictures[row["key"]] = row["thumbnail"]
    return pictures


def small_picture(body: bytes) -> bytes:
    """The thumbnail of an image file, or nothing."""
    with suppress(Exception):  # decoders raise some ten kinds; the pair is shown all the same
        image = examine(body)
        is_small = isinstance(image, Image) and image.width * image.height <= _MOST_PIXELS
        if isinstance(image, Image) and (image.format == "jpeg" or is_small):
            return thumbnail(body, image, THUMBNAIL_PX, _QUALITY)
    return b""


def _encode(pictures: Sequence[bytes], room: int) -> list[str]:
    """Images in base64, empty once earlier ones have used so many bytes."""
    texts, rest = [], room
    for body in pictures:
        has_room = len(body) + 2 <= rest  # base64 fills up to three bytes
        rest -= len(body) + 2 if has_room else 0
        texts.append(base64.b64encode(body).decode() if has_room else "")
    return texts


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
