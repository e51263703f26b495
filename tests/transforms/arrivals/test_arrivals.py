"""Images of a shard: looked at as they come in any order, compared with lists, and judged."""

import hashlib
import io
import sys
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import imagehash
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import simplejpeg
from PIL import Image as PillowImage
from PIL import PngImagePlugin

from alignset.transforms.arrivals import arrivals as arrivals_module
from alignset.transforms.arrivals.arrivals import blocked_by, take_in
from alignset.transforms.arrivals.images import Images
from alignset.transforms.blocklists.blocklists import Blocklists
from alignset.transforms.blocklists.compiled_list import compile_images, compile_list
from alignset.transforms.decontamination.copy_index_files import build_copy_index
from alignset.transforms.decontamination.copy_thumbnails import stack_thumbnails
from alignset.transforms.decontamination.evaluation_index import IMAGE_ROWS, IMAGES, EvaluationIndex
from alignset.transforms.fetching import fetcher
from alignset.transforms.fetching.body_memory import TakenBytes
from alignset.transforms.fetching.fetch import Fetched, fetch_all
from alignset.transforms.fetching.fetch_settings import FetchSettings
from alignset.transforms.images.examine import Image, Unusable, examine
from alignset.transforms.rules.rule_settings import RuleSettings
from alignset.transforms.safety.model_files import describe_model
from alignset.transforms.shards.build_shard import judge
from tests.support.bad_web import BODY, bad_web
from tests.support.made_images import pairs_of, shard_settings
from tests.support.onnx_files import write_model
from tests.support.picture_files import encoded, photograph
from tests.support.rules import run_rules

RULES = run_rules(max_unsafe_score=1.0)
KEEPING = run_rules(max_unsafe_score=1.0, min_evaluation_distance=0.0)


def scene(seed: int, size: tuple[int, int] = (250, 240)) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)
    picture = PillowImage.fromarray(noise).resize(size, PillowImage.Resampling.BICUBIC)
    return encoded(picture, "JPEG", quality=80)


def looked_at(body: bytes) -> Image:
    image = examine(body, keep_grey=True, keep_picture=True)
    assert isinstance(image, Image)
    return image


def index_of(bodies: list[bytes], folder: Path) -> EvaluationIndex:
    """An index of images, named by their numbers."""
    build_copy_index([stack_thumbnails([looked_at(body) for body in bodies])], folder)
    rows = [["exam", str(number), ""] for number in range(len(bodies))]
    images = pa.table(list(map(list, zip(*rows, strict=True))), schema=IMAGE_ROWS)
    pq.write_table(images, folder / IMAGES)
    return EvaluationIndex(folder)


def judged(
    bodies: Iterable[Fetched],
    index: EvaluationIndex | None,
    folder: Path,
    size: int | None = None,
    rules: RuleSettings = RULES,
    **settings: Any,
) -> tuple[Images, pa.Table]:
    """The images, and their pairs with the verdicts of the rules."""
    images = Images(len(list(bodies)) if size is None else size, folder)
    how = shard_settings(rules, **settings)
    take_in(bodies, images, how, index, lambda done: None)
    images.spool.close()
    return images, judge(pairs_of(images, how, index), rules)


def test_each_image_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a score, looks, lists of hashes and of images, and a nearest evaluation image."""
    bodies = [scene(n) for n in range(3)] + [encoded(photograph(4), "PNG"), scene(1)]
    decodes = []
    decode, load = simplejpeg.decode_jpeg, PngImagePlugin.PngImageFile.load_prepare
    monkeypatch.setattr(
        simplejpeg, "decode_jpeg", lambda *args, **how: decodes.append(1) or decode(*args, **how)
    )
    index = index_of(bodies[:1], tmp_path)
    (tmp_path / "listed.png").write_bytes(bodies[3])
    found = Blocklists(
        (
            compile_images(str(tmp_path / "listed.png"), str(tmp_path)),
            *lists(tmp_path, f"phash:{looked_at(bodies[1]).phash:016x}").lists,
        )
    )
    decodes.clear()
    monkeypatch.setattr(
        PngImagePlugin.PngImageFile, "load_prepare", lambda file: decodes.append(1) or load(file)
    )
    model = describe_model(str(write_model(tmp_path)))
    came = [Fetched(row, body, None) for row, body in enumerate(bodies)]
    how = {"unsafe_model": model, "looks": True, "blocklists": found}
    images, pairs = judged(came, index, tmp_path, **how)
    assert len(decodes) == len(bodies)
    assert pairs["evaluation_distance"][0].as_py() == 0
    blocked = ["evaluation_overlap", "blocked", None, "blocked", "blocked"]
    assert pairs["reason"].to_pylist() == blocked
    assert pairs["unsafe_score"].null_count == 3
    assert images["planes"].count(None) == 3


def test_images_come_in_any_order_and_each_keeps_its_row(tmp_path: Path):
    good, small = scene(1), scene(2, (240, 200))
    bodies = [
        Fetched(4, scene(3, (603, 201)), None),
        Fetched(0, good, None),
        Fetched(3, b"<html>", None),
        Fetched(1, None, "http_404"),
        Fetched(2, small, None),
        Fetched(5, good[:-900], None),
        Fetched(6, good, "crashed_decoder"),
    ]
    images, pairs = judged(bodies, index_of([small, good], tmp_path), tmp_path, rules=KEEPING)
    assert list(zip(*(pairs[name].to_pylist() for name in ("reason", "detail")), strict=True)) == [
        (None, None),
        ("fetch_failed", "http_404"),
        ("too_small", None),
        ("not_an_image", "html"),
        ("too_elongated", None),
        ("undecodable", "truncated"),
        ("undecodable", "crashed_decoder"),
    ]
    assert pairs["unsafe_score"].null_count == 7
    # What is dropped for its size is not searched for.
    assert pairs["evaluation_distance"].to_pylist() == [0, *[None] * 6]
    assert pairs["evaluation_image"].to_pylist() == ["1", *[None] * 6]
    assert images["sha256"][0] == hashlib.sha256(good).hexdigest()
    assert images.bytes_fetched == sum(len(body.body or b"") for body in bodies)


def test_a_failure_of_ours_ends_the_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Images, "put", full)
    with pytest.raises(OSError, match="no space left"):
        judged([Fetched(row, scene(1), None) for row in range(200)], None, tmp_path)


def test_bodies_that_are_not_looked_at_count_over_all_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Six shards whose images nobody comes to look at: the fetcher asks for no more than it may
    hold, whatever their number, and counts nothing once they are done."""
    looked = threading.Event()

    def examined(*_: object, **__: object) -> Unusable:
        looked.wait()
        return Unusable("not_an_image", "")

    monkeypatch.setattr(arrivals_module, "examine", examined)
    monkeypatch.setattr(arrivals_module, "BYTES_AT_ONCE", len(BODY))
    most = 24 * len(BODY)
    monkeypatch.setattr(fetcher, "memory_for_bodies", lambda: most)
    how = FetchSettings(
        robots_txt=False, allow_private_addresses=True, max_image_bytes=len(BODY), contact="six"
    )

    def measured(shard: int) -> int:
        bodies = fetch_all([f"{web.url}/ok"] * 40, how)
        (tmp_path / str(shard)).mkdir()
        return judged(bodies, None, tmp_path / str(shard), 40)[0].bytes_fetched

    before = TakenBytes.of_all
    with bad_web() as web, ThreadPoolExecutor(6) as pool:
        shards = [pool.submit(measured, shard) for shard in range(6)]
        try:
            while len(web.heads) * len(BODY) < most // 4:
                time.sleep(0.01)
            asked = 0
            while asked < len(web.heads):  # until nothing more begins
                asked = len(web.heads)
                time.sleep(0.5)
        finally:
            looked.set()
        assert [shard.result() for shard in shards] == [40 * len(BODY)] * 6
    # Half of the memory, what was under way when that was full, and each shard's unfinished group.
    assert asked * len(BODY) <= most // 2 + (how.connections_per_host + 6) * len(BODY)
    assert TakenBytes.of_all == before


def lists(folder: Path, *entries: str) -> Blocklists:
    (folder / "l.txt").write_text("\n".join(entries))
    compiled = compile_list(str(folder / "l.txt"), str(folder))
    return Blocklists((replace(compiled, name="l.txt"),))


def list_of(found: Blocklists, body: bytes) -> str | None:
    return blocked_by(found, body, hashlib.sha256(body).digest(), looked_at(body))


PHOTO = encoded(photograph(1, 600, 400), "JPEG")


@pytest.mark.parametrize("size", [(1200, 800), (600, 400), (60, 40)])
def test_a_list_knows_an_image_by_the_hash_that_others_have_of_it(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    body = encoded(photograph(3, *size), "JPEG")
    whole = imagehash.phash(PillowImage.open(io.BytesIO(body)))
    found = lists(tmp_path, f"phash:{whole}")
    assert list_of(found, body) == "l.txt:phash"
    off = (int(str(whole), 16) ^ looked_at(body).phash).bit_count()
    assert off <= 4
    nearer = Blocklists(found.lists, min_phash_distance=off)
    assert list_of(nearer, body) is None
    assert list_of(found, encoded(photograph(2, *size), "PNG")) is None


def test_pdq_is_computed_where_a_list_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def compute(pixels: np.ndarray) -> tuple[list[int], int]:
        calls.append(pixels)
        return [1] * 31 + [0] * 225, 100

    monkeypatch.setitem(sys.modules, "pdqhash", SimpleNamespace(compute=compute))
    assert list_of(lists(tmp_path, f"pdq:{'0' * 64}"), PHOTO) == "l.txt:pdq"  # 31 bits
    assert list_of(lists(tmp_path, f"pdq:{'0' * 63}1"), PHOTO) is None
    assert list_of(lists(tmp_path, "host:a.example"), PHOTO) is None
    assert len(calls) == 2
