"""Pairs that share an image: which they are, and that it is encoded once."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from alignset.transforms.images.resize_settings import Encoded
from alignset.transforms.shards.shard_files import Spool
from alignset.transforms.shards.shared_images import encoded_once, shared_images

URLS = ["http://a/1", "http://a/2", "HTTP://A/1#x", "http://a/3", "http://a/2", "http://a/1?"]


def test_pairs_of_one_identity_share_an_image() -> None:
    pairs = pa.table({"url": URLS})
    images = shared_images(pairs, np.ones(6, np.bool_))
    assert images.rows.tolist() == [0, 1, 3, 5]
    assert images.of_pairs.tolist() == [0, 1, 0, 2, 1, 3]
    column = pa.array(["a", None, "c", "d"])
    assert images.spread(column).to_pylist() == ["a", None, "a", "c", None, "d"]


def test_what_is_not_wanted_is_not_asked_for() -> None:
    wanted = np.array([False, True, True, False, True, False])
    images = shared_images(pa.table({"url": URLS}), wanted)
    assert images.rows.tolist() == [1, 2]
    assert images.of_pairs.tolist() == [-1, 0, 1, -1, 0, -1]
    assert images.spread(pa.array([7, 8])).to_pylist() == [None, 7, 8, None, 7, None]


def test_a_stored_image_is_its_pairs_own() -> None:
    stored = ["x.tar", None, "x.tar", None, None, None]
    images = shared_images(pa.table({"url": URLS, "source_path": stored}), np.ones(6, np.bool_))
    assert images.rows.tolist() == [0, 1, 2, 3, 5]
    assert images.of_pairs.tolist() == [0, 1, 2, 3, 1, 4]


def test_no_pairs() -> None:
    images = shared_images(pa.table({"url": pa.array([], pa.string())}), np.zeros(0, np.bool_))
    assert len(images.rows) == len(images.of_pairs) == 0


@pytest.mark.parametrize("images", [[], [0, 1, 2], [3, 1, 3, 2, 1, 1], [0, 0]])
def test_each_image_is_encoded_once_and_in_order(tmp_path: Path, images: list[int]) -> None:
    asked = []

    def encode(wanted):
        for image in wanted:
            asked.append(image)
            yield None if image == 2 else Encoded(b"%d" % image, "jpg", image, image)

    spool = Spool(tmp_path / "spool")
    made = list(encoded_once(images, encode, spool))
    spool.close()
    assert asked == list(dict.fromkeys(images))
    assert [one and one.body for one in made] == [None if i == 2 else b"%d" % i for i in images]
