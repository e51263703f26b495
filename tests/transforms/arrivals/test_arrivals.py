"""Images of a shard: looked at as they come in any order, compared with lists, and judged."""

import hashlib
import sys
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import simplejpeg
from PIL import Image as PillowImage
from PIL import PngImagePlugin

from alignset.transforms.arrivals import arrivals as arrivals_module
from alignset.transforms.arrivals.arrivals import EvaluationSearch, Thumbnails, blocked_by, take_in
from alignset.transforms.arrivals.images import Images
from alignset.transforms.arrivals.stored_images import stored_bodies
from alignset.transforms.blocklists.blocklists import NO_LISTS, Blocklists
from alignset.transforms.blocklists.compiled_list import compile_images, compile_list
from alignset.transforms.decontamination.copy_index import Nearest, build_copy_index
from alignset.transforms.decontamination.copy_thumbnails import stack_thumbnails
from alignset.transforms.decontamination.evaluation_index import IMAGE_ROWS, IMAGES, EvaluationIndex
from alignset.transforms.fetching import fetcher
from alignset.transforms.fetching.connection_limit import TakenBytes
from alignset.transforms.fetching.fetch_settings import FetchSettings
from alignset.transforms.fetching.fetcher import fetch_all
from alignset.transforms.fetching.orders import Fetched
from alignset.transforms.images.examine import Image, Unusable, examine
from alignset.transforms.safety.model_files import UnsafeModel, describe_model
from alignset.transforms.shards.build_shard import judge
from tests.support.bad_web import BODY, bad_web
from tests.support.made_images import image_settings, pairs_of
from tests.support.onnx_files import write_model
from tests.support.picture_files import encoded, photograph
from tests.transforms.decontamination.test_evaluation_index import looks, made

SETTINGS = image_settings(max_unsafe_score=1.0)


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
    lists: Blocklists = NO_LISTS,
    model: UnsafeModel | None = None,
    **settings: Any,
) -> tuple[Images, pa.Table]:
    """The images, and their pairs with the verdicts of the rules."""
    images = Images(len(list(bodies)) if size is None else size, folder)
    how = replace(SETTINGS, **settings)
    take_in(bodies, images, how, lists, model, index, lambda done: None)
    images.spool.close()
    return images, judge(pairs_of(images, how, index), how)


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
    images, pairs = judged(came, index, tmp_path, lists=found, model=model, duplicates="near")
    assert len(decodes) == len(bodies)
    assert pairs["evaluation_distance"][0].as_py() == 0
    blocked = ["evaluation_overlap", "blocked", None, "blocked", "blocked"]
    assert pairs["reason"].to_pylist() == blocked
    assert pairs["unsafe_score"].null_count == 3
    assert images["thumbnails"].count(None) == 3


def test_what_crashed_is_not_decoded_and_what_is_too_small_is_not_searched_for(tmp_path: Path):
    good, small = scene(1), scene(2, (240, 200))
    bodies = [Fetched(0, good, None), Fetched(1, small, None), Fetched(2, good, "crashed_decoder")]
    rules = {"max_unsafe_score": 1.0, "min_evaluation_distance": 0.0}
    _, pairs = judged(bodies, index_of([small, good], tmp_path), tmp_path, **rules)
    assert pairs["detail"].to_pylist() == [None, None, "crashed_decoder"]
    assert pairs["evaluation_image"].to_pylist() == ["1", None, None]


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


# The nearest evaluation images of a shard's images, which several threads bring.


def nearest_of(index: EvaluationIndex | None, image: Image, folder: Path) -> Nearest | None:
    images = Images(1, folder)
    search = EvaluationSearch(index, images)
    search.add({0: image})
    search.finish()
    return images["nearest"][0]


def test_images_of_several_threads_are_searched_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = EvaluationIndex(Path(made(tmp_path)))
    images = looks(6)  # the index has three of them
    alone = [nearest_of(index, image, tmp_path) for image in images]
    assert [near and near.row for near in alone[:3]] == [0, 1, 2]
    sizes = list[int]()

    def nearest(thumbnails: Thumbnails) -> list[Nearest | None]:
        sizes.append(len(thumbnails))
        return EvaluationIndex.nearest(index, thumbnails)

    monkeypatch.setattr(index, "nearest", nearest)
    found = Images(700, tmp_path)
    search = EvaluationSearch(index, found)
    groups = [range(first, first + 10) for first in range(0, 600, 10)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda rows: search.add({r: images[r % 6] for r in rows}), groups))
    search.add({})
    search.finish()
    assert found["nearest"] == alone * 100 + [None] * 100, "the last rows have no images"
    assert sum(sizes) == 600
    assert len(sizes) < 10  # of 60 groups: twice 256, which four threads may see, and the rest


def test_nothing_is_near_without_an_index(tmp_path: Path) -> None:
    assert [nearest_of(None, image, tmp_path) for image in looks(2)] == [None, None]


def test_stored_images_are_read_in_any_order_and_what_is_gone_costs_itself(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"0123456789")
    (tmp_path / "b").write_bytes(b"abcdefghij")
    places = [("b", 4, 3), ("a", 0, 10), ("b", 0, 2), ("a", 9, 1), ("b", 3, 0)]
    places += [("b", 8, 3), ("none", 0, 1), ("a", 0, 11), ("a", -1, 0)]
    columns = {
        "source_path": [str(tmp_path / name) for name, _, _ in places],
        "source_at": [at for _, at, _ in places],
        "source_size": [size for _, _, size in places],
    }
    bodies = sorted(stored_bodies(pa.table(columns), 10), key=lambda fetched: fetched.index)
    assert bodies == [
        *(
            Fetched(row, body, None)
            for row, body in enumerate([b"efg", b"0123456789", b"ab", b"9", b""])
        ),
        Fetched(5, None, "input_gone"),
        Fetched(6, None, "input_gone"),
        Fetched(7, None, "too_large"),
        Fetched(8, None, "sparse_or_link"),
    ]
