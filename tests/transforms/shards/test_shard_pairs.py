"""Pairs that share an image: which they are, what becomes of each, and that it is encoded once."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from alignset.transforms.columns.carried import CARRIED
from alignset.transforms.images.resize_settings import Encoded
from alignset.transforms.shards.shard_images import Spool
from alignset.transforms.shards.shard_pairs import BAD_HASH, InputHashes, ShardPairs, shared_images
from alignset.transforms.shards.shard_samples import encoded_once
from tests.support.made_images import empty_images
from tests.support.rules import run_rules

URLS = ["http://a/1", "http://a/2", "HTTP://A/1#x", "http://a/3", "http://a/2", "http://a/1?"]


@pytest.mark.parametrize(
    ("urls", "wanted", "stored", "rows", "of_pairs"),
    [
        (URLS, [True] * 6, None, [0, 1, 3, 5], [0, 1, 0, 2, 1, 3]),
        (URLS, [False, True, True, False, True, False], None, [1, 2], [-1, 0, 1, -1, 0, -1]),
        # Each its pair's own; and that of the first for a pair that has none.
        (URLS, [True] * 6, [5, None, 5, None, None, None], [0, 1, 2, 3, 5], [0, 1, 2, 3, 1, 4]),
        (URLS, [True] * 6, [None, None, 5, None, 5, 5], [2, 3, 4, 5], [0, 2, 0, 1, 2, 3]),
        # Neither an image that is on a list nor one without bytes is shared.
        (
            *(URLS, [True, True, False, True, True, True], [None, None, 5, None, 0, 5]),
            *([0, 1, 3, 4, 5], [0, 1, -1, 2, 3, 4]),
        ),
        ([], [], None, [], []),
    ],
)
def test_pairs_of_one_identity_share_an_image(urls, wanted, stored, rows, of_pairs) -> None:
    pairs = pa.table({"url": pa.array(urls, pa.string())})
    if stored:
        paths = [None if size is None else "x.tar" for size in stored]
        pairs = pairs.append_column("source_path", pa.array(paths))
        pairs = pairs.append_column("source_size", pa.array(stored, pa.int64()))
    images = shared_images(pairs, np.array(wanted, np.bool_))
    assert (images.rows.tolist(), images.of_pairs.tolist()) == (rows, of_pairs)
    column = pa.array(range(len(rows)), pa.int64())
    assert images.spread(column).to_pylist() == [at if at >= 0 else None for at in of_pairs]


def test_a_pair_has_the_end_of_its_image_or_its_own(tmp_path: Path) -> None:
    table = pa.table({"key": np.arange(6, dtype=np.uint64), "url": URLS, "caption": ["a"] * 6})
    blocked = pa.array([None, None, "l.txt:key", None, None, None], pa.string())
    shared = shared_images(table, blocked.is_null().to_numpy(zero_copy_only=False))
    images = empty_images(tmp_path, len(shared.rows), run_rules())
    images.drop(1, "fetch_failed", "dns")
    images.drop(1, "undecodable", "truncated")  # the first end stays
    counts: list[int] = []
    shared.pair_counter(counts.append)(2)
    assert counts == [3]
    pairs = ShardPairs(table, shared, images, blocked, {"n": pa.array([0, 1, 2, 3])})
    assert pairs.reasons == [None, "fetch_failed", "blocked", None, "fetch_failed", None]
    assert pairs.details == [None, "dns", "l.txt:key", None, "dns", None]
    assert pairs.measures["n"].to_pylist() == [0, 1, None, 2, 1, 3]
    assert pairs.kept_pairs.tolist() == [0, 3, 5]
    images.spool.close()


@pytest.mark.parametrize("images", [[], [0, 1, 2], [3, 1, 3, 2, 1, 1], [0, 0]])
def test_each_image_is_encoded_once_and_in_order(tmp_path: Path, images: list[int]) -> None:
    asked = []

    def encode(wanted):
        for image in wanted:
            asked.append(image)
            yield None if image == 2 else Encoded(b"%d" % image, "jpg", image, image)

    spool = Spool(tmp_path / "spool")
    made = list(encoded_once(images, encode, spool))
    assert asked == list(dict.fromkeys(images))
    assert [one and one.body for one in made] == [None if i == 2 else b"%d" % i for i in images]
    places = [spool.put(body) for body in (b"one", b"", b"three" * 100_000)]
    assert [spool.get(place) for place in reversed(places)] == [b"three" * 100_000, b"", b"one"]
    assert spool.get(spool.put(b"more, after a read")) == b"more, after a read"
    spool.close()


BODY = b"a picture"


@pytest.mark.parametrize("kind", ["md5", "sha256", "sha512"])
def test_a_file_is_the_one_that_is_meant_or_not(kind: str) -> None:
    right = hashlib.new(kind, BODY).hexdigest()
    hashes = [right, f" {right.upper()}\n", right[:-1] + "g", right[:-1], f"{right}0", "", None]
    table = pa.table({CARRIED + "hash": [*hashes, hashlib.new(kind, b"").hexdigest(), right]})
    of_input = InputHashes(kind, "hash", table)
    faults = [of_input.fault(pair, 0, [right]) for pair in range(8)]
    said = ["" if fault is None else fault.detail or "differs" for fault in faults]
    assert said == ["", "", BAD_HASH, BAD_HASH, BAD_HASH, "", "", "differs"]
    assert of_input.present.tolist() == [True] * 5 + [False] * 2 + [True] * 2
    assert of_input.fault(8, 0, [None]) is None  # no file came
    assert of_input.fault(8, None, []) is None  # none was asked for


def test_stored_images_and_pairs_without_the_column_are_not_compared() -> None:
    paths = pa.array(["shards/00000.tar", None], pa.string())
    table = pa.table({CARRIED + "hash": ["0" * 32, "0" * 32], "source_path": paths})
    of_input = InputHashes("md5", "hash", table)
    assert [of_input.fault(n, 0, ["1" * 32]) is None for n in range(2)] == [True, False]
    nothing = InputHashes("md5", "hash", pa.table({"key": [1]}))
    assert nothing.fault(0, 0, ["1" * 32]) is None
