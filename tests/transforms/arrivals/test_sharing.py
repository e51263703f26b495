"""Pairs that share an image: which they are, what becomes of each, and that it is encoded once."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from alignset.transforms.arrivals.images import (
    Images,
    Spool,
    bad_hashes,
    input_hashes,
    shared_images,
)
from alignset.transforms.blocklists.blocklists import NO_LISTS, Blocklists
from alignset.transforms.blocklists.compiled_list import compile_list
from alignset.transforms.columns.carried import CARRIED
from alignset.transforms.images.resize_settings import Encoded
from alignset.transforms.opt_outs.host_statements import recorded_requests
from alignset.transforms.shards.build_shard import join_images, listed, note_pages
from alignset.transforms.shards.shard_samples import encoded_once
from tests.support.rules import run_rules

URLS = ["http://a/1", "http://a/2", "HTTP://A/1#x", "http://a/3", "http://a/2", "http://a/1?"]


@pytest.mark.parametrize(
    ("urls", "wanted", "stored", "rows", "of_pairs"),
    [
        (URLS, [True] * 6, None, [0, 1, 3, 5], [0, 1, 0, 2, 1, 3]),
        (URLS, [False, True, True, False, True, False], None, [1, 2], [-1, 0, 1, -1, 0, -1]),
        # Each stored image is its pair's own; a pair without one gets the first of its URL.
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
    assert images.rows.tolist() == rows
    assert images.of_pairs.fill_null(-1).to_pylist() == of_pairs


def test_a_pair_has_the_end_of_its_image_or_its_own(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text(f"key:{2:016x}\n")
    table = pa.table({"key": np.arange(6, dtype=np.uint64), "url": URLS, "caption": ["a"] * 6})
    lists = Blocklists(
        (replace(compile_list(str(tmp_path / "l.txt"), str(tmp_path)), name="l.txt"),)
    )
    pairs = listed(table, run_rules(), lists)
    shared = shared_images(pairs, pairs["reason"].is_null().to_numpy())
    images = Images(len(shared.rows), tmp_path)
    images.drop(1, "fetch_failed", "dns")
    images.drop(1, "undecodable", "truncated")  # the first end stays
    images.note(3, opted_out="c2pa")
    pairs = join_images(pairs, images, shared, None)
    reasons = [None, "fetch_failed", "blocked", None, "fetch_failed", None]
    assert pairs["reason"].to_pylist() == reasons
    assert pairs["detail"].to_pylist() == [None, "dns", "l.txt:key", None, "dns", None]
    assert pairs["image"].to_pylist() == [0, 1, None, 2, 1, 3]
    assert pairs["opted_out"].to_pylist() == [None] * 5 + ["c2pa"]
    images.spool.close()


@pytest.mark.parametrize("count", [50, 100])
def test_an_image_has_few_licences_of_pages(tmp_path: Path, count: int) -> None:
    pages = [f"http://page.example/{number}" for number in range(count)]
    files = [f"http://page.example/rsl{number // 4}" for number in range(count)]
    pairs = pa.table({"url": ["http://a/1"] * count, "page_url": pages, "source_rsl": files})
    note_pages(images := Images(1, tmp_path), pairs, shared_images(pairs, np.ones(count, bool)))
    ((*_, (*_, named)),) = [[*recorded_requests("http://a/1", text)] for text in images["pages"]]
    assert len({file.url for file in named}) == 8
    assert len({file.by for file in named}) == 16


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
def test_a_file_is_the_one_that_is_meant_or_not(tmp_path: Path, kind: str) -> None:
    right = hashlib.new(kind, BODY).hexdigest()
    wrong = hashlib.new(kind, b"").hexdigest()
    hashes = [right, f" {right.upper()}\n", right[:-1] + "g", right[:-1], f"{right}0", "", None]
    # Then: another file, none that came, stored in a shard of the input, and at its URL.
    hashes += [wrong, wrong, wrong, wrong]
    urls = [f"http://a/{n}" for n in range(10)] + ["http://a/9"]
    paths = [None] * 9 + ["shards/00000.tar", None]
    pairs = pa.table({"key": pa.array(range(11), pa.uint64()), "url": urls, "caption": urls})
    pairs = pairs.append_column("source_path", pa.array(paths, pa.string()))
    pairs = pairs.append_column("source_size", pa.array([0] * 9 + [9, 0], pa.int64()))
    pairs = pairs.append_column(CARRIED + "hash", pa.array(hashes))
    pairs = listed(pairs, run_rules(verify_hash=f"{kind}=hash"), NO_LISTS)
    shared = shared_images(pairs, pairs["reason"].is_null().to_numpy())
    images = Images(len(shared.rows), tmp_path)
    for image in {*range(len(shared.rows))} - {shared.of_pairs[8].as_py()}:
        images.note(image, digest=right)
    pairs = join_images(pairs, images, shared, None)
    said = [
        detail or reason or ""
        for reason, detail in zip(
            *(pairs[name].to_pylist() for name in ("reason", "detail")), strict=True
        )
    ]
    assert said == ["", "", *["bad_hash"] * 3, "", "", "hash_mismatch", "", "", ""]
    images.spool.close()
    none = input_hashes(pa.table({"key": [1]}), (kind, "hash"))
    assert none.to_pylist() == [None]
    assert bad_hashes(none, (kind, "hash")).to_pylist() == [False]
