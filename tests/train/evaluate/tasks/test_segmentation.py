"""The task as a user runs it, on coloured halves; pixels upsampled as torch does it, counted as a
loop would."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from alignset.train.evaluate.tasks import segmentation as module
from alignset.train.evaluate.tasks.segmentation import mean_iou, overlap, tell_pixels
from tests.support.evaluations import evaluated, refused
from tests.support.train_shards import COLOURS

NAMES = list(COLOURS)


@pytest.fixture
def halves(tmp_path: Path) -> tuple[str, ...]:
    """Six images of two colours each, left and right, with their masks from 1 on."""
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


@pytest.mark.numeric
def test_scores_are_upsampled_as_interpolate_does(monkeypatch: pytest.MonkeyPatch):
    scores = np.random.default_rng(13).normal(size=(9, 9, 5)).astype(np.float32)
    for size in ((40, 30), (3, 5), (1, 7), (9, 9)):
        channels = torch.from_numpy(scores).permute(2, 0, 1)[None]
        expected = F.interpolate(channels, size=size, mode="bilinear")[0].argmax(dim=0).numpy()
        for at_once in (1 << 24, 1):  # then a row at a time
            monkeypatch.setattr(module, "AT_ONCE", at_once)
            np.testing.assert_array_equal(tell_pixels(scores, *size), expected)


def test_overlaps_are_counted_where_the_truth_is_a_class():
    answers, truth = np.random.default_rng(13).integers(0, 4, (2, 12, 10))
    truth[:3] = -1
    truth[3] = 255
    intersection, union = overlap(answers, truth, 4)
    for c in range(4):
        counts = np.isin(truth, range(4))
        assert intersection[c] == ((answers == c) & (truth == c) & counts).sum()
        assert union[c] == (((answers == c) | (truth == c)) & counts).sum()
    sums = np.array([[2.0, 0.0, 0.0, 3.0], [4.0, 5.0, 0.0, 3.0]])  # one that does not occur
    assert mean_iou(sums) == pytest.approx((0.5 + 0 + 1) / 3)
    np.testing.assert_allclose(mean_iou(np.stack([sums, sums])), 0.5)
