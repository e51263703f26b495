"""Which pairs of a shard are shown, and their thumbnails."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image as PillowImage

from alignset.transforms.columns.record_files import decode_record
from alignset.transforms.columns.records import KEPT, Record, key_hashes
from alignset.transforms.shards.shard_examples import LEAST_EXAMPLES, choose_rows, write_record
from alignset.transforms.shards.shard_pairs import ShardPairs, shared_images
from alignset.transforms.shards.shard_record import word_counts
from tests.support.made_images import images_of
from tests.support.picture_files import encoded, photograph
from tests.support.rules import run_rules

RULES = run_rules(min_image_side=50, max_unsafe_score=1.0)
ROWS = 60


def made(
    folder: Path,
    reason_of=lambda row: None,
    thumbnails: int = 4,
    bodies: list[bytes] | None = None,
    text: str = "the picture number",
) -> ShardPairs:
    """A shard of images of 40 px and more a side."""
    bodies = bodies or [encoded(photograph(row, 41 + row, 120), "JPEG") for row in range(ROWS)]
    size = len(bodies)
    images = images_of(folder, bodies, RULES, thumbnails=thumbnails)
    for row in range(size):
        if reason := reason_of(row):
            images.drop(row, reason)
    keys = np.random.default_rng(1).integers(0, 1 << 64, size, np.uint64)
    urls = [f"http://host{row % 3}.example/{row}{'u' * len(text)}.jpg" for row in range(size)]
    table = pa.table(
        {"key": keys, "url": urls, "caption": [f"{text} {row}" for row in range(size)]}
    )
    measures = {"unsafe_score": pa.array([row / size for row in range(size)])}
    shared = shared_images(table, np.ones(size, np.bool_))
    return ShardPairs(table, shared, images, pa.nulls(size, pa.string()), measures)


def by_size(row: int) -> str | None:
    return "too_small" if 41 + row <= 50 else None


def write(pairs: ShardPairs, folder: Path) -> tuple[Record, bytes]:
    record, pictures = folder / "record.json", folder / "pictures"
    write_record(pairs, record, pictures)
    return decode_record(record.read_bytes(), "record.json"), pictures.read_bytes()


def test_the_kept_and_each_reason_by_their_hashes_and_the_nearest_to_a_threshold(tmp_path: Path):
    pairs = made(tmp_path, by_size)
    lists = choose_rows(pairs, pairs.rows(word_counts(pairs.captions)), 4)
    hashes = key_hashes(pairs.keys)
    for outcome, rows, count in ((KEPT, range(10, ROWS), 8), ("too_small", range(10), 4)):
        chosen = {row for row, names in lists.items() if outcome in names}
        assert chosen == set(sorted(rows, key=lambda row: hashes[row])[:count])
    near = {row for row, names in lists.items() if "near:min_image_side" in names}
    assert near == {8, 9, 10, 11}  # 49 and 50 px were dropped, 51 and 52 are kept


def test_thumbnails_are_small_jpegs_behind_one_another(tmp_path: Path):
    record, pictures = write(made(tmp_path, by_size), tmp_path)
    assert record.pairs == ROWS
    assert {name: sum(n.values()) for name, n in record.outcomes.items()} == {
        KEPT: 50,
        "too_small": 10,
    }
    end = 0
    for example in record.examples:
        assert example.picture
        at, size = example.picture
        assert at == end
        end += size
        picture = PillowImage.open(io.BytesIO(pictures[at : at + size]))
        assert (picture.format, max(picture.size)) == ("JPEG", 96)
        picture.load()
    assert end == len(pictures)


def test_none_are_made_where_none_are_wanted_and_the_record_keeps_what_the_run_kept(
    tmp_path: Path,
):
    record, pictures = write(made(tmp_path, by_size, thumbnails=0), tmp_path)
    assert pictures == b""
    assert all(example.picture is None for example in record.examples)
    assert sum("too_small" in example.lists for example in record.examples) == LEAST_EXAMPLES
    own = record.axes[0].edges.index(50)
    kept = sum(n for place, n in record.alone["min_image_side"].items() if int(place) > own)
    assert kept == 50
    assert sum(record.alone["min_image_side"].values()) == record.sample.rows == ROWS


@pytest.mark.parametrize("reason", ["taken_down", None])
def test_what_is_kept_out_of_sets_or_cannot_be_decoded_has_no_picture(
    tmp_path: Path, reason: str | None
):
    pairs = made(tmp_path, lambda row: reason)
    if reason is None:
        pairs.images.places[:] = [pairs.images.spool.put(b"\xff\xd8\xff broken")] * ROWS
    record, pictures = write(pairs, tmp_path)
    assert pictures == b""
    assert len(record.examples) >= 4


def test_texts_and_urls_are_cut(tmp_path: Path):
    body = encoded(photograph(1, 60, 60), "JPEG")
    record, _ = write(made(tmp_path, bodies=[body], text="w " * 20_000), tmp_path)
    (example,) = record.examples
    assert (len(example.url), len(example.caption), example.values["words"]) == (500, 300, 20_001)
    assert len((tmp_path / "record.json").read_bytes()) < 4_000
