"""Trackers: TensorBoard's files read back, one of a user's own, and one that fails."""

import dataclasses
import io
import resource
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alignset.train.errors import SettingsError
from alignset.train.presets import TINY
from alignset.train.runs.trackers import TensorBoard, open_trackers
from tests.support.tensorboard_files import events, text, values


def test_tensorboard_holds_what_it_was_told(tmp_path: Path):
    (tracker,) = open_trackers("tensorboard", tmp_path, TINY, 1)
    pixels = np.zeros((4, 8, 8, 3), np.uint8)
    pixels[1] = (250, 10, 20)
    tracker.samples(1, pixels, ["a dog", "*a*\nred <b>square</b>", "x", "y"])
    tracker.scalars(5, {"loss": 2.5, "epoch": 0})
    tracker.scalars(10, {"loss": 1.5, "epoch": 1})
    tracker.close()
    assert {step: v.simple_value for step, v in values(tmp_path, "loss").items()} == {
        5: 2.5,
        10: 1.5,
    }
    assert "    batch_size = 128" in text(values(tmp_path, "settings/text_summary")[0])
    lines = text(values(tmp_path, "samples/texts/text_summary")[1]).splitlines()
    assert lines[:2] == ["    1. a dog", "    2. *a* red <b>square</b>"]
    grid = Image.open(io.BytesIO(values(tmp_path, "samples/images")[1].image.encoded_image_string))
    assert grid.size == (32, 8)  # rows of up to eight
    assert [grid.getpixel((4 + 8 * i, 4)) for i in range(3)] == [(0,) * 3, (250, 10, 20), (0,) * 3]


def test_a_resumed_run_purges_what_it_does_again(tmp_path: Path):
    first = TensorBoard(tmp_path, {}, 1)
    first.scalars(10, {"loss": 1.0})
    first.close()
    again = TensorBoard(tmp_path, {}, 7)
    again.close()
    # TensorBoard hides what earlier files have at and after the step of such a session log.
    starts = [e.step for e in events(tmp_path) if e.HasField("session_log")]
    assert starts[-1] == 7


def test_a_full_disk_is_told_and_holds_nobody_up(tmp_path: Path):
    # A file that takes no more than 2,000 bytes, as of a full disk.
    tracker = TensorBoard(tmp_path, {}, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            all(tracker.scalars(step, {"loss": 1.0}) is None for step in range(1, 200))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_tracker_that_cannot_be_made_is_refused(tmp_path: Path):
    for name, says in (
        ("nowhere:A", "the tracker 'nowhere:A' can't be used"),
        ("alignset.train.runs.trackers:B", "can't be used"),
        ("json:loads", "can't be used"),
    ):
        with pytest.raises(SettingsError, match=says) as raised:
            open_trackers(f"tensorboard,{name}", tmp_path, TINY, 1)
        assert "\n" not in str(raised.value)
    says = "there is no tracker 'wandb' here: pass tensorboard, or a class of your own"
    with pytest.raises(SettingsError, match=says):
        dataclasses.replace(TINY, trackers="tensorboard,wandb")
