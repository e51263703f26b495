"""The table and the plot: R@k of each variant, and how far it is from all rules.

An interval is the central 95 % of 1,000 resamples of both the seeds and the evaluation images. A
difference from all rules is taken within each resample, so that images which are hard for both
don't widen it.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from alignset.ablate.variants import ALL, Variant
from alignset.pipeline.shown_texts import counted
from alignset.train.data.whole_files import write_whole
from alignset.train.evaluate.bootstrap import RESAMPLES, SEED, central

Floats = npt.NDArray[np.float64]
_ROW_PX, _NAMES_PX, _WIDE_PX = 26, 210, 520  # of the plot
_COLOURS = ("#9ecae1", "#4292c6", "#084594", "#6a51a3", "#3f007d")


class Cell(NamedTuple):
    """R@k of a variant after a budget, in percent, the mean of both directions and all seeds.

    Fields:
      low, high: its interval.
      difference: from all rules; its interval is `least` to `most`.
    """

    score: float
    low: float
    high: float
    difference: float
    least: float
    most: float

    @property
    def differs(self) -> bool:
        """Whether the interval of the difference leaves out zero."""
        return self.least > 0 or self.most < 0

    def text(self, *, is_all: bool) -> str:
        mark = " \\*" if self.differs else ""
        behind = f" ({self.difference:+.1f}: {self.least:+.1f} to {self.most:+.1f}){mark}"
        return f"{self.score:.1f}{'' if is_all else behind}"


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
      pairs: how many it keeps. cells: by budget.
      same_as: the variant that keeps the same pairs and is trained in its place; empty: none.
    """

    variant: Variant
    pairs: int
    cells: Mapping[int, Cell]
    same_as: str = ""


def _resample(points: Sequence[Mapping[str, Any]]) -> tuple[float, Floats]:
    """R@k of a variant and a budget, given one point a seed, and the R@k of each resample."""
    of_image, of_text = (np.array([p[name] for p in points], float) for name in ("image", "text"))
    texts = np.array(points[0]["texts"], float)
    rng = np.random.default_rng(SEED)  # the same for all variants, which makes pairs of them
    images, seeds = len(texts), len(points)
    times = rng.multinomial(images, np.full(images, 1 / images), RESAMPLES).astype(float)
    seed_weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES) / seeds
    scores = (times @ of_image.T / images + times @ of_text.T / (times @ texts)[:, None]) / 2
    mean = (of_image.mean() + (of_text.sum(axis=1) / texts.sum()).mean()) / 2
    return 100 * float(mean), 100 * (scores * seed_weights).sum(axis=1)


def cell_of(points: Sequence[Mapping[str, Any]], base: Sequence[Mapping[str, Any]]) -> Cell:
    """Compares a variant with all rules.

    Args:
      points, base: what `hits` gives for one k and each seed, of the variant and of all rules.
    """
    score, each = _resample(points)
    base_score, base_each = _resample(base)
    return Cell(score, *central(each), score - base_score, *central(each - base_each))


def table(rows: Iterable[Row], budgets: Sequence[int]) -> str:
    """The rows in Markdown."""
    heads = ["variant", "pairs", *(f"{budget:,} samples seen" for budget in budgets)]
    lines = [heads, ["---", "---:", *("---" for _ in budgets)]]
    for row in rows:
        name = f"`{row.variant.name}`" + (f" (= `{row.same_as}`)" if row.same_as else "")
        is_all = row.variant.name == ALL
        cells = (row.cells[budget].text(is_all=is_all) for budget in budgets)
        lines.append([name, f"{row.pairs:,}", *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def plot(rows: Sequence[Row], budgets: Sequence[int], title: str) -> str:
    """R@k with its interval, a dot a budget, as SVG."""
    ends = [cell.high for row in rows for cell in row.cells.values()]
    widest = next((n for n in (1, 2, 5, 10, 20, 30, 40, 50, 60, 80) if n >= max(ends)), 100)
    scale, height = _WIDE_PX / widest, _ROW_PX * (len(rows) + 3)

    def text(x: float, y: float, words: str, anchor: str = "start") -> str:
        return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(words)}</text>'

    parts = [text(8, 18, title)]
    for tick in range(5):
        x = _NAMES_PX + tick * _WIDE_PX / 4
        parts.append(f'<path stroke="#ddd" d="M{x:.1f} {_ROW_PX * 2}V{height - _ROW_PX}"/>')
        parts.append(text(x, height - 8, f"{widest * tick / 4:g} %", "middle"))
    for number, colour in zip(range(len(budgets)), _COLOURS * 2, strict=False):
        x = _NAMES_PX + number * 170
        parts.append(f'<circle cx="{x}" cy="{_ROW_PX * 1.4:.1f}" r="4" fill="{colour}"/>')
        parts.append(text(x + 8, _ROW_PX * 1.4 + 4, f"{budgets[number]:,} samples seen"))
    for number, row in enumerate(rows):
        middle = _ROW_PX * (number + 2.5)
        parts.append(text(_NAMES_PX - 8, middle + 4, row.variant.name, "end"))
        for place, budget in enumerate(budgets):
            cell, colour = row.cells[budget], _COLOURS[place % len(_COLOURS)]
            y = middle + 5 * (place - (len(budgets) - 1) / 2)
            low, high = (_NAMES_PX + end * scale for end in (cell.low, cell.high))
            parts.append(f'<path stroke="{colour}" d="M{low:.1f} {y:.1f}H{high:.1f}"/>')
            x = _NAMES_PX + cell.score * scale
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
    width = _NAMES_PX + _WIDE_PX + 40
    style = 'font-family="sans-serif" font-size="12" stroke-width="2"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {style}>'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>\n"])


def write_results(
    out: Path, rows: Mapping[str, Sequence[Row]], budgets: Sequence[int], settings: dict[str, Any]
) -> str:
    """Writes `ablation.md`, `ablation.json` and a plot for each evaluation set.

    Args:
      rows: by evaluation set.

    Returns:
      the text of `ablation.md`, without its plots.
    """
    measure = settings["measure"]
    parts = ["# Which rules help"]
    for name, of_set in rows.items():
        file = f"ablation-{name}.svg"
        write_whole(out / file, plot(of_set, budgets, f"{measure} on {name}, with 95 % intervals"))
        parts += [f"## {name}", table(of_set, budgets), f"![{measure} on {name}]({file})"]
    one = next(iter(rows.values()))
    parts.append("\n".join(f"- `{row.variant.name}`: {row.variant.about}" for row in one))
    parts.append(
        f"{measure} in percent: the mean of both directions and of "
        f"{counted(settings['seeds'], 'seed')}; chance is "
        + ", ".join(f"{chance:.2f} ({name})" for name, chance in settings["chance"].items())
        + ". In brackets the difference from `all` with its 95 % interval over seeds and "
        "evaluation images. \\* marks an interval without zero; of 20 such, one is by chance."
    )
    parts.append(f"Made by `{settings['command']}`.")
    text = "\n\n".join(parts) + "\n"
    write_whole(out / "ablation.md", text)
    numbers = {
        name: [
            {"variant": row.variant.name, "pairs": row.pairs, "same_as": row.same_as}
            | {"budgets": {budget: cell._asdict() for budget, cell in row.cells.items()}}
            for row in of_set
        ]
        for name, of_set in rows.items()
    }
    write_whole(out / "ablation.json", json.dumps(settings | {"results": numbers}, indent=2))
    return "\n\n".join(part for part in parts if not part.startswith("!")) + "\n"
