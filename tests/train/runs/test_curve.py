"""The curve: points that are numbers, and lines where they belong."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alignset.train.runs.curve import CURVES, draw_curve, read_points


def test_points_are_read_of_rows_that_have_them(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    assert [read_points(path, name) for name in CURVES] == [[], []]
    rows = [{"step": 1, "loss": 2.5}, {"step": 2, "validation/R1": 7}, {"loss": 1}, [], 3]
    lines = [json.dumps(row) for row in rows]
    path.write_text("\n".join([*lines, '{"step": 3, "loss": NaN}', '{"step": 4, "lo']))
    assert [read_points(path, name) for name in CURVES] == [[(1, 2.5)], [(2, 7.0)]]


@pytest.mark.parametrize("count", [1, 2, 50_000])
def test_a_falling_loss_falls_and_a_rising_recall_rises(tmp_path: Path, count: int):
    steps = range(1, count + 1)
    loss = [(step, 4.0 - 3.0 * step / count) for step in steps]
    recall = [(step, 80.0 * step / count) for step in steps]
    draw_curve(loss, recall, tmp_path / "curve.png")
    pixels = np.array(Image.open(tmp_path / "curve.png"))
    assert pixels.shape == (360, 800, 3)
    falls, rises = heights(pixels, (31, 119, 180)), heights(pixels, (214, 96, 20))
    assert rises[-1] < 80  # px from above, at the last step
    if count == 50_000:
        assert falls[0] < rises[0] < 311 > falls[-1] > 200
        assert (np.diff(falls) >= 0).all()
        assert (np.diff(rises) <= 0).all()
    draw_curve([(5, 0.0), (10, 0.0)], [], tmp_path / "curve.png")  # neither validations nor a loss


def heights(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Where a line is, px from above, at columns between the scales."""
    inside = (pixels[50:310, 70:744] == colour).all(axis=2)
    columns = inside.any(axis=0)
    return 50 + np.array([np.flatnonzero(inside[:, x]).mean() for x in np.flatnonzero(columns)])
