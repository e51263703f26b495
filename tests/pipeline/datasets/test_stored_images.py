"""Images found in tars without reading these."""

import hashlib
import io
import random
import tracemalloc

import pyarrow as pa
import pytest
from PIL import Image

from alignset.pipeline.datasets.stored_images import (
    CHUNK,
    Headers,
    images_in,
    read_image,
    shown_picture,
)
from alignset.transforms.shards.shard_files import TarWriter
from tests.support.hostile_tars import header, padded
from tests.support.picture_files import encoded, photograph
from tests.support.small_sets import image, put, put_shard, put_table


def stored_image(tar: str, key: str) -> bytes | None:
    return dict(images_in(tar, [key])).get(key)


class Counted(io.BytesIO):
    """Counts the bytes that are read."""

    count = 0

    def read(self, size: int | None = -1) -> bytes:
        body = super().read(size)
        self.count += len(body)
        return body


def made_tar(bodies: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    tar = TarWriter(sink)
    for key, body in sorted(bodies.items()):
        tar.add((f"{key}.jpg", body), (f"{key}.json", b"{}"), (f"{key}.txt", b"text"))
    tar.finish()
    return sink.getvalue()


def test_every_image_is_found_and_little_of_a_large_tar_is_read(folder: str):
    own = put_shard(folder, 3, 40)
    path = f"{folder}/shards/00003.tar"
    bodies = dict(images_in(path, [*own, "0" * 16, "f" * 16, own[7][:-1] + "~", ""]))
    assert bodies == {key: image(3, place) for place, key in enumerate(own)}
    for place, key in enumerate(own):
        picture = Image.open(io.BytesIO(shown_picture(bodies[key])))
        assert picture.size == (40 + place, 40)
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    sizes = [0, 1, 511, 512, 513, CHUNK - 1, CHUNK, 3 * CHUNK + 7, 2_000_000]
    bodies = {f"{rng.getrandbits(64):016x}": rng.randbytes(rng.choice(sizes)) for _ in range(60)}
    body = made_tar(bodies)
    for key, expected in bodies.items():
        assert read_image(io.BytesIO(body), len(body), key) == expected
    bodies = {f"{n:016x}": bytes([n % 256]) * 30_000 for n in range(1000)}
    body = made_tar(bodies)
    for key in (min(bodies), f"{500:016x}", max(bodies)):
        source = Counted(body)
        assert read_image(source, len(body), key) == bodies[key]
        assert source.count < len(body) / 10
    source, headers = Counted(body), Headers()
    for key in bodies:
        assert read_image(source, len(body), key, headers) == bodies[key]
    assert source.count < 2 * len(body)  # each chunk once, and each image


def test_what_is_cut_or_no_picture_says_why(folder: str):
    for size in (0, 1, 511, 512, 1000, 10_240, 100_000):
        body = made_tar({"a" * 16: b"x" * 90_000})[:size]
        assert read_image(io.BytesIO(body), len(body), "b" * 16) is None
        noise = random.Random(size).randbytes(size)
        assert read_image(io.BytesIO(noise), size, "a" * 16) is None
        assert read_image(io.BytesIO(b"ustar" * size), 5 * size, "a" * 16) is None
    put(f"{folder}/a.tar", made_tar({"1" * 16: b"<html>", "2" * 16: image(0, 1)[:900]}))
    said = [shown_picture(stored_image(f"{folder}/a.tar", n * 16)) for n in "123"]
    assert said == ["not_an_image: html", "undecodable: truncated", "not found in its shard"]


def test_images_that_pretend_to_be_tars_cost_a_picture_at_most():
    inner = made_tar({"0" * 16: b"x" * 600, "f" * 16: b"y" * 600})
    bodies = {f"{n:016x}": inner for n in range(1, 40)}
    body = made_tar(bodies)
    answers = {read_image(io.BytesIO(body), len(body), key) for key in bodies}
    assert answers <= {inner, None}


def forged(victims: dict[str, bytes], fake: bytes) -> bytes:
    """An image with headers of tars behind its end, as a host may serve it."""
    body = encoded(photograph(5, 900, 700), "JPEG", quality=95)
    body += bytes(-len(body) % 512)
    for key in victims:
        body += (header(f"{key}.jpg".encode(), len(fake)) + padded(fake)) * 60
    return body


@pytest.mark.parametrize("resized", [False, True])
def test_headers_within_an_image_forge_no_other_image(folder: str, resized: bool):
    own = {f"{n * 7919:016x}": encoded(photograph(n, 60, 40), "JPEG") for n in range(1, 40)}
    fake = encoded(photograph(99, 60, 40), "JPEG")
    forger = "0" * 15 + "1"
    bodies = own if resized else own | {forger: forged(own, fake)}
    put(f"{folder}/a.tar", made_tar(bodies))
    digests = [
        hashlib.sha256(body + b"x" * resized).hexdigest() for _, body in sorted(bodies.items())
    ]
    put_table(f"{folder}/a.parquet", pa.table({"key": sorted(bodies), "sha256": digests}))
    if not resized:
        body = made_tar(bodies)
        found = {read_image(io.BytesIO(body), len(body), key) for key in own}
        assert not found <= {*own.values()}, "the headers mislead"
    assert {key: stored_image(f"{folder}/a.tar", key) for key in bodies} == bodies
    assert stored_image(f"{folder}/a.tar", "f" * 16) is None


def test_a_digest_that_all_rows_share_is_not_kept(folder: str):
    keys = [f"{n:016x}" for n in range(300)]
    put(f"{folder}/a.tar", made_tar({keys[0]: b"image"}))
    shared = pa.array(["x" * (1 << 20)]).dictionary_encode().take(pa.array([0] * len(keys)))
    put_table(f"{folder}/a.parquet", pa.table({"key": keys, "sha256": shared}))
    tracemalloc.start()
    try:
        assert stored_image(f"{folder}/a.tar", keys[0]) == b"image"
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
