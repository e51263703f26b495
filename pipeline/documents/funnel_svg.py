"""The funnel as a picture: a bar for each step, of what it kept and what it dropped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from alignset.pipeline.runs.documents import Step

# px: of the picture, of its margin, of where bars begin and how long the longest is, of a step.
WIDTH, _MARGIN, _BAR_X, _BAR_WIDTH, _BAR_HEIGHT = 760, 20, 158, 400, 16
_KEPT_X, _SHARE_X = WIDTH - _MARGIN - 62, WIDTH - _MARGIN  # where numbers end
_HEAD_HEIGHT, _STEP_HEIGHT, _REASON_HEIGHT = 58, 30, 17
_LEAST_PX = 1.5  # of a bar of a pair among a billion

# Blue and orange are told apart by everybody; each is dark enough on its ground for 3:1.
_STYLE = """\
.ground { fill: #ffffff; stroke: #d8dce2 }
.funnel text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif;
  fill: #1c2733; font-variant-numeric: tabular-nums }
.funnel .quiet { fill: #5b6774; font-size: 12px }
.funnel .number { text-anchor: end }
.funnel .head { font-size: 16px; font-weight: 600 }
.funnel .kept { fill: #2f6fb3 }
.funnel .dropped { fill: #d1711d }
@media (prefers-color-scheme: dark) {
  .ground { fill: #14191f; stroke: #303a45 }
  .funnel text { fill: #e7ecf1 }
  .funnel .quiet { fill: #9aa7b4 }
  .funnel .kept { fill: #5b9bd9 }
  .funnel .dropped { fill: #e8924a }
}
"""


@dataclass(frozen=True)
class _Row:
    """A step, with the top of its row in px."""

    step: Step
    top: float

    @property
    def reasons(self) -> list[tuple[str, int]]:
        return [(reason, count) for reason, count in self.step.dropped.items() if count]

    @property
    def height(self) -> float:
        return _STEP_HEIGHT + _REASON_HEIGHT * len(self.reasons)


def funnel_svg(steps: Sequence[Step]) -> str:
    """The picture of a funnel.

    Args:
      steps: in order, at least one, as `funnel` gives them.

    Returns:
      an `svg` element WIDTH px wide; the same steps give the same bytes.
    """
    total, rows, top = steps[0].seen, list[_Row](), float(_MARGIN + _HEAD_HEIGHT)
    for step in steps:
        rows.append(_Row(step, top))
        top += rows[-1].height
    height = top + _MARGIN / 2
    kept = steps[-1].kept
    share = f" ({kept / total:.1%})" if total else ""
    told = f"{kept:,} of {total:,} pairs{share} were kept"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="funnel" role="img" '
        f'viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" height="{height:g}">'
    )
    parts = [head, f"<title>{told}</title>", f"<style>{_STYLE}</style>", _ground(height)]
    parts += _head_line(told)
    for row in rows:
        parts += _row_parts(row, max(1, total))
    return "\n".join([*parts, "</svg>", ""])


def _ground(height: float) -> str:
    size = f'width="{WIDTH - 1}" height="{height - 1:g}"'
    return f'<rect class="ground" x="0.5" y="0.5" {size} rx="8"/>'


def _head_line(told: str) -> Iterator[str]:
    yield _text(_MARGIN, _MARGIN + 14, told, "head")
    y = _MARGIN + _HEAD_HEIGHT - 12
    for x, name, word in (
        (_BAR_X, "kept", "kept"),
        (_BAR_X + 62, "dropped", "dropped by this step"),
    ):
        yield f'<rect class="{name}" x="{x}" y="{y - 9}" width="10" height="10"/>'
        yield _text(x + 15, y, word, "quiet")
    yield _text(_KEPT_X, y, "kept", "quiet number")
    yield _text(_SHARE_X, y, "of all", "quiet number")


def _row_parts(row: _Row, total: int) -> Iterator[str]:
    step, y = row.step, row.top + 17
    yield _text(_MARGIN, y, step.step)
    kept = _length(step.kept, total)
    bar_y = f'y="{row.top + 5:g}" height="{_BAR_HEIGHT}"'
    yield f'<rect class="kept" x="{_BAR_X}" {bar_y} width="{kept:.1f}"/>'
    dropped = _length(step.seen - step.kept, total)
    if dropped:
        yield f'<rect class="dropped" x="{_BAR_X + kept:.1f}" {bar_y} width="{dropped:.1f}"/>'
    yield _text(_KEPT_X, y, f"{step.kept:,}", "number")
    yield _text(_SHARE_X, y, _share(step.kept, total), "number")
    for place, (reason, count) in enumerate(row.reasons, 1):
        line = f"{reason}: {count:,}, {_share(count, total)} of all"
        yield _text(_BAR_X, y + 2 + _REASON_HEIGHT * place, line, "quiet")


def _share(pairs: int, total: int) -> str:
    share = pairs / total
    return "<0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


def _length(pairs: int, total: int) -> float:
    """px of a bar of so many pairs; what there is can be seen."""
    return max(_LEAST_PX, _BAR_WIDTH * pairs / total) if pairs else 0.0


def _text(x: float, y: float, words: str, kind: str = "") -> str:
    of_class = f' class="{kind}"' if kind else ""
    return f'<text{of_class} x="{x:g}" y="{y:g}">{escape(words)}</text>'
