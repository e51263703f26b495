"""The suite's figures as tables of Markdown, and the page that they stand in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.overlap.alterations import ALTERATIONS, PAIRS, SINGLE

Distances = npt.NDArray[np.float64]


class Copies(NamedTuple):
    """How far each altered image is from the image that it was made of, by either measure.

    Attributes:
      distances: float64[n, alterations], by copies; 2 where another image was nearer.
      bits: int32[n, alterations], by perceptual hashes.
      is_jpeg: bool[n].
      is_chosen_on: bool[n]: of the half by which thresholds are chosen.
    """

    distances: Distances
    bits: npt.NDArray[np.int32]
    is_jpeg: npt.NDArray[np.bool_]
    is_chosen_on: npt.NDArray[np.bool_]

    def of(self, rows: npt.NDArray[np.bool_]) -> Copies:
        return Copies(*(values[rows] for values in self))


def is_ordinary() -> npt.NDArray[np.bool_]:
    """bool[alterations]: the single changes that the goal is about."""
    singles = [alteration.is_ordinary for alteration in SINGLE]
    return np.array(singles + [False] * len(PAIRS))


def is_pair() -> npt.NDArray[np.bool_]:
    return np.array([False] * len(SINGLE) + [True] * len(PAIRS))


def recall_table(copies: Copies, threshold: float, bits: Sequence[int]) -> str:
    """Recall by change and strength, of the half on which no threshold was chosen."""
    reported = copies.of(~copies.is_chosen_on)
    jpeg, other = reported.of(reported.is_jpeg), reported.of(~reported.is_jpeg)
    columns = {
        "copy, JPEGs": (jpeg.distances < threshold).mean(0),
        "copy, others": (other.distances < threshold).mean(0),
    }
    for most in bits:
        columns[f"pHash <= {most}, all"] = (reported.bits <= most).mean(0)
    names = [
        alteration.name + ("" if alteration.is_ordinary else " *") for alteration in ALTERATIONS
    ]
    rows = [
        [name, *(f"{column[at]:.2f}" for column in columns.values())]
        for at, name in enumerate(names)
    ]
    for name, chosen in (
        ("**mean of single changes without \\***", is_ordinary()),
        ("**mean of pairs**", is_pair()),
    ):
        rows.append([name, *(f"**{column[chosen].mean():.3f}**" for column in columns.values())])
    return table(["change", *columns], rows)


def threshold_table(
    copies: Copies, false: Mapping[str, Distances], thresholds: Sequence[float]
) -> str:
    """Recall and false positives of each threshold, in the half by which it is chosen."""
    chosen = copies.of(copies.is_chosen_on)
    rows = []
    for threshold in thresholds:
        found = (chosen.distances < threshold)[:, is_ordinary()]
        rows.append(
            [
                f"{threshold:g}",
                f"{found[chosen.is_jpeg].mean():.3f}",
                f"{found[~chosen.is_jpeg].mean():.3f}",
                *(str(int((values < threshold).sum())) for values in false.values()),
            ]
        )
    return table(["threshold", "recall, JPEGs", "recall, others", *false], rows)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_blocks(page: Path, blocks: Mapping[str, str]) -> None:
    """Replaces what stands between a page's `<!-- NAME -->` and `<!-- end of NAME -->`.

    Raises:
      ValueError: the page has no such block.
    """
    text = page.read_text()
    for name, block in blocks.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, found, rest = text.partition(begin)
        _, found_end, after = rest.partition(end)
        if not found or not found_end:
            raise ValueError(f"{page} has no block between {begin.strip()} and {end}")
        text = f"{before}{begin}{block}\n{end}{after}"
    page.write_text(text)
