"""Charts as SVG: bars of what was kept and dropped, with the thresholds drawn in."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Bar = tuple[int, int, int]  # kept, dropped, waiting

WIDTH, HEIGHT = 480, 196
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 26, 34
_MOST_LABELS = 9
_LARGEST = 25  # of a small histogram, and all larger numbers with it


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
      waiting: heights on top of both, of what was not judged yet.
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
    waiting: Sequence[int] = ()
    axis: str = ""
    spans: Sequence[tuple[float, float]] = ()

    @property
    def total(self) -> int:
        return sum(self.kept) + sum(self.dropped) + sum(self.waiting)

    def bar(self, number: int) -> Bar:
        """The heights of one bar, from its foot on."""
        waiting = self.waiting[number] if self.waiting else 0
        return self.kept[number], self.dropped[number], waiting


def draw(chart: Chart) -> Markup:
    """The chart as an SVG of its own; its colours are classes of the page."""
    count = len(chart.labels)
    wide = WIDTH - _LEFT - _RIGHT
    step = wide / max(1, count)
    highest = max([sum(chart.bar(number)) for number in range(count)] or [0])
    scale = _Scale(highest, chart.logarithmic)
    parts = [_grid(scale)]
    for number, label in enumerate(chart.labels):
        bar, span = chart.bar(number), chart.spans[number] if chart.spans else None
        parts.append(_bar(scale, _LEFT + number * step, step, bar, _bar_title(label, bar), span))
    parts.append(_ticks(chart.ticks, step))
    parts += [_mark(_LEFT + place * step, text, count * step) for place, text in chart.marks]
    title = f"{chart.name}: {chart.total:,} {chart.unit}"
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}" data-measure="{}">'
        "{}</svg>"
    ).format(WIDTH, HEIGHT, title, chart.axis, Markup("").join(parts))


def _bar_title(label: str, bar: Bar) -> str:
    names = zip(("kept", "dropped", "not judged yet"), bar, strict=True)
    counts = ", ".join(f"{count:,} {name}" for name, count in names if count)
    return f"{label}: {counts or 0}"


class _Scale:
    """Counts to heights, px."""

    def __init__(self, highest: int, logarithmic: bool) -> None:
        self._logarithmic = logarithmic
        self.steps = _powers(highest) if logarithmic else _round_steps(highest)
        self._top = self._of(max(self.steps[-1], highest, 1))

    def _of(self, count: float) -> float:
        return math.log10(1 + count) if self._logarithmic else count

    def height(self, count: float) -> float:
        return (HEIGHT - _TOP - _BOTTOM) * self._of(count) / self._top

    def y(self, count: float) -> float:
        return HEIGHT - _BOTTOM - self.height(count)


def _round_steps(highest: int) -> list[int]:
    """Zero and three or four round numbers up to about the highest."""
    if highest <= 0:
        return [0]
    rough = highest / 3
    power = 10 ** math.floor(math.log10(rough)) if rough >= 1 else 1
    step = next((int(power * n) for n in (1, 2, 2.5, 5, 10) if power * n >= rough), 1)
    step = max(1, step)
    return [step * n for n in range(highest // step + 1)]


def _powers(highest: int) -> list[int]:
    digits = len(str(max(1, highest)))
    return [0, *(10**power for power in range(0, digits, max(1, digits // 4)))]


def _grid(scale: _Scale, unit: str = "") -> Markup:
    lines = [
        Markup(
            '<line class="grid" x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/>'
            '<text class="tick end" x="{}" y="{below:.1f}">{}</text>'
        ).format(
            _LEFT,
            WIDTH - _RIGHT,
            _LEFT - 6,
            short(step) + unit,
            y=scale.y(step),
            below=scale.y(step) + 3.5,
        )
        for step in scale.steps
    ]
    return Markup("").join(lines)


def _bar(
    scale: _Scale,
    x: float,
    step: float,
    counts: Bar,
    title: str,
    span: tuple[float, float] | None = None,
) -> Markup:
    gap, below = min(2.0, step * 0.15), 0
    parts = []
    for name, count in zip("kdw", counts, strict=True):
        base = scale.height(below)
        below += count
        if count > 0:
            height = max(scale.height(below) - base, 0.8)
            parts.append(
                Markup(
                    '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>'
                ).format(name, x + gap / 2, HEIGHT - _BOTTOM - base - height, step - gap, height)
            )
    hover = Markup('<rect class="hover" x="{:.1f}" y="{}" width="{:.1f}" height="{}"/>').format(
        x, _TOP, step, HEIGHT - _TOP - _BOTTOM
    )
    filters = Markup(' data-from="{:.12g}" data-to="{:.12g}"').format(*span) if span else ""
    return Markup("<g{}>{}{}<title>{}</title></g>").format(
        filters, Markup("").join(parts), hover, title
    )


def _ticks(ticks: Sequence[str], step: float) -> Markup:
    every = max(1, math.ceil(len(ticks) / _MOST_LABELS))
    texts = [
        Markup('<text class="tick mid" x="{:.1f}" y="{}">{}</text>').format(
            _LEFT + (number + 0.5) * step, HEIGHT - _BOTTOM + 15, tick
        )
        for number, tick in enumerate(ticks)
        if number % every == 0
    ]
    return Markup("").join(texts)


def _mark(x: float, text: str, wide: float) -> Markup:
    """A threshold's line, with its name on the side where it fits."""
    is_left = x > _LEFT + wide * 0.6
    return Markup(
        '<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>'
        '<text class="marked {side}" x="{at:.1f}" y="{text_y}">{text}</text>'
    ).format(
        x=x,
        top=_TOP - 8,
        bottom=HEIGHT - _BOTTOM,
        side="end" if is_left else "start",
        at=x - 5 if is_left else x + 5,
        text_y=_TOP - 9,
        text=text,
    )


def short(number: float) -> str:
    """A count in few characters: 950, 12k, 3.4M, 1.2B."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            digits = f"{number / size:.1f}" if number < 10 * size else f"{number / size:.0f}"
            return digits.removesuffix(".0") + letter
    return f"{number:g}"


def size_of(size: float) -> str:
    """Bytes as they are read, as in "2 KiB"."""
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
        Markup('<rect class="{}" x="{}" y="{:.2f}" width="3.4" height="{:.2f}"/>').format(
            "k" if number in kept_range else "d", 4 * number, 20 - 20 * n / most, 20 * n / most
        )
        for number, n in sorted(bars.items())
    ]
    return Markup(
        '<svg class="small" viewBox="0 0 {} 20" preserveAspectRatio="none" role="img" '
        'aria-label="{}">{}</svg>'
    ).format(4 * _LARGEST + 4, escape(title), Markup("").join(rects))


def share_bar(parts: Sequence[tuple[str, float]], title: str) -> Markup:
    """One bar of several parts, each (class, share of the whole); 100 units wide."""
    rects, x = [], 0.0
    for name, share in parts:
        rects.append(
            Markup('<rect class="{}" x="{:.3f}" y="0" width="{:.3f}" height="10"/>').format(
                name, 100 * x, max(100 * share, 0.15 if share > 0 else 0)
            )
        )
        x += share
    return Markup(
        '<svg class="share" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" '
        'aria-label="{}">{}</svg>'
    ).format(escape(title), Markup("").join(rects))
