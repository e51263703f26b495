"""The funnel as an image: a bar for each step, of what it kept and what it dropped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from alignset.pipeline.documents.card import template
from alignset.pipeline.runs.documents import Step

# px: of the image, of where rows and bars begin, of the longest bar, of the parts of a row.
WIDTH, _ROWS_Y, _BAR_X, _BAR_WIDTH, _STEP_HEIGHT, _REASON_HEIGHT = 760, 78, 158, 400, 30, 17
_LEAST_PX = 1.5  # of a bar of a pair among a billion


def funnel_svg(steps: Sequence[Step]) -> str:
    """The image of a funnel.

    Args:
      steps: in order, at least one, as `funnel` gives them.

    Returns:
      an `svg` element WIDTH px wide; the same steps give the same bytes.
    """
    total, kept = steps[0].seen, steps[-1].kept
    rows, top = [], _ROWS_Y
    for step in steps:
        reasons = {reason: count for reason, count in step.dropped.items() if count}
        kept_px, dropped_px = (_length(n, total) for n in (step.kept, step.seen - step.kept))
        rows.append(
            {
                "step": step,
                "top": top,
                "kept_px": f"{kept_px:.1f}",
                "dropped_x": f"{_BAR_X + kept_px:.1f}",
                "dropped_px": f"{dropped_px:.1f}",
                "share": _share(step.kept, total),
                "reasons": [f"{r}: {n:,}, {_share(n, total)} of all" for r, n in reasons.items()],
            }
        )
        top += _STEP_HEIGHT + _REASON_HEIGHT * len(reasons)
    share = f" ({kept / total:.1%})" if total else ""
    head = f"{kept:,} of {total:,} pairs{share} were kept"
    picture = template("funnel.svg.j2")
    return picture.render(width=WIDTH, height=top + 10, head=head, rows=rows, escape=escape) + "\n"


def _share(pairs: int, total: int) -> str:
    share = pairs / max(1, total)
    return "<0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


def _length(pairs: int, total: int) -> float:
    """px of a bar of so many pairs; what there is can be seen."""
    return max(_LEAST_PX, _BAR_WIDTH * pairs / total) if pairs else 0.0
