"""The task as a user runs it, on coloured halves."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.evaluations import evaluated, refused
from tests.support.train_shards import COLOURS

NAMES = list(COLOURS)


@pytest.fixture
def halves(tmp_path: Path) -> tuple[str, ...]:
    """Six pictures of two colours each, left and right, with their masks from 1 on."""
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for left in range(6):
        right = left + 1
        picture = np.zeros((32, 48, 3), np.uint8)
        picture[:, :24], picture[:, 24:] = COLOURS[NAMES[left]], COLOURS[NAMES[right]]
        mask = np.zeros((32, 48), np.uint8)
        mask[:, :24], mask[:, 24:], mask[:4] = left + 1, right + 1, 0
        Image.fromarray(picture).save(tmp_path / "images" / f"{left}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{left}.png")
    (tmp_path / "names").write_text("\n".join(NAMES))
    parts = {"data": "images", "masks": "masks", "classes": "names"}
    return *(f"--{flag}={tmp_path / part}" for flag, part in parts.items()), "--first_value=1"


def test_coloured_halves(halves, tmp_path: Path, capsys):
    page = tmp_path / "page.html"
    result = evaluated(capsys, "segmentation", *halves, "--prompts=a {}", f"--page={page}")
    assert (result["n"], result["classes"]) == (6, 8)
    assert result["mean_iou"] == 100
    assert result["iou"].keys() == set(NAMES[:7])  # the last one is nowhere
    assert page.read_text().count("<img ") == 12
    # Shifted by one, each pixel is told as its neighbour's colour.
    shifted = evaluated(capsys, "segmentation", *halves[:3], "--first_value=2", "--prompts=a {}")
    assert shifted["mean_iou"] < 20


def test_masks_without_a_class_are_told(halves, tmp_path: Path, capsys):
    flags = (*halves[:3], "--first_value=100")
    assert "no pixel of the masks is a class" in refused(capsys, "segmentation", *flags)
    blank = np.zeros((32, 48), np.uint8)
    Image.fromarray(blank).save(tmp_path / "masks" / "0.png")
    page = f"--page={tmp_path / 'page.html'}"
    result = evaluated(capsys, "segmentation", *halves, "--prompts=a {}", page)
    assert (result["n"], result["mean_iou"]) == (6, 100)


def test_bad_input_is_one_line(halves, tmp_path: Path, capsys):
    (tmp_path / "masks" / "0.png").unlink()
    assert "has no mask of" in refused(capsys, "segmentation", *halves)
    assert "--masks" in refused(capsys, "segmentation", halves[0], halves[2])
