"""The curve of a run as an image: its loss, and what its validations gave."""

import json
import math
from contextlib import suppress
from pathlib import Path

from PIL import Image, ImageDraw

CURVE = "curve.png"  # in a run's folder
CURVES = ("loss", "validation/R1")  # as metrics have them; the other is in percent
_WIDTH, _HEIGHT, _MARGIN = 800, 360, 56  # px
_LOSS, _RECALL, _INK, _GRID = (31, 119, 180), (214, 96, 20), (60, 60, 60), (225, 225, 225)
_MOST_POINTS = 2_000  # of a line; of more, some
Points = list[tuple[int, float]]  # (step, value), by step


def read_points(metrics: Path, name: str) -> Points:
    """The numbers of a name by step, such as loss, out of a metrics.jsonl."""
    points: Points = []
    for line in metrics.read_text().splitlines() if metrics.exists() else ():
        with suppress(ValueError):  # the line that was being written when a run was killed
            row = json.loads(line)
            step, value = (row.get("step"), row.get(name)) if isinstance(row, dict) else (0, None)
            if isinstance(step, int) and isinstance(value, int | float) and math.isfinite(value):
                points.append((step, float(value)))
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
