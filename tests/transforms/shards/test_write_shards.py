"""Shards on disk: tar, Parquet and stats say the same, and the images are those served."""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec import UNSET
from PIL import Image as PillowImage

from alignset.transforms.arrivals.shard_settings import ShardSettings
from alignset.transforms.fetching.fetch_settings import FetchSettings
from alignset.transforms.images.resize_settings import ResizeSettings
from alignset.transforms.rules.catalogue import PRODUCT
from alignset.transforms.shards.build_shard import REJECTS, RESPONSES_FILE, SIDECAR, TAR, places_of
from alignset.transforms.shards.plan_shards import plan_path, write_plan
from alignset.transforms.shards.shard_files import SHARD_SCHEMA
from alignset.transforms.shards.shard_places import HOLDOUT
from alignset.transforms.shards.shards_under_way import Beginning
from alignset.transforms.shards.write_shards import (
    PATIENCE_S,
    POLL_S,
    ShardDoFn,
    ShardWriter,
    take_over,
)
from alignset.transforms.workers.attempts import DONE, Attempt
from tests.support.agreement import check_dataset
from tests.support.command import manifest, samples, succeed
from tests.support.golden_run import Golden
from tests.support.picture_files import encoded, good_files, photograph
from tests.support.rules import STEP_OF, run_rules
from tests.support.small_web import SmallWeb

INF = float("inf")
UNFETCHED = {*PRODUCT.text_steps, "fetch"}


def rows(output: Path) -> list[dict]:
    tables = [pq.read_table(path) for path in sorted(output.glob("shards/*.parquet"))]
    assert all(table.schema.equals(SHARD_SCHEMA) for table in tables)
    return pa.concat_tables(tables).to_pylist()


def test_a_sample_its_row_and_its_json_agree(golden: Golden):
    check_dataset(golden.output)
    files, images = samples(golden.output), Counter[str]()
    for path in golden.output.glob("shards/*.parquet"):
        images.update({*pq.read_table(path)["url"].to_pylist()})
    assert {*images.values()} == {1}, "each image is in one shard"
    assert [row["key"] for row in rows(golden.output)] == list(files)
    for row in rows(golden.output):
        sample = files[row["key"]]
        (extension,) = sample.keys() - {"json", "txt"}
        assert extension == "jpg"  # whatever the bytes are: see docs/shard_format.md
        assert sample["txt"].decode() == row["caption"]
        said = json.loads(sample["json"])
        assert said == {name: row[name] for name in said}
        assert {"key", "url", "caption", "width", "original_width", "sha256"} <= said.keys()
        picture = PillowImage.open(io.BytesIO(sample[extension]))
        assert picture.format in ("JPEG", "PNG", "WEBP")
        assert picture.size == (row["width"], row["height"])
        assert (row["status"], row["error_message"]) == ("success", None)


def test_originals_are_kept_byte_for_byte_or_become_png(golden: Golden, web: SmallWeb):
    files, changed = samples(golden.output), set()
    names = [*good_files()]
    for row in rows(golden.output):
        path = row["url"].removeprefix(web.url)
        served = web.files[path]
        assert row["sha256"] == hashlib.sha256(served).hexdigest()
        sample = files[row["key"]]
        if served not in sample.values():
            changed.add(names[int(path.removeprefix("/good/"))])
            assert sample["jpg"].startswith(b"\x89PNG")
    assert changed == {
        name for name in names if name.startswith(("gif", "bmp", "avif")) or "16 bit" in name
    }


def test_stats_count_what_the_shard_holds(golden: Golden, web: SmallWeb):
    fetched = [fate for fate in golden.fates if STEP_OF.get(fate.reason) not in UNFETCHED]
    size = 0
    fates = Counter(fate.reason for fate in golden.fates)
    total: Counter[str] = Counter()
    assert len(manifest(golden.output)["shards"]) > 2
    for name in manifest(golden.output)["shards"]:
        stats = json.loads((golden.output / "shards" / f"{name}_stats.json").read_text())
        assert stats["count"] == stats["successes"] + sum(stats["reasons"].values())
        assert sum(stats["status_dict"].values()) == stats["count"]
        size += stats["bytes_downloaded"]
        total.update(stats["status_dict"])
    assert size == sum(
        len(web.files[url.removeprefix(web.url)]) for url in {fate.url for fate in fetched}
    )
    assert total["success"] == fates[None]
    assert total["fetch_failed: http_404"] == 1
    assert total["undecodable: truncated"] == 2
    assert total["too_small"] == fates["too_small"]


def worker(out: Path) -> ShardWriter:
    rules = run_rules(min_image_side=100, max_unsafe_score=1.0)
    fetch = FetchSettings(allow_private_addresses=True)
    settings = ShardSettings(rules, fetch, ResizeSettings())
    work = f"{out}/_temporary"
    return ShardWriter(f"{work}/plan", f"{work}/attempts", str(out), settings)


def plan(out: Path, shard: int, url: str) -> None:
    key = pa.array([1], pa.uint64())
    pairs = pa.table({"key": key, "url": [url], "caption": ["a garden in the rain"]})
    write_plan(pairs, plan_path(f"{out}/_temporary/plan", shard))


def test_what_a_worker_publishes_and_others_find(
    web: SmallWeb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Of a shard in which nothing is kept there are only rejects."""
    web.files["/kept"] = encoded(photograph(1), "JPEG")
    web.files["/small"] = encoded(photograph(1, 90, 90), "JPEG")
    plan(tmp_path, 0, f"{web.url}/kept")
    plan(tmp_path, HOLDOUT + 7, f"{web.url}/small")
    own = worker(tmp_path)
    stats, small = (own.write(shard, Beginning()) for shard in (0, HOLDOUT + 7))
    assert own.slowest_s > 0
    assert (small.number, small.reasons) == (HOLDOUT + 7, {"too_small": 1})
    tar = (tmp_path / "shards/00000.tar").read_bytes()
    assert hashlib.sha256(tar).hexdigest() == stats.sha256
    paths = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()]
    assert {path for path in paths if "/plan/" not in path} == {
        "_temporary/attempts/winners/00000",
        f"_temporary/attempts/winners/{HOLDOUT + 7}",
        "rejected/images-00000.parquet",
        "rejected/holdout-00007.parquet",
        "responses/00000_responses.parquet",
        *(f"shards/00000{ending}" for ending in (".tar", ".parquet", "_stats.json")),
        "holdout/00007_stats.json",
    }
    places = places_of(0, "set", own.settings)
    assert [*places] == [REJECTS, SIDECAR, TAR, RESPONSES_FILE, DONE]  # in the order of moves
    # An attempt that another overtakes ends; and where a run resumes, none begins.
    monkeypatch.setattr("alignset.transforms.shards.shard_progress.COUNT_S", 0.0)
    monkeypatch.setattr("alignset.transforms.shards.shard_progress.LINE_S", 0.0)
    monkeypatch.delattr(Attempt, "publish")
    published = replace(stats, connections=UNSET, limited_by=UNSET)
    assert worker(tmp_path).write(0, Beginning()) == published
    monkeypatch.setattr(ShardWriter, "write", None)
    resumed = ShardDoFn(worker(tmp_path))
    resumed.start_bundle()
    assert [*resumed.process(0, ""), *resumed.finish_bundle()] == [published]


def test_what_is_stored_is_not_fetched_again(plain: Golden, web: SmallWeb, tmp_path: Path):
    """A new crawl is added to a stored set: all counts are over both, and one is fetched."""
    pairs = pq.read_table(plain.pairs)
    pq.write_table(pairs.slice(0, 60), tmp_path / "old.parquet")
    pq.write_table(pairs.slice(60), tmp_path / "new.parquet")
    flags = [flag for flag in plain.flags if not flag.startswith("--vocabulary")]
    succeed(tmp_path / "old.parquet", tmp_path / "old", *flags)
    before = len(web.requests)
    succeed(f"{tmp_path}/old,{tmp_path}/new.parquet", tmp_path / "both", *plain.flags)
    asked = set(web.requests[before:])
    stored = {row["url"].removeprefix(web.url) for row in rows(tmp_path / "old")}
    assert stored
    assert asked
    assert not asked & stored
    digest = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in plain.output.glob("shards/*.tar")
    }
    for name, sha256 in digest.items():
        assert hashlib.sha256((tmp_path / "both/shards" / name).read_bytes()).hexdigest() == sha256


class Other(NamedTuple):
    """Attempts of other workers: when one will have written the shard, in s, and how many."""

    done_s: float
    attempts: int = 1


class World:
    """Shards, some of which others write, on a clock that goes on where somebody sleeps."""

    slowest_s = 0.0

    def __init__(self, others: dict[int, Other], took_s: float = 1.0) -> None:
        self.others, self.took_s = others, took_s
        self.now_s = 0.0
        self.written: dict[int, float] = {}

    def is_finished(self, shard: int) -> bool:
        ends = self.others[shard].done_s if shard in self.others else INF
        return shard in self.written or ends <= self.now_s

    def under_way(self, shard: int) -> tuple[str, ...]:
        count = self.others[shard].attempts if shard in self.others else 0
        return tuple(f"{shard}-{n}" for n in range(count))

    def write(self, shard: int, _: Beginning) -> None:
        assert not self.is_finished(shard)
        self.now_s += self.took_s
        self.slowest_s = max(self.slowest_s, self.took_s)
        self.written[shard] = self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def run(self, shards: int, slept: Callable[[float], None] | None = None) -> None:
        take_over(range(shards), self, clock=lambda: self.now_s, sleep=slept or self.sleep)


@pytest.mark.parametrize(
    ("others", "took_s", "shards", "written", "least_s", "most_s"),
    [
        # What nobody has begun comes first, and what others write is waited for.
        ({0: Other(5.0), 1: Other(7.0)}, 1.0, 5, {2, 3, 4}, 7.0, 7.0),
        # A dead worker is not waited for long; each further attempt is given twice the time.
        ({0: Other(INF)}, 1.0, 1, {0}, PATIENCE_S + 1, PATIENCE_S + 1),
        ({0: Other(INF, 3)}, 1.0, 1, {0}, 4 * PATIENCE_S + 1, 4 * PATIENCE_S + 1),
        # What takes long here may take half as long again elsewhere. The slow one is seen for the
        # first time at 0 or, behind this worker's own, at 200.
        ({0: Other(1000.0), 1: Other(290.0)}, 200.0, 3, {0, 2}, 500.0, 700.0),
    ],
)
def test_what_is_taken_over(others, took_s, shards, written, least_s, most_s):
    world = World(others, took_s)
    world.run(shards)
    assert world.written.keys() == written
    assert least_s <= world.now_s <= most_s + POLL_S


def test_an_attempt_that_begins_meanwhile_gets_its_time():
    """Two idle workers do not both take over the same shard."""
    world = World({0: Other(INF)})

    def slept(seconds: float) -> None:
        world.now_s += seconds
        if world.now_s == PATIENCE_S - POLL_S:
            world.others[0] = Other(world.now_s + 2 * PATIENCE_S - POLL_S, 2)

    world.run(1, slept)
    assert not world.written
