"""Pages of HTML, each in one file, which load nothing from anywhere; and their charts as SVG: bars
of what was kept and dropped, with the thresholds drawn in."""

from __future__ import annotations

import base64
import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from alignset.pipeline.shown_texts import printable

_FOLDER = Path(__file__).parent / "page"
_HEIGHT = 136  # px, of the bars
_LARGEST = 25  # of a small histogram, and all larger numbers with it
_PAGES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **values: Any) -> str:
    """A page of this folder, with the style, the script and the policy that allows just these."""
    style, script = ((_FOLDER / f"report.{kind}").read_text("utf-8") for kind in ("css", "js"))
    hashes = [_base64(hashlib.sha256(text.encode()).digest()) for text in (style, script)]
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'"
    )
    named = {"style": Markup(style), "script": Markup(script), "policy": Markup(policy)}
    return _PAGES.get_template(template).render(named, **values)


def _base64(body: bytes) -> str:
    return base64.b64encode(body).decode()


_PAGES.filters |= {"number": "{:,}".format, "shown": printable, "base64": _base64}


# ---- Charts ----------------------------------------------------------------------------------


_CHARTS: Any = _PAGES.get_template("charts.html").module


@dataclass(frozen=True)
class Chart:
    """Bars side by side, of equal widths.

    Attributes:
      name: of what is counted, such as "Shorter side, px". unit: what the counts are of.
      labels: of each bar, what its bin is. ticks: what stands below each, often less.
      kept, dropped: heights, one on the other.
      marks: thresholds: before which bar (0 is before the first) and what it says.
      logarithmic: whether heights are by their logarithms; then there is one series.
      note: what a reader must know of the counts.
      axis: the measure of an example that the bins are of, and its `spans` in them, from and to,
        both included; the page filters its examples by them.
    """

    name: str
    labels: Sequence[str]
    ticks: Sequence[str]
    kept: Sequence[int]
    dropped: Sequence[int]
    marks: Sequence[tuple[int, str]] = ()
    unit: str = "pairs"
    logarithmic: bool = False
    note: str = ""
    axis: str = ""
    spans: Sequence[tuple[float, float]] = ()

    @property
    def total(self) -> int:
        return sum(self.kept) + sum(self.dropped)


def draw(chart: Chart) -> Markup:
    """The chart as an SVG of its own; its colours are classes of the page."""
    heights = list(zip(chart.kept, chart.dropped, strict=True))
    highest = max(map(sum, heights), default=0)
    digits = len(str(max(1, highest)))
    powers = [0, *(10**power for power in range(0, digits, max(1, digits // 4)))]
    steps = powers if chart.logarithmic else _round_steps(highest)

    def of(count: float) -> float:
        return math.log10(1 + count) if chart.logarithmic else count

    def px(count: float) -> float:
        return _HEIGHT * of(count) / of(max(steps[-1], highest, 1))

    lines = [(px(step), short(step)) for step in steps]
    return _CHARTS.draw(chart, heights, lines, px)


def _round_steps(highest: int) -> list[int]:
    """Zero and three or four round numbers up to about the highest."""
    rough = highest / 3
    power = 10 ** math.floor(math.log10(rough)) if rough >= 1 else 1
    step = next((int(power * n) for n in (1, 2, 2.5, 5, 10) if power * n >= rough), 1)
    return [*range(0, highest + 1, max(1, step))]


def short(number: float) -> str:
    """A count in few characters: 950, 12k, 3.4M, 1.2B."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            digits = f"{number / size:.1f}" if number < 10 * size else f"{number / size:.0f}"
            return digits.removesuffix(".0") + letter
    return f"{number:g}"


def size_of(size: float) -> str:
    """Bytes as they are read.

    >>> size_of(1023), size_of(59_076_000), size_of(1 << 50)
    ('1023 B', '56.3 MiB', '1024 TiB')
    """
    power = min(4, int(math.log(max(1, size), 1024)))
    number = size / 1024**power
    digits = f"{number:.3g}" if number < 100 else f"{number:.0f}"
    return f"{digits} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def small_histogram(counts: Mapping[int, int], kept_range: range, title: str) -> Markup:
    """A histogram of small numbers, of the size of a table's row: one bar a number up to 24, and a
    last one for all that are larger.

    Args:
      kept_range: the numbers that a rule keeps.
    """
    bars = Counter[int]()
    for number, count in counts.items():
        bars[min(number, _LARGEST)] += count
    most = max(bars.values(), default=1)
    rects = [
        ("k" if number in kept_range else "d", 4 * number, f"{20 - high:.2f}", 3.4, f"{high:.2f}")
        for number, n in sorted(bars.items())
        for high in [20 * n / most]
    ]
    return _CHARTS.rects("small", title, 4 * _LARGEST + 4, 20, rects)


def share_bar(parts: Sequence[tuple[str, float]], title: str) -> Markup:
    """One bar of several parts, each (class, share of the whole); 100 units wide."""
    rects, x = [], 0.0
    for name, share in parts:
        width = max(100 * share, 0.15 if share > 0 else 0)
        rects.append((name, f"{100 * x:.3f}", 0, f"{width:.3f}", 10))
        x += share
    return _CHARTS.rects("share", title, 100, 10, rects)
