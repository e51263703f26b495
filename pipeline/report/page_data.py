"""What the page's own script is given: examples with their pictures, and the joint histograms."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from PIL import JpegImagePlugin

from pipeline.look.plain_text import printable
from pipeline.report.facts import Facts
from pipeline.report.histograms import IMAGE_RULES
from transforms.columns.records import (
    KEPT,
    LONGEST_TEXT,
    LONGEST_URL,
    RECORDS,
    Example,
    Joint,
    by_turns,
)
from transforms.shards.shard_examples import SIDE_PX
from transforms.shards.shard_record import host_of
from transforms.storage.files import open_to_read

# What is never shown, whatever a record holds: what a list, or its owner's notice, keeps out.
NEVER_SHOWN = frozenset({"blocked", "taken_down"})
# Reasons after which a pair may be shown with its picture.
_PICTURED = frozenset({"", "too_small", "too_elongated", "unsafe", "evaluation_overlap"})
MOST_PICTURE_BYTES = 6 << 20  # of all; base64 makes four bytes of three
MOST_EXAMPLES = 3_000
_LARGEST_PICTURE = 1 << 13
_THREADS = 16
_MOST_CELLS = 60_000  # of a joint histogram in the page: 0.7 MB
Lists = dict[str, list[Example]]


def all_lists(facts: Facts) -> Lists:
    """The examples by what they are of; those of texts that were kept only where there are no
    images."""
    texts, images = facts.records.texts.examples(), facts.records.images.examples()
    if images:
        texts = {name: examples for name, examples in texts.items() if name.split()[-1] != KEPT}
    lists = {**texts, **images}
    return {
        name: [e for e in examples if e.reason not in NEVER_SHOWN]
        for name, examples in lists.items()
        if name not in NEVER_SHOWN
    }


def page_data(facts: Facts) -> dict[str, Any]:
    """What the script reads, out of JSON."""
    lists = all_lists(facts)
    chosen: dict[tuple[str, str], Example] = {}
    for example in by_turns(lists.values()):
        if len(chosen) < MOST_EXAMPLES:
            chosen.setdefault((example.key, example.reason), example)
    places = {which: place for place, which in enumerate(chosen)}
    pictures = read_pictures(facts.out, list(chosen.values()))
    return {
        "examples": [
            shown(example, picture)
            for example, picture in zip(chosen.values(), pictures, strict=True)
        ],
        "lists": {
            name: [places[e.key, e.reason] for e in examples if (e.key, e.reason) in places]
            for name, examples in lists.items()
        },
        "images": _joint(facts.records.images.whole.joint),
        "texts": _joint(facts.records.texts.whole.joint),
        "imageRules": {rule: [name, beyond] for rule, (name, beyond) in IMAGE_RULES.items()},
        "rules": facts.rules,
        "scored": facts.rules.get("max_unsafe_score", 1.0) < 1,
    }


def shown(example: Example, picture: str) -> dict[str, Any]:
    """An example as the script shows it: no text in it gives a page, or a reader, commands."""
    values: dict[str, Any] = {
        "key": example.key,
        "url": printable(example.url[:LONGEST_URL]),
        "host": printable(host_of(example.url)),
        "text": printable(example.caption[:LONGEST_TEXT]),
        "reason": printable(example.reason),
        "detail": printable(example.detail),
        "shard": example.shard,
        "near": printable(example.near),
        "format": printable(example.format),
        "picture": picture,
    }
    numbers = {
        "width": example.width or None,
        "height": example.height or None,
        "words": example.words if example.words >= 0 else None,
        "score": example.score,
        "unsafe": example.unsafe,
        "distance": example.distance,
        "bytes": example.bytes or None,
    }
    rounded = {n: round(v, 4) if isinstance(v, float) else v for n, v in numbers.items()}
    return {name: value for name, value in (values | rounded).items() if value not in ("", None)}


def read_pictures(out: str, examples: Sequence[Example]) -> list[str]:
    """The thumbnails of examples in base64, empty where there is none, in all no more than
    `MOST_PICTURE_BYTES`."""
    by_shard: dict[str, list[int]] = {}
    for place, example in enumerate(examples):
        if example.picture and example.reason in _PICTURED:
            by_shard.setdefault(example.shard, []).append(place)
    pictures = [b""] * len(examples)
    with ThreadPoolExecutor(_THREADS) as pool:
        read = pool.map(
            lambda item: _of_shard(out, item[0], [examples[place] for place in item[1]]),
            by_shard.items(),
        )
        for places, bodies in zip(by_shard.values(), read, strict=True):
            for place, body in zip(places, bodies, strict=True):
                pictures[place] = body
    shown, left = [], MOST_PICTURE_BYTES
    for body in pictures:
        left -= len(body)
        shown.append(base64.b64encode(body).decode() if left >= 0 else "")
    return shown


def _of_shard(out: str, shard: str, examples: Sequence[Example]) -> list[bytes]:
    bodies = [b""] * len(examples)
    # A file that is gone, or cut: the examples are shown without their pictures.
    with suppress(OSError), open_to_read(f"{out}/{RECORDS}/{shard}.thumbnails") as source:
        for place, example in enumerate(examples):
            at, size = example.picture or (0, 0)
            if 0 < size <= _LARGEST_PICTURE and at >= 0:
                source.seek(at)
                body = source.read(size)
                bodies[place] = body if is_thumbnail(body) else b""
    return bodies


def is_thumbnail(body: bytes) -> bool:
    """Whether bytes are a JPEG of the size of a thumbnail: a set may be anybody's."""
    try:
        with JpegImagePlugin.JpegImageFile(io.BytesIO(body)) as picture:
            return max(picture.size) <= SIDE_PX
    except Exception:  # Pillow raises some ten kinds
        return False


def _joint(joint: Joint) -> dict[str, Any]:
    if not joint.axes or len(joint.cells) > _MOST_CELLS:
        return {}
    return {
        "axes": [{"name": axis.name, "edges": axis.edges} for axis in joint.axes],
        "cells": joint.cells,
        "counts": joint.counts,
    }


def encode_for_page(data: Mapping[str, Any]) -> str:
    """JSON that may stand within a `script` element: no text in it can end that."""
    encoded = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for bare, escaped in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        encoded = encoded.replace(bare, escaped)
    return encoded.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
