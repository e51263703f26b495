import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from alignset.transforms.fetching.fetch import Fetched, FetchSettings
from alignset.transforms.images import resize
from alignset.transforms.images.resize import ResizeSettings
from alignset.transforms.shards import arrivals, dropped_thumbnails
from alignset.transforms.shards.shard_settings import ShardSettings
from alignset.transforms.shards.suspect_images import (
    BYTES_AT_ONCE,
    IMAGES_AT_ONCE,
    build_alone,
    tried,
)
from tests.support.picture_files import encoded, photograph
from tests.support.rules import run_rules


class Trial:
    """In which bodies that are bad are lethal."""

    def __init__(self) -> None:
        self.groups: list[int] = []

    def lethal(self, bodies: Sequence[bytes]) -> set[int]:
        self.groups.append(len(bodies))
        return {at for at, body in enumerate(bodies) if body == b"bad"}


def test_one_that_is_lethal_has_a_detail_and_its_url_is_logged(caplog: pytest.LogCaptureFixture):
    bodies: list[bytes | None] = [b"good", b"bad", None, *[b"good"] * IMAGES_AT_ONCE]
    came = [Fetched(n, body, None if body else "dns") for n, body in enumerate(bodies)]
    urls = [f"http://a.example/{n}" for n in range(len(came))]
    trial = Trial()
    with caplog.at_level(logging.WARNING):
        given = sorted(tried(came, urls, trial), key=lambda fetched: fetched.index)
    assert [fetched.body for fetched in given] == bodies
    details = {fetched.index: fetched.detail for fetched in given if fetched.detail}
    assert details == {1: "crashed_decoder", 2: "dns"}
    assert trial.groups == [IMAGES_AT_ONCE, 2]
    assert caplog.messages == ["a decoder crashes at http://a.example/1: please report it"]


def test_large_ones_are_tried_in_smaller_groups():
    trial = Trial()
    came = [Fetched(n, bytes(BYTES_AT_ONCE // 2), None) for n in range(5)]
    assert list(tried(came, [""] * 5, trial)) == came
    assert trial.groups == [3, 2]


def test_all_that_a_shard_decodes_is_decoded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Where a shard is built, and nowhere else: so what it will decode one day is decoded too."""
    called = set()

    def spy(module: object, name: str) -> None:
        function = getattr(module, name)

        def noted(*args: object, **more: object) -> object:
            called.add(name)
            return function(*args, **more)

        monkeypatch.setattr(module, name, noted)

    spy(arrivals, "examine")
    spy(dropped_thumbnails, "thumbnail")
    spy(resize, "_resizer")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    rules = run_rules(min_image_side=90, max_unsafe_score=1.0)
    how = FetchSettings(), ResizeSettings(resize_mode="border")
    settings = ShardSettings(rules, *how, thumbnails=8)
    bodies = [encoded(photograph(1), "JPEG"), encoded(photograph(2), "GIF"), b"<html>", b""]
    bodies.append(encoded(photograph(3, 60, 120), "JPEG"))  # too small: an example
    build_alone(bodies, settings, "")
    assert called == {"examine", "thumbnail", "_resizer"}
    assert list(tmp_path.iterdir()) == []
