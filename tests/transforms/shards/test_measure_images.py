"""Images of a shard: measured as they come in any order, judged as columns."""

import hashlib
import io
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagehash
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as PillowImage

from alignset.transforms.decontamination.copy_overlap import CopyMeasure
from alignset.transforms.decontamination.evaluation_index import IMAGE_ROWS, IMAGES, EvaluationIndex
from alignset.transforms.decontamination.overlap_measure import Shown
from alignset.transforms.decontamination.perceptual_overlap import PerceptualMeasure
from alignset.transforms.fetching import fetcher
from alignset.transforms.fetching.body_memory import TakenBytes
from alignset.transforms.fetching.fetch import Fetched, fetch_all
from alignset.transforms.fetching.fetch_settings import FetchSettings
from alignset.transforms.images.examine import Image, Unusable, examine
from alignset.transforms.rules.run_rules import RunRules
from alignset.transforms.shards import measure_images as measure_images_module
from alignset.transforms.shards.evaluation_search import EvaluationSearch
from alignset.transforms.shards.measure_images import (
    judge_images,
    measure_images,
    stored_bodies,
)
from alignset.transforms.shards.score_images import ImageScores
from alignset.transforms.shards.shard_files import Spool
from alignset.transforms.shards.stated_wishes import StatedWishes
from alignset.transforms.wishes.wish_settings import WishSettings
from tests.support.bad_web import BODY, bad_web
from tests.support.grey_pictures import diagram
from tests.support.picture_files import encoded
from tests.support.rules import run_rules

MEASURE = PerceptualMeasure()
RULES = run_rules(max_unsafe_score=1.0)


def scene(seed: int, size: tuple[int, int] = (250, 240)) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)
    picture = PillowImage.fromarray(noise).resize(size, PillowImage.Resampling.BICUBIC)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=80)
    return file.getvalue()


def whole_hash(body: bytes) -> int:
    return int(str(imagehash.phash(PillowImage.open(io.BytesIO(body)))), 16)


def index_of(evaluation: list[int], folder: Path) -> EvaluationIndex | None:
    """An index of images with these perceptual hashes, named by their numbers."""
    if not evaluation:
        return None
    MEASURE.build([np.array(evaluation, np.uint64)], len(evaluation), folder)
    rows = [["exam", str(number), ""] for number in range(len(evaluation))]
    images = pa.table(list(map(list, zip(*rows, strict=True))), schema=IMAGE_ROWS)
    pq.write_table(images, folder / IMAGES)
    return EvaluationIndex(MEASURE, folder)


def judged(
    bodies: Iterable[Fetched],
    evaluation: list[int] | EvaluationIndex,
    folder: Path,
    size: int | None = None,
    rules: RunRules = RULES,
):
    spool = Spool(folder / "spool")
    index = evaluation if isinstance(evaluation, EvaluationIndex) else index_of(evaluation, folder)
    count = len(list(bodies)) if size is None else size
    search = EvaluationSearch(index, count, rules)
    with ImageScores(None, spool, rules) as scores:
        wishes = StatedWishes(WishSettings(), count)
        measured = measure_images(bodies, spool, lambda done: None, scores, search, wishes)
        unsafe = scores.finish(measured.columns, lambda waiting: None)
    result = judge_images(measured, rules, search, spool, unsafe)
    spool.close()
    return measured, result


def test_a_near_image_is_hashed_in_full_before_it_is_judged(tmp_path: Path):
    differing = next(
        body for body in map(scene, range(500)) if examine(body).phash != whole_hash(body)
    )
    measured, result = judged([Fetched(0, differing, None)], [whole_hash(differing)], tmp_path)
    assert result.measures["evaluation_distance"].to_pylist() == [0]
    assert result.measures["evaluation_image"].to_pylist() == ["0"]
    assert result.reasons.to_pylist() == ["evaluation_overlap"]
    assert measured.columns["phash"] == [examine(differing).phash]


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_diagram_with_other_words_is_no_copy(tmp_path: Path, kind: str):
    copies = CopyMeasure()
    bodies = [encoded(PillowImage.fromarray(diagram(words)), kind) for words in (1, 2)]
    image = examine(bodies[0], in_full=True, keep_grey=True)
    assert isinstance(image, Image)
    copies.build([copies.features([Shown(bodies[0], image, in_full=True)])], 1, tmp_path)
    images = pa.table([["exam"], ["0"], [""]], schema=IMAGE_ROWS)
    pq.write_table(images, tmp_path / IMAGES)
    _, result = judged(
        [Fetched(row, body, None) for row, body in enumerate(bodies)],
        EvaluationIndex(copies, tmp_path),
        tmp_path,
        rules=run_rules(min_evaluation_distance=copies.min_distance),
    )
    assert result.reasons.to_pylist() == ["evaluation_overlap", None]


def test_images_come_in_any_order_and_each_keeps_its_row(tmp_path: Path):
    good, small = scene(1), scene(2, (240, 200))
    long = scene(3, (603, 201))
    bodies = [
        Fetched(4, long, None),
        Fetched(0, good, None),
        Fetched(3, b"<html>", None),
        Fetched(1, None, "http_404"),
        Fetched(2, small, None),
        Fetched(5, good[:-900], None),
    ]
    measured, result = judged(bodies, [], tmp_path)
    assert result.reasons.to_pylist() == [
        None,
        "fetch_failed",
        "too_small",
        "not_an_image",
        "too_elongated",
        "undecodable",
    ]
    assert [*result.measures] == ["unsafe_score"]
    assert result.measures["unsafe_score"].null_count == 6
    assert measured.columns["detail"][1] == "http_404"
    assert measured.columns["sha256"][0] == hashlib.sha256(good).hexdigest()
    assert measured.bytes_fetched == sum(len(b.body or b"") for b in bodies)


def test_what_is_dropped_for_its_size_is_not_searched_for(tmp_path: Path):
    small, good = scene(2, (240, 200)), scene(1)
    bodies = [Fetched(0, small, None), Fetched(1, good, None), Fetched(2, None, "dns")]
    near = [whole_hash(small), whole_hash(good) ^ 0b111]
    _, result = judged(bodies, near, tmp_path)
    assert result.reasons.to_pylist() == ["too_small", None, "fetch_failed"]
    assert result.measures["evaluation_distance"].to_pylist() == [None, 3, None]
    assert result.measures["evaluation_image"].to_pylist() == [None, "1", None]


def test_no_images_at_all(tmp_path: Path):
    assert judged([], [1], tmp_path)[1].reasons.to_pylist() == []


def test_stored_images_are_read_back_in_any_order(tmp_path: Path):
    bodies = {"a": b"0123456789", "b": b"abcdefghij"}
    for name, body in bodies.items():
        (tmp_path / name).write_bytes(body)
    places = [("b", 4, 3), ("a", 0, 10), ("b", 0, 2), ("a", 9, 1), ("b", 3, 0)]
    table = pa.table(
        {
            "source_path": [str(tmp_path / name) for name, _, _ in places],
            "source_at": [at for _, at, _ in places],
            "source_size": [size for _, _, size in places],
        }
    )
    read = {fetched.index: fetched.body for fetched in stored_bodies(table, 10)}
    assert read == {n: bodies[name][at : at + size] for n, (name, at, size) in enumerate(places)}


def test_a_stored_image_that_is_too_large_is_not_read(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"0123")
    columns = {"source_path": [str(tmp_path / "a")] * 2, "source_at": [0, 0]}
    table = pa.table({**columns, "source_size": [4, 5]})
    small, large = stored_bodies(table, 4)
    assert small == Fetched(0, b"0123", None)
    assert large == Fetched(1, None, "too_large")


def test_a_stored_image_that_is_there_no_more_costs_itself(tmp_path: Path):
    (tmp_path / "b").write_bytes(b"0123")
    paths = [str(tmp_path / name) for name in ("a", "b", "b", "c")]
    table = pa.table({"source_path": paths, "source_at": [0, 2, 2, 0], "source_size": [4, 2, 3, 1]})
    assert list(stored_bodies(table, 10)) == [
        Fetched(0, None, "input_gone"),
        Fetched(1, b"23", None),
        Fetched(2, None, "input_gone"),
        Fetched(3, None, "input_gone"),
    ]


def test_bodies_that_are_not_looked_at_count_over_all_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Six shards whose images nobody comes to look at: the fetcher asks for no more than it may
    hold, whatever their number, and counts nothing once they are done."""
    looked = threading.Event()

    def examined(*_: object, **__: object) -> Unusable:
        looked.wait()
        return Unusable("not_an_image", "")

    monkeypatch.setattr(measure_images_module, "examine", examined)
    monkeypatch.setattr(measure_images_module, "BYTES_AT_ONCE", len(BODY))
    most = 24 * len(BODY)
    monkeypatch.setattr(fetcher, "memory_for_bodies", lambda: most)
    how = FetchSettings(
        robots_txt=False, allow_private_addresses=True, max_image_bytes=len(BODY), contact="six"
    )

    def measured(shard: int) -> int:
        bodies = fetch_all([f"{web.url}/ok"] * 40, how)
        (tmp_path / str(shard)).mkdir()
        return judged(bodies, [], tmp_path / str(shard), 40)[0].bytes_fetched

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
