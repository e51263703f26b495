"""The funnel as an image: a bar for each step, of what it kept and what it dropped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from alignset.pipeline.documents.statements import template
from alignset.pipeline.runs.documents import Step

WIDTH = 760  # px
_BAR_WIDTH, _LEAST_PX = 400, 1.5  # the longest bar, and that of a pair among a billion


def funnel_svg(steps: Sequence[Step]) -> str:
    """The image of a funnel.

    Args:
      steps: in order, at least one, as `funnel` gives them.

    Returns:
      an `svg` element WIDTH px wide; the same steps give the same bytes.
    """
    total, kept = steps[0].seen, steps[-1].kept

    def share(pairs: int) -> str:
        of_all = pairs / max(1, total)
        return "<0.1%" if 0 < of_all < 0.0005 else f"{of_all:.1%}"

    def length(pairs: int) -> float:
        return max(_LEAST_PX, _BAR_WIDTH * pairs / total) if pairs else 0.0

    reasons = sum(1 for step in steps for count in step.dropped.values() if count)
    picture = template("funnel.svg.j2").render(
        width=WIDTH,
        height=88 + 30 * len(steps) + 17 * reasons,
        head=f"{kept:,} of {total:,} pairs{f' ({kept / total:.1%})' if total else ''} were kept",
        steps=steps,
        share=share,
        length=length,
        escape=escape,
    )
    return f"{picture}\n"
