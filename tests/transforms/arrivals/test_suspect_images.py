"""Images of a suspect shard: decoded in children before, in each way in which the shard does."""

import logging
import pickle
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from threading import Event

import pyarrow as pa
import pytest
import simplejpeg
from PIL import ImageFile

from alignset.pipeline.settings import Settings
from alignset.transforms.arrivals.arrivals import screened
from alignset.transforms.blocklists.blocklists import NO_LISTS
from alignset.transforms.fetching.orders import Fetched
from alignset.transforms.images import try_decoders
from alignset.transforms.images.resize_settings import ResizeSettings
from alignset.transforms.images.try_decoders import crashes, decode_all_ways
from alignset.transforms.safety.model_files import UnsafeModel, describe_model
from alignset.transforms.shards.build_shard import build_shard
from alignset.transforms.workers.limited_process import CHECKED, Limits
from tests.support.disturbances import FOLDER
from tests.support.disturbed.sitecustomize import MARK
from tests.support.made_images import image_settings
from tests.support.onnx_files import write_model
from tests.support.picture_files import encoded, photograph

PLAIN = ResizeSettings()
RESIZED = ResizeSettings(resize_mode="border", image_size=40)


def test_one_that_crashes_has_a_detail_and_its_url_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(FOLDER)  # by which children crash at the mark
    ended, end = [], CHECKED.end_idle
    monkeypatch.setattr(CHECKED, "end_idle", lambda: ended.append(end()))
    jpeg = encoded(photograph(1), "JPEG")
    cut, html, webp = jpeg[:500] + MARK[:1], b"<html>", encoded(photograph(1), "WEBP")
    bodies = [jpeg, jpeg + MARK, None, cut, html, b"", webp + MARK, *[jpeg] * 9]
    came = [Fetched(row, body, None if body else "dns") for row, body in enumerate(bodies)]
    urls = [f"http://a.example/{row}" for row in range(len(came))]
    with caplog.at_level(logging.WARNING):
        came = list(screened(iter(came), urls, PLAIN))
    assert [arrival.body for arrival in came] == bodies
    details = {arrival.index: arrival.detail for arrival in came if arrival.detail}
    assert details == {1: "crashed_decoder", 2: "dns", 5: "dns"}
    assert caplog.messages == ["a decoder crashes at http://a.example/1: please report it"]
    assert len(ended) == 1


def test_one_that_keeps_its_decoder_busy_crashes_it(monkeypatch: pytest.MonkeyPatch):
    # It takes 0.3 CPU-s: some systems look at a process's CPU time each 10 ms, or later.
    body = encoded(photograph(1, 6000, 5000), "JPEG")
    assert not crashes(body, PLAIN)
    monkeypatch.setattr(try_decoders, "AMPLE", Limits(0.001, 1 << 33))
    assert crashes(body, PLAIN)


@pytest.mark.parametrize("resize", [PLAIN, RESIZED], ids=["as they came", "resized"])
def test_all_that_a_shard_decodes_is_decoded(
    resize: ResizeSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """With scores, looks and thumbnails: by each library, at each scale."""
    decodes: set[tuple[object, ...]] = set()
    decode, load = simplejpeg.decode_jpeg, ImageFile.ImageFile.load

    def decode_jpeg(body: bytes, colours: str, **how: bool) -> object:
        pixels = decode(body, colours, **how)
        decodes.add((colours, pixels.shape, how["fastdct"]))
        return pixels

    def load_file(file: ImageFile.ImageFile) -> object:
        decodes.add(("Pillow", file.size))
        return load(file)

    monkeypatch.setattr(simplejpeg, "decode_jpeg", decode_jpeg)
    monkeypatch.setattr(ImageFile.ImageFile, "load", load_file)
    model = describe_model(str(write_model(tmp_path)))
    rules = {"min_image_side": 90, "max_unsafe_score": 1.0, "duplicates": "near", "thumbnails": 8}
    settings = image_settings(**rules, **asdict(resize))
    sides = [(2000, 1800), (901, 700), (420, 333), (240, 180), (150, 100), (1600, 400)]
    kinds = "JPEG", "JPEG", "PNG", "GIF", "JPEG", "JPEG"  # the last is too long: an example
    bodies = [
        encoded(photograph(row, *size), kind)
        for row, (size, kind) in enumerate(zip(sides, kinds, strict=True))
    ]
    _build(bodies, settings, model, tmp_path)
    of_shard = set(decodes)
    decodes.clear()
    for body in bodies:
        decode_all_ways(pickle.dumps((body, resize)))
    assert of_shard - decodes == set()
    assert {("RGB", (225, 250, 3), False), ("Pillow", (420, 333))} <= of_shard


def _build(bodies: Sequence[bytes], settings: Settings, model: UnsafeModel, folder: Path) -> None:
    (folder / "images").write_bytes(b"".join(bodies))
    sizes = [len(body) for body in bodies]
    pairs = {
        "key": pa.array(range(len(bodies)), pa.uint64()),
        "url": [f"http://a.example/{row}" for row in range(len(bodies))],
        "caption": ["" for _ in bodies],
        "page_url": pa.nulls(len(bodies), pa.string()),
        "source_path": [str(folder / "images")] * len(bodies),
        "source_at": pa.array([sum(sizes[:row]) for row in range(len(bodies))], pa.int64()),
        "source_size": pa.array(sizes, pa.int64()),
    }
    stats = build_shard(
        *(0, pa.table(pairs), settings, NO_LISTS, model, (), None),
        *(folder, lambda _: None, Event()),
    )
    assert stats.successes == 5
