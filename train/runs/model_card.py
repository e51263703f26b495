"""A run's README.md, the model card that a hub shows: its data, its settings, how it went; and the
curve of its loss and its validations, as an image."""

import dataclasses
import hashlib
import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image, ImageDraw

from alignset.train.data.find_shards import ShardSet
from alignset.train.data.shard_streams import PIPE
from alignset.train.errors import counted
from alignset.train.model.tokenizer import read_unknown
from alignset.train.settings import Settings

_MOST_BYTES = 1 << 26  # of a manifest; one of 500,000 shards has so many
_LONGEST_CELL = 200  # characters
_MOST_EARLIER = 20  # sets that a dataset was made of
CURVE = "curve.png"  # in a run's folder
CURVES = ("loss", "validation/R1")  # as metrics have them; the other is in percent
_WIDTH, _HEIGHT, _MARGIN = 800, 360, 56  # px
_LOSS, _RECALL, _INK, _GRID = (31, 119, 180), (214, 96, 20), (60, 60, 60), (225, 225, 225)
_MOST_POINTS = 2_000  # of a line; of more, some
Points = list[tuple[int, float]]  # (step, value), by step


def write_card(folder: Path, run: Path, settings: Settings, sets: list[ShardSet]) -> None:
    """Writes README.md, by model_card.md.j2, and the curve that it shows.

    Args:
      folder: of a model, or of the run.
      run: the run's folder, whose metrics are told.
      sets: what it was trained on. The manifests of shards that lie on this machine are looked for.
    """
    names = (*CURVES, "validation/n")
    loss, recall, images = (read_points(run / "metrics.jsonl", name) for name in names)
    if loss or recall:
        draw_curve(loss, recall, folder / CURVE)
    jinja = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    jinja.filters["cell"] = _cell
    template = Path(__file__).with_name("model_card.md.j2").read_text(encoding="utf-8")
    fields = [of.name for of in dataclasses.fields(settings) if of.metadata["decides"]]
    text = jinja.from_string(template).render(
        model="model" if folder == run else ".",
        datasets=[data for shard_set in sets for data in _datasets(shard_set, len(sets) > 1)],
        **{"loss": loss, "recall": recall, "images": images, "curve": CURVE},
        unknown=read_unknown(run),
        settings={name: getattr(settings, name) for name in fields}
        | {"beta2": settings.kept_of_squares},
    )
    (folder / "README.md").write_text(text, encoding="utf-8", errors="replace")


def _datasets(shard_set: ShardSet, has_weights: bool) -> list[dict[str, Any]]:
    """The shards of each folder that a manifest tells of, and then all others together."""
    folders: dict[Path, list[str]] = {}
    others: list[str] = []
    for shard in shard_set.shards:
        is_local = not shard.startswith(PIPE) and "://" not in shard
        group = folders.setdefault(Path(shard).absolute().parent, []) if is_local else others
        group.append(shard)
    found: list[tuple[list[str], dict[str, Any]]] = []
    for folder, shards in folders.items():
        path = folder.parent / "manifest.json"
        if manifest := _manifest(path, Path(shards[0])):
            history = sorted(path.parent.glob("history/**/manifest.json"))[:_MOST_EARLIER]
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            earlier = [document for before in history if (document := _manifest(before))]
            found.append((shards, {"digest": digest, "manifest": manifest, "earlier": earlier}))
        else:
            others += shards
    if others:
        found.append((others, {}))
    weight = f", weight {shard_set.weight:g}" if has_weights else ""
    return [
        {"shards": counted(len(shards), "shard"), "first": _shown(shards[0]), "weight": weight}
        | facts
        for shards, facts in found
    ]


def _manifest(path: Path, shard: Path | None = None) -> dict[str, Any]:
    """The content of a dataset's manifest; empty where there is none, or it does not have the
    SHA-256 of the shard, since any file may have this name."""
    try:
        data = path.read_bytes() if path.stat().st_size <= _MOST_BYTES else b""
        document = json.loads(data)
        if shard:
            with shard.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            document = document if digest.encode() in data else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _shown(shard: str) -> str:
    """A shard's name without what a command or a URL's query may hold, as a key to a store."""
    if shard.startswith(PIPE):
        return "the output of a command"
    path = shard.partition("?")[0].partition("#")[0] if "://" in shard else shard
    return f"`{_cell(Path(path).name)}`"


def _cell(value: object) -> str:
    """A value as one line of a table that nothing in it can end or make a tag."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    text = " ".join(text.split())
    short = text if len(text) <= _LONGEST_CELL else text[:_LONGEST_CELL] + " …"
    for sign, escape in (("&", "&amp;"), ("<", "&lt;"), ("|", "&#124;"), ("`", "&#96;")):
        short = short.replace(sign, escape)
    return short.encode("utf-8", "replace").decode()


def read_points(metrics: Path, name: str) -> Points:
    """The numbers of a name by step, such as loss, out of a metrics.jsonl."""
    points: Points = []
    for line in metrics.read_bytes().splitlines() if metrics.is_file() else ():
        # The line that was being written when a run was killed, or anything in a run of others.
        with suppress(ValueError, RecursionError, OverflowError):
            row = json.loads(line)
            step, value = (row.get("step"), row.get(name)) if isinstance(row, dict) else (0, None)
            if isinstance(step, int) and isinstance(value, int | float) and math.isfinite(value):
                points.append((int(float(step)), float(value)))
    return points


def draw_curve(loss: Points, recall: Points, path: Path) -> None:
    """Writes a PNG: the loss by the scale on the left, R@1 by that on the right, from 0 on."""
    image = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    right, bottom = _WIDTH - _MARGIN, _HEIGHT - _MARGIN
    last = max((step for step, _ in (*loss, *recall)), default=1)
    columns = [_MARGIN + (right - _MARGIN) * part // 4 for part in range(5)]
    rows = [_MARGIN + (bottom - _MARGIN) * part // 4 for part in range(5)]
    for part, (x, y) in enumerate(zip(columns, rows, strict=True)):
        draw.line((_MARGIN, y, right, y), fill=_GRID)
        draw.text((x, bottom + 8), f"{last * part // 4:,}", fill=_INK, anchor="ma")
    draw.text(((_MARGIN + right) // 2, bottom + 28), "steps", fill=_INK, anchor="ma")
    for points, colour, name, axis_x, anchor, outside in (
        (loss, _LOSS, "loss", _MARGIN, "l", -6),
        (recall, _RECALL, "held-out R@1, %", right, "r", 6),
    ):
        if not points:
            continue
        top = max(value for _, value in points) * 1.05 or 1.0
        draw.text((axis_x, _MARGIN - 20), name, fill=colour, anchor=f"{anchor}m")
        label_anchor = "rm" if anchor == "l" else "lm"
        for part, y in enumerate(rows):
            label = f"{top * (4 - part) / 4:.3g}"
            draw.text((axis_x + outside, y), label, fill=colour, anchor=label_anchor)
        line = [
            (_MARGIN + (right - _MARGIN) * step / last, bottom - (bottom - _MARGIN) * value / top)
            for step, value in [*points[:: -(-len(points) // _MOST_POINTS)], points[-1]]
        ]
        draw.line(line, fill=colour, width=2)
        draw.circle(line[-1], 3, fill=colour)
    image.save(path, "PNG")
