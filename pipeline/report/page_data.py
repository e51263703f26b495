"""Data of the page's script: examples with their previews, and what thresholds keep."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from PIL import JpegImagePlugin

from alignset.pipeline.datasets.facts import Facts
from alignset.pipeline.report.sliders import is_open
from alignset.pipeline.shown_texts import printable
from alignset.transforms.columns.records import (
    KEPT,
    LONGEST_TEXT,
    LONGEST_URL,
    RECORDS,
    THUMBNAIL_PX,
    Example,
    by_turns,
    host_of,
)
from alignset.transforms.rules import given
from alignset.transforms.rules.catalogue import Catalogue
from alignset.transforms.rules.rule import IMAGES, TEXTS
from alignset.transforms.storage.files import open_to_read

# What is never shown, whatever a record holds: what a list, or its owner's notice, keeps out.
NEVER_SHOWN = frozenset({given.BLOCKED, given.REMOVED_BEFORE, given.TAKEN_DOWN})
NEVER_PICTURED = NEVER_SHOWN | {given.OPTED_OUT}
# Of the page, which is to have 12 MB at most: all that the script reads; in it the examples without
# their images; and these, of which base64 makes four bytes of three.
MOST_BYTES, MOST_TEXT_BYTES, MOST_PICTURE_BYTES = 11_000_000, 2_500_000, 6 << 20
MOST_EXAMPLES = 3_000
_LARGEST_PICTURE = 1 << 13
_THREADS = 16
Lists = dict[str, list[Example]]
Which = tuple[str, str, str]


def all_lists(facts: Facts) -> Lists:
    """The examples by list, as `list_name` names it; examples of kept texts only where there are no
    images."""
    texts, images = facts.records.texts.examples(), facts.records.images.examples()
    foreign = facts.state == "foreign"  # so there are no thresholds to be near to
    if images:
        texts = {name: examples for name, examples in texts.items() if name.split()[-1] != KEPT}
    return {
        printable(facts.catalogue.list_name(plane, name)): [
            e for e in examples if e.reason not in NEVER_SHOWN
        ]
        for plane, lists in ((TEXTS, texts), (IMAGES, images))
        for name, examples in lists.items()
        if name not in NEVER_SHOWN and not (foreign and name.startswith("near:"))
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
    bodies = read_pictures(facts.out, picks)
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
    for example in by_turns(lists.values()):
        if _which(example) in picks:
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
        "format": printable(example.format),
    }
    numbers: dict[str, Any] = {
        "width": example.width or None,
        "height": example.height or None,
        "bytes": example.bytes or None,
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


def read_pictures(out: str, examples: Sequence[Example]) -> list[bytes]:
    """The thumbnails of examples, empty where there is none."""
    by_shard: dict[str, list[int]] = {}
    for place, example in enumerate(examples):
        if example.picture and example.reason not in NEVER_PICTURED:
            by_shard.setdefault(example.shard, []).append(place)
    pictures = [b""] * len(examples)
    with ThreadPoolExecutor(_THREADS) as pool:
        parts = pool.map(
            lambda item: _of_shard(out, item[0], [examples[place] for place in item[1]]),
            by_shard.items(),
        )
        for places, bodies in zip(by_shard.values(), parts, strict=True):
            for place, body in zip(places, bodies, strict=True):
                pictures[place] = body
    return pictures


def _encode(pictures: Sequence[bytes], room: int) -> list[str]:
    """Images in base64, empty once earlier ones have used so many bytes."""
    texts, rest = [], room
    for body in pictures:
        has_room = len(body) + 2 <= rest  # base64 fills up to three bytes
        rest -= len(body) + 2 if has_room else 0
        texts.append(base64.b64encode(body).decode() if has_room else "")
    return texts


def _of_shard(out: str, shard: str, examples: Sequence[Example]) -> list[bytes]:
    bodies = [b""] * len(examples)
    # A file that is gone, or cut: the examples are shown without their images.
    with suppress(OSError), open_to_read(f"{out}/{RECORDS}/{shard}.thumbnails") as source:
        for place, example in enumerate(examples):
            at, size = example.picture or (0, 0)
            if 0 < size <= _LARGEST_PICTURE and at >= 0:
                source.seek(at)
                body = source.read(size)
                bodies[place] = body if is_thumbnail(body) else b""
    return bodies


def is_thumbnail(body: bytes) -> bool:
    """Whether bytes are a JPEG of the size of a thumbnail: a dataset may be anybody's."""
    try:
        with JpegImagePlugin.JpegImageFile(io.BytesIO(body)) as picture:
            return max(picture.size) <= THUMBNAIL_PX
    except Exception:  # Pillow raises some ten kinds
        return False


def _plane(facts: Facts, plane: str) -> dict[str, Any]:
    """Pairs that other thresholds keep: by each alone, and by several at once of a sample."""
    whole = facts.records.of(plane).whole
    sample = whole.sample
    weight = sample.rows / max(1, sample.size)
    return {
        "axes": {axis.name: axis.edges for axis in whole.axes},
        "alone": whole.alone,
        "bins": {name: list(bins) for name, bins in sample.bins.items()},
        "weights": [round(weight, 6)] * sample.size,
        "exact": sample.is_all,
    }


def encode_for_page(data: Mapping[str, Any]) -> str:
    """JSON that may stand within a `script` element: no text in it can end that."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for bare, escape in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(bare, escape)
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
