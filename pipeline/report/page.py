"""The report as one HTML file that opens offline, and the data of its script."""

from __future__ import annotations

import base64
import io
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import JpegImagePlugin

from alignset.pipeline.datasets.facts import Facts, find_facts
from alignset.pipeline.datasets.funnel import all_stages
from alignset.pipeline.datasets.numbers import PairCounts, Place
from alignset.pipeline.datasets.page_numbers import NEAREST, NEVER_PICTURED, Example
from alignset.pipeline.datasets.sample import thumbnails_in
from alignset.pipeline.datasets.set_files import SetFiles
from alignset.pipeline.report import tables
from alignset.pipeline.report.histograms import charts_of
from alignset.pipeline.report.render import draw, render, size_of
from alignset.pipeline.report.sliders import command, command_note, is_open, near_lists, sliders
from alignset.pipeline.shown_texts import printable
from alignset.transforms.columns.records import (
    KEPT,
    LONGEST_TEXT,
    LONGEST_URL,
    THUMBNAIL_PX,
    cut,
    host_of,
)
from alignset.transforms.images.thumbnail import thumbnail
from alignset.transforms.rules.catalogue import Catalogue
from alignset.transforms.rules.rule import IMAGES, TEXTS
from alignset.transforms.storage.broken_files import BrokenInputError
from alignset.transforms.storage.files import write_atomically
from alignset.transforms.workers.threads import map_in_threads

REPORT = "report.html"


def write_report(out: str, path: str = "", counts: PairCounts | None = None) -> str:
    """Writes the report of a dataset; returns where it is.

    Args:
      path: where it goes; "" for the dataset's folder, or of another tool's folder for here.
      counts: of the dataset, where they are known.

    Raises:
      UsageError: there is no such dataset.
    """
    facts = find_facts(out, counts)
    is_inside = not path and facts.state != "foreign"
    path = path or (f"{facts.out}/{REPORT}" if is_inside else REPORT)
    page = render_page(facts, "" if is_inside else out).encode("utf-8", "replace")
    write_atomically(path, page)
    return path


def render_page(facts: Facts, place: str = "") -> str:
    """The whole page.

    Args:
      place: where the dataset is; empty where the page lies in its folder. Such a page tells no
        path, finds the folder by its own address, and is the same wherever the dataset lies.
    """
    data = page_data(facts) | {"out": printable(place), "command": command(facts)}
    groups = facts.counts.groups
    pictures = read_pictures(facts.files, [two[0] for _, _, two in groups])
    steps = tables.funnel_table(facts, data["lists"])
    dropping = [row for row in steps if row[2]] or steps[:1]
    about = facts.run.about if facts.run else {}
    title = str((about or {}).get("title", ""))
    return render(
        "report.html",
        facts=facts,
        name=printable(title or place.rstrip("/").rpartition("/")[2]) or "Image and alt-text pairs",
        fetch=next((step for step in facts.steps if step.step == "fetch" and step.seen), None),
        bytes_fetched=size_of(sum(of.bytes_downloaded for of in facts.stats.values() if of)),
        hosts=sum(map(bool, facts.numbers.hosts.totals())),
        steps=dropping,
        idle=[printable(row[0].step) for row in steps if row not in dropping],
        stages=all_stages(facts.funnel) if facts.funnel else [],
        sliders=list(sliders(facts)),
        command_note=command_note(facts),
        charts=charts_of(facts),
        draw=draw,
        percent=tables.percent,
        languages=tables.language_table(facts),
        set_tables=tables.set_tables(facts),
        fetch_tables=tables.fetch_tables(facts),
        left_out=data.pop("left_out"),
        sampled=len(data["lists"].get(KEPT, [])),
        copies=tables.copies(facts),
        copy_groups=[(images, pictures.get(two[0])) for images, _, two in groups],
        near=near_lists(facts, data["lists"]),
        axes={axis: of.short for axis, of in facts.catalogue.measures.items()},
        data=Markup(encode_for_page(data)),
    )


# ---- The script's data: examples with their previews, and what thresholds keep -------------

# Bytes of the examples' texts, and of their images. Base64 turns three bytes into four, and the
# whole page has at most 12 MB.
MOST_TEXT_BYTES, MOST_PICTURE_BYTES = 2_500_000, 6 << 20
MOST_EXAMPLES = 3_000
_LARGEST_PICTURE = 1 << 13
_QUALITY = 75


def all_lists(facts: Facts) -> dict[str, list[Example]]:
    """The examples by list, as `list_name` names it."""
    return {
        printable(facts.catalogue.list_name(stage, name)): [example for _, example in examples]
        for stage in (TEXTS, IMAGES)
        for name, examples in sorted(facts.numbers.of(stage).ranked.items())
    }


def page_data(facts: Facts) -> dict[str, Any]:
    """Data of the script. `left_out` counts the examples and previews that did not fit."""
    lists, data = all_lists(facts), dict[str, Any]()
    for stage in (IMAGES, TEXTS):  # what other thresholds keep, alone, and several in a sample
        numbers = facts.numbers.of(stage)
        data[stage] = {
            "axes": {name: axis.edges for name, axis in numbers.axes.items()},
            "alone": {
                rule: {str(at): int(of_rule[at]) for at in np.flatnonzero(of_rule).tolist()}
                for rule, of_rule in numbers.alone.items()
            },
            "bins": {name: bins.tolist() for name, bins in numbers.bins.items()},
            "rows": len(numbers.hashes),
            "weight": round(numbers.free / max(1, len(numbers.hashes)), 6),
        }
    data |= {
        "thresholds": {
            name: {
                "rule": name,
                "axis": limit.measure.axis,
                "reason": limit.reason,
                "keeps_above": limit.keeps_above,
                "opened": limit.opened,
                "open": is_open(facts, limit),
            }
            for name, limit in facts.catalogue.limits.items()
        },
        "measures": {name: [of.short, of.unit] for name, of in facts.catalogue.measures.items()},
        "textOnly": facts.text_only,
    }
    picks, shown, size = dict[tuple[str, ...], int](), list[dict[str, Any]](), 0
    ordered = {of.id: of for of in chain.from_iterable(zip_longest(*lists.values())) if of}
    for name, example in ordered.items():  # by turns of the lists
        shown.append(shown_fields(example, facts.catalogue))
        size += len(encode_for_page(shown[-1]).encode()) + 1
        if size > MOST_TEXT_BYTES or len(picks) >= MOST_EXAMPLES:
            break
        picks[name] = len(picks)
    room, more_pictures = MOST_PICTURE_BYTES, 0
    may_be_shown = [name for name in picks if ordered[name].reason not in NEVER_PICTURED]
    pictures = read_pictures(facts.files, [ordered[name].place for name in may_be_shown])
    for name in may_be_shown:
        if body := pictures.get(ordered[name].place):
            has_room = len(body) + 2 <= room  # base64 fills up to three bytes
            more_pictures += not has_room
            if has_room:
                room -= len(body) + 2
                shown[picks[name]]["picture"] = base64.b64encode(body).decode()
    return data | {
        "examples": shown[: len(picks)],
        "lists": {
            name: [picks[example.id] for example in of_list if example.id in picks]
            for name, of_list in lists.items()
        },
        "left_out": [len(ordered) - len(picks), more_pictures],
    }


def shown_fields(example: Example, catalogue: Catalogue) -> dict[str, Any]:
    """An example as the script shows it: no text in it gives a page, or a reader, commands."""
    row, path, url = example.row, Path(example.path), cut(example.row["url"], LONGEST_URL)
    is_blurred = any(  # until its pair is opened
        example.reason == limit.reason
        or example.values.get(limit.measure.axis, 0) > limit.measure.blurs
        for limit in catalogue.limits.values()
        if math.isfinite(limit.measure.blurs)
    )
    numbers = {n: round(of, 4) for n, of in example.values.items() if math.isfinite(of)}
    kind = {"shards": "images-", "holdout": "holdout-", "pairs": "text-"}.get(path.parent.name, "")
    texts = {
        "key": example.key,
        "url": url,
        "host": host_of(url),
        "text": cut(row["caption"], LONGEST_TEXT),
        "reason": example.reason,
        "detail": row["detail"] or "",
        "shard": kind + path.stem,
        "near": "/".join(row[name] or "" for name in NEAREST) if row[NEAREST[1]] else "",
    }
    values: dict[str, Any] = {name: printable(text) for name, text in texts.items()}
    for name in ("width", "height"):
        side = row[f"original_{name}"] or row[name] or 0
        values[name] = int(side) if 0 < side < 1 << 31 else ""
    values["blurred"] = is_blurred or ""
    values["values"] = {printable(name[:40]): of for name, of in numbers.items()} or ""
    return {name: value for name, value in values.items() if value != ""}


def read_pictures(files: SetFiles, places: Iterable[Place]) -> dict[Place, bytes]:
    """The thumbnails of pairs: kept pairs' are made of their images, `rejected/` has the others.
    Pairs of a file that is gone, or cut, are left out."""
    keys_of, pictures = defaultdict[str, list[str]](list), dict[Place, bytes]()
    for path, key in places:
        keys_of[path].append(key)

    def read(path: str) -> dict[Place, bytes]:
        found = dict[Place, bytes]()
        with suppress(OSError, BrokenInputError):
            if path in files.kept_files:
                for key, body in files.images(path, sorted(keys_of[path])):
                    found[path, key] = small_picture(body)
                return found
            for key, body in thumbnails_in(path, keys_of[path], files.read):
                if body:  # of copies it has 192 px
                    found[path, key] = body if is_thumbnail(body) else small_picture(body)
        return found

    for found in map_in_threads(read, keys_of):
        pictures |= found
    return pictures


def small_picture(body: bytes) -> bytes:
    """The thumbnail of an image file, or nothing."""
    with suppress(Exception):  # decoders raise some ten kinds; the pair is shown all the same
        return thumbnail(body, THUMBNAIL_PX, _QUALITY)
    return b""


def is_thumbnail(body: bytes) -> bool:
    """Whether bytes are a JPEG of the size of a thumbnail: a dataset may be anybody's."""
    try:
        with JpegImagePlugin.JpegImageFile(io.BytesIO(body)) as picture:
            return len(body) <= _LARGEST_PICTURE and max(picture.size) <= THUMBNAIL_PX
    except Exception:  # Pillow raises some ten kinds
        return False


def encode_for_page(data: Mapping[str, Any]) -> str:
    """JSON that may stand within a `script` element: no text in it can end that."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.translate({ord(bare): f"\\u{ord(bare):04x}" for bare in "<>&\u2028\u2029"})
