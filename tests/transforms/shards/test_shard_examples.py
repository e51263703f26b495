"""Which pairs of a shard are shown, and their thumbnails."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image as PillowImage

from alignset.transforms.columns.record_files import decode_record
from alignset.transforms.columns.records import KEPT, Record, key_hashes
from alignset.transforms.images.examine import examine
from alignset.transforms.shards.measure_images import Measured
from alignset.transforms.shards.shard_examples import LEAST_EXAMPLES, choose_rows, write_record
from alignset.transforms.shards.shard_files import Spool
from alignset.transforms.shards.shard_record import ShardPairs, word_counts
from tests.support.picture_files import encoded, photograph
from tests.support.rules import run_rules

RULES = run_rules(min_image_side=50, max_unsafe_score=1.0)
ROWS = 60


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def made(spool: Spool, reason_of=lambda row: None, bodies=None) -> ShardPairs:
    """A shard of pictures of 40 px and more a side."""
    bodies = bodies or [encoded(photograph(row, 41 + row, 120), "JPEG") for row in range(ROWS)]
    size = len(bodies)
    images = [examine(body) for body in bodies]
    columns = {
        "image": images,
        "width": [image.width for image in images],
        "height": [image.height for image in images],
    }
    keys = np.random.default_rng(1).integers(0, 1 << 64, size, np.uint64)
    return ShardPairs(
        keys,
        pa.array([f"http://host{row % 3}.example/{row}.jpg" for row in range(size)]),
        pa.array([f"the picture number {row}" for row in range(size)]),
        [reason_of(row) for row in range(size)],
        [None] * size,
        Measured(columns, [spool.put(body) for body in bodies], 0),
        {"unsafe_score": pa.array([row / size for row in range(size)])},
    )


def by_size(row: int) -> str | None:
    return "too_small" if 41 + row <= 50 else None


def write(pairs: ShardPairs, spool: Spool, folder: Path, thumbnails: int) -> tuple[Record, bytes]:
    record, pictures = folder / "record.json", folder / "pictures"
    write_record(pairs, RULES, spool, thumbnails, record, pictures)
    return decode_record(record.read_bytes(), "record.json"), pictures.read_bytes()


def test_the_kept_and_each_reason_by_their_hashes(spool: Spool):
    pairs = made(spool, by_size)
    lists = choose_rows(pairs, RULES, pairs.rows(word_counts(pairs.captions)), 4)
    hashes = key_hashes(pairs.keys)
    for outcome, rows, count in ((KEPT, range(10, ROWS), 8), ("too_small", range(10), 4)):
        chosen = {row for row, names in lists.items() if outcome in names}
        assert chosen == set(sorted(rows, key=lambda row: hashes[row])[:count])


def test_the_nearest_on_either_side_of_a_threshold(spool: Spool):
    pairs = made(spool, by_size)
    lists = choose_rows(pairs, RULES, pairs.rows(word_counts(pairs.captions)), 4)
    near = {row for row, names in lists.items() if "near:min_image_side" in names}
    assert near == {8, 9, 10, 11}  # 49 and 50 px were dropped, 51 and 52 are kept


def test_thumbnails_are_small_jpegs_behind_one_another(spool: Spool, tmp_path: Path):
    record, pictures = write(made(spool, by_size), spool, tmp_path, 4)
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


def test_none_are_made_where_none_are_wanted(spool: Spool, tmp_path: Path):
    record, pictures = write(made(spool, by_size), spool, tmp_path, 0)
    assert pictures == b""
    assert all(example.picture is None for example in record.examples)
    assert sum("too_small" in example.lists for example in record.examples) == LEAST_EXAMPLES


def test_what_is_kept_out_of_sets_has_no_picture(spool: Spool, tmp_path: Path):
    record, pictures = write(made(spool, lambda row: "taken_down"), spool, tmp_path, 4)
    assert record.examples
    assert pictures == b""


def test_by_each_rule_alone_the_record_keeps_what_the_run_kept(spool: Spool, tmp_path: Path):
    record, _ = write(made(spool, by_size), spool, tmp_path, 0)
    own = record.axes[0].edges.index(50)
    kept = sum(n for place, n in record.alone["min_image_side"].items() if int(place) > own)
    assert kept == 50
    assert sum(record.alone["min_image_side"].values()) == record.sample.rows == ROWS


def test_one_that_cannot_be_decoded_after_all_is_shown_without_a_picture(
    spool: Spool, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    pairs = made(spool)
    broken = spool.put(b"\xff\xd8\xff broken")
    pairs.measured.places[:] = [broken] * ROWS
    record, pictures = write(pairs, spool, tmp_path, 4)
    assert pictures == b""
    assert len(record.examples) >= 8


def test_texts_and_urls_are_cut(spool: Spool, tmp_path: Path):
    pairs = made(spool, bodies=[encoded(photograph(1, 60, 60), "JPEG")])
    long = ShardPairs(
        pairs.keys,
        pa.array(["http://a.example/" + "u" * 9000]),
        pa.array(["w " * 500_000]),
        [None],
        [None],
        pairs.measured,
        {},
    )
    record, _ = write(long, spool, tmp_path, 4)
    (example,) = record.examples
    assert (len(example.url), len(example.caption), example.values["words"]) == (500, 300, 500_000)
    assert len((tmp_path / "record.json").read_bytes()) < 4_000
