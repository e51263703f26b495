"""Which dropped pairs of a shard have a thumbnail."""

import io
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from alignset.transforms.columns.hashing import UInt64s
from alignset.transforms.columns.records import key_hashes
from alignset.transforms.shards.dropped_thumbnails import dropped_thumbnails
from tests.support.made_images import images_of, pairs_of, shard_settings
from tests.support.picture_files import encoded, photograph
from tests.support.rules import run_rules

RULES = run_rules(min_image_side=50, max_unsafe_score=0.5)
ROWS = 60
COPY, BROKEN = 20, 21  # a copy of an evaluation image, and a file that cannot be decoded after all


def reason_of(row: int) -> str | None:
    if 41 + row <= 50:
        return "too_small"
    kept_out = {30: "blocked", 31: "opted_out", 32: "undecodable", 50: None}
    return {**kept_out, COPY: "evaluation_overlap"}.get(row, "unsafe")


def made(folder: Path, thumbnails: int) -> tuple[UInt64s, list[bytes | None]]:
    """Keys and thumbnails of a shard of images of 41 px and more a side."""
    bodies = [encoded(photograph(row, 41 + row, 120), "JPEG") for row in range(ROWS)]
    images = images_of(folder, bodies)
    images.note(BROKEN, file=images.spool.put(b"\xff\xd8\xff broken"))
    for row in filter(reason_of, range(ROWS)):
        images.drop(row, reason_of(row))
    keys = np.random.default_rng(1).integers(0, 1 << 64, ROWS, np.uint64)
    scores = [0.5 + row / 200 for row in range(ROWS)]
    scores[-2:] = [np.inf, -np.inf]  # as a rule of users may measure
    for row, score in enumerate(scores):
        images.note(row, unsafe_score=score)
    pairs = pairs_of(images, shard_settings(RULES), key=keys)
    return keys, dropped_thumbnails(pairs, images, RULES, thumbnails).to_pylist()


def test_by_hash_and_nearest_to_thresholds_and_none_that_is_kept_out(tmp_path: Path) -> None:
    keys, thumbnails = made(tmp_path, 4)
    hashes = key_hashes(keys)
    expected = {8, 9, 10, 11, COPY}  # by half as many: 49 and 50 px, scores of 0.55 and 0.555
    for reason in ("too_small", "unsafe"):
        of_reason = [row for row in range(ROWS) if reason_of(row) == reason]
        expected |= {*sorted(of_reason, key=lambda row: hashes[row])[:4]}
    assert {row for row, body in enumerate(thumbnails) if body} == expected - {BROKEN}
    for row in expected - {BROKEN}:
        picture = PillowImage.open(io.BytesIO(thumbnails[row]))
        assert (picture.format, max(picture.size)) == ("JPEG", 120 if row == COPY else 96)
        picture.load()


def test_all_that_can_be_drawn_where_many_are_wanted_and_none_where_none_are(
    tmp_path: Path,
) -> None:
    judged = {row for row in range(ROWS) if reason_of(row) in ("too_small", "unsafe")}
    for count, expected in ((256, judged - {BROKEN} | {COPY}), (0, {COPY})):
        _, thumbnails = made(tmp_path, count)
        assert {row for row, body in enumerate(thumbnails) if body} == expected
