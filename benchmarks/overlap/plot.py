"""Recall and false positives against the threshold, as an SVG."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

from benchmarks.overlap.tables import Copies, Distances, is_ordinary

COLOURS = {"JPEGs": "#0b6e4f", "others": "#3d6fb4", "false": "#c8553d"}


def draw(copies: Copies, false: Distances, threshold: float, path: Path) -> None:
    """Draws both halves: the one by which the threshold is chosen in thin lines.

    Args:
      false: float64[n], the distances of different images, without repeats.
    """
    matplotlib.use("svg")
    from matplotlib import pyplot

    at = np.linspace(0, 0.6, 121)
    with matplotlib.rc_context({"svg.hashsalt": "overlap", "svg.fonttype": "none", "font.size": 9}):
        figure, axes = pyplot.subplots(figsize=(6.4, 3.4), layout="constrained")
        for name, rows in (("JPEGs", copies.is_jpeg), ("others", ~copies.is_jpeg)):
            for half, width in ((copies.is_chosen_on, 0.8), (~copies.is_chosen_on, 1.8)):
                values = copies.distances[rows & half][:, is_ordinary()].ravel()
                label = f"recall, {name}" if width > 1 else None
                share = [(values < threshold).mean() for threshold in at]
                axes.plot(at, share, color=COLOURS[name], linewidth=width, label=label)
        axes.axvline(threshold, color="#888888", linewidth=0.8, linestyle="--")
        axes.set(xlabel="threshold of the distance", ylabel="recall", ylim=(0.5, 1.005))
        axes.grid(alpha=0.25)
        other = axes.twinx()
        counts = [(false < threshold).sum() for threshold in at]
        other.plot(
            at, counts, color=COLOURS["false"], label=f"accepted of {len(false):,} different"
        )
        other.set(ylabel="different images accepted", ylim=(0, None))
        lines = [*axes.get_lines(), *other.get_lines()]
        named = [line for line in lines if not str(line.get_label()).startswith("_")]
        axes.legend(named, [line.get_label() for line in named], loc="lower right")
        figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)
