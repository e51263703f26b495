"""Shards on disk: tar, Parquet and stats say the same, and the images are those served."""

import hashlib
import io
import json
import tarfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec import UNSET
from PIL import Image as PillowImage

from alignset.transforms.columns.hashing import UInt64s
from alignset.transforms.columns.records import key_hashes
from alignset.transforms.rules.catalogue import PRODUCT
from alignset.transforms.shards import write_shards
from alignset.transforms.shards.build_shard import (
    EVIDENCE_FILE,
    LEDGER_FILE,
    REJECTS,
    SIDECAR,
    TAR,
    dropped_thumbnails,
    places_of,
)
from alignset.transforms.shards.plan_shards import plan_path
from alignset.transforms.shards.shard_files import SHARD_SCHEMA, TarWriter
from alignset.transforms.shards.shard_places import HOLDOUT
from alignset.transforms.shards.shard_stats import ShardStats
from alignset.transforms.shards.write_shards import (
    PATIENCE_S,
    POLL_S,
    Beginning,
    ShardDoFn,
    ShardWriter,
    take_over,
)
from alignset.transforms.storage import shared_paths
from alignset.transforms.storage.files import PIECE
from alignset.transforms.storage.shared_paths import SharedPaths, stop_file
from alignset.transforms.workers.attempts import DONE, Attempt
from alignset.transforms.workers.packages import CheckWorker
from tests.support.agreement import check_dataset
from tests.support.command import manifest, samples, succeed
from tests.support.golden_run import Golden
from tests.support.made_images import image_settings, images_of, pairs_of
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
        assert extension == "jpg"  # whatever the bytes are: see docs/files.md
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
    rules = {"min_image_side": 100, "max_unsafe_score": 1.0, "allow_private_addresses": True}
    work = f"{out}/_temporary"
    return ShardWriter(f"{work}/plan", f"{work}/attempts", "", str(out), image_settings(**rules))


def plan(out: Path, shard: int, url: str) -> None:
    key = pa.array([1], pa.uint64())
    pairs = pa.table({"key": key, "url": [url], "caption": ["a garden in the rain"]})
    path = Path(plan_path(f"{out}/_temporary/plan", shard))
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pairs, path)


def test_what_a_worker_publishes_and_others_find(
    web: SmallWeb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A shard in which nothing is kept has only rejects, a ledger and evidence."""
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
        *("evidence/00000.parquet", "evidence/holdout-00007.parquet"),
        "rejected/images-00000.parquet",
        "rejected/holdout-00007.parquet",
        "images/00000.parquet",
        "images/holdout-00007.parquet",
        *(f"shards/00000{ending}" for ending in (".tar", ".parquet", "_stats.json")),
        "holdout/00007_stats.json",
    }
    places = places_of(0, "set", own.settings, own.descriptors)
    assert [*places] == [REJECTS, SIDECAR, TAR, LEDGER_FILE, EVIDENCE_FILE, DONE]
    # An attempt that another overtakes ends; and where a run resumes, none begins.
    monkeypatch.setattr("alignset.transforms.shards.shard_places.COUNT_S", 0.0)
    monkeypatch.setattr("alignset.transforms.shards.shard_places.LINE_S", 0.0)
    monkeypatch.delattr(Attempt, "publish")
    published = replace(stats, connections=UNSET, limited_by=UNSET)
    assert worker(tmp_path).write(0, Beginning()) == published
    monkeypatch.setattr(ShardWriter, "write", None)
    resumed = ShardDoFn(worker(tmp_path))
    resumed.start_bundle()
    assert [*resumed.process(0, ""), *resumed.finish_bundle()] == [published]


def test_a_shard_under_way_is_not_published_once_the_command_was_stopped(
    web: SmallWeb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As where its images had come before, and are measured slowly."""
    web.files["/kept"] = encoded(photograph(1), "JPEG")
    plan(tmp_path, 0, f"{web.url}/kept")
    run = SharedPaths(f"{tmp_path}/_temporary/_lock", "start")
    Path(run.lock).write_text("start")
    monkeypatch.setattr(shared_paths, "_LATEST", [])
    monkeypatch.setattr(shared_paths, "_looked_at", {})
    monkeypatch.setattr(shared_paths, "_checked", set())
    monkeypatch.setattr(shared_paths, "_LOOK_S", 0.0)
    build = write_shards.build_shard

    def built(*args: object, **named: object) -> ShardStats:
        stats = build(*args, **named)
        Path(stop_file(run.lock, run.start)).touch()
        return stats

    monkeypatch.setattr(write_shards, "build_shard", built)
    writes = ShardDoFn(worker(tmp_path), CheckWorker(shared=run))  # it learns of its run itself
    writes.start_bundle()
    with pytest.raises(RuntimeError, match="the command was stopped"):
        [*writes.process(0, ""), *writes.finish_bundle()]
    assert not list(tmp_path.glob("shards/*"))
    with pytest.raises(RuntimeError, match="the command was stopped"):
        World({0: Other(INF)}).run(1)  # a worker waits for the shard of another


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

    def running_attempts(self, shard: int) -> tuple[str, ...]:
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


# Which dropped pairs of a shard have a thumbnail.

RULES = run_rules(min_image_side=50, max_unsafe_score=0.5)
ROWS = 60
COPY, BROKEN = 20, 21  # a copy of an evaluation image, and a file that cannot be decoded after all


def reason_of(row: int) -> str | None:
    if 41 + row <= 50:
        return "too_small"
    kept_out = {30: "blocked", 31: "opted_out", 32: "undecodable", 50: None}
    return {**kept_out, COPY: "evaluation_overlap"}.get(row, "unsafe")


def made(folder: Path, thumbnails: int) -> tuple[UInt64s, list[bytes | None]]:
    """Keys and thumbnails of a shard of images of 41 px and more a side."""
    bodies = [encoded(photograph(row, 41 + row, 120), "JPEG") for row in range(ROWS)]
    images = images_of(folder, bodies)
    images.note(BROKEN, file=images.spool.put(b"\xff\xd8\xff broken"))
    for row in filter(reason_of, range(ROWS)):
        images.drop(row, reason_of(row))
    keys = np.random.default_rng(1).integers(0, 1 << 64, ROWS, np.uint64)
    scores = [0.5 + row / 200 for row in range(ROWS)]
    scores[-2:] = [np.inf, -np.inf]  # as a rule of users may measure
    for row, score in enumerate(scores):
        images.note(row, unsafe_score=score)
    pairs = pairs_of(images, RULES, key=keys)
    return keys, dropped_thumbnails(pairs, images, RULES, thumbnails).to_pylist()


def test_by_hash_and_nearest_to_thresholds_and_none_that_is_kept_out(tmp_path: Path) -> None:
    keys, thumbnails = made(tmp_path, 4)
    hashes = key_hashes(keys)
    expected = {8, 9, 10, 11, COPY}  # by half as many: 49 and 50 px, scores of 0.55 and 0.555
    for reason in ("too_small", "unsafe"):
        of_reason = [row for row in range(ROWS) if reason_of(row) == reason]
        expected |= {*sorted(of_reason, key=lambda row: hashes[row])[:4]}
    assert {row for row, body in enumerate(thumbnails) if body} == expected - {BROKEN}
    for row in expected - {BROKEN}:
        picture = PillowImage.open(io.BytesIO(thumbnails[row]))
        assert (picture.format, max(picture.size)) == ("JPEG", 120 if row == COPY else 96)
        picture.load()


def test_all_that_can_be_drawn_where_many_are_wanted_and_none_where_none_are(
    tmp_path: Path,
) -> None:
    judged = {row for row in range(ROWS) if reason_of(row) in ("too_small", "unsafe")}
    for count, expected in ((256, judged - {BROKEN} | {COPY}), (0, {COPY})):
        _, thumbnails = made(tmp_path, count)
        assert {row for row, body in enumerate(thumbnails) if body} == expected


# Tars with the same bytes for the same samples, and bytes put aside.


def tar_of(*files: tuple[str, bytes]) -> tuple[bytes, str]:
    sink = io.BytesIO()
    writer = TarWriter(sink)
    for name, body in files:
        writer.add((name, body))
    digest = writer.finish()
    return sink.getvalue(), digest


GOLDEN_SHA256 = "90479ccfe4e38205073d2ca528560c84848889945c1afb7be84b3b1ab8e0385b"
FILES = (("a.jpg", b"x" * 512), ("a.txt", b""), ("b.jpg", b"y" * 1000))


@pytest.mark.parametrize("size", [512, PIECE - 512, PIECE, PIECE + 1, 5 * PIECE // 2])
def test_a_tar_that_the_standard_library_reads(size: int):
    """Files over several pieces are hashed in their order."""
    files = (("a.jpg", b"x" * size), ("a.json", b"{}"), ("b.jpg", b"y" * size), ("b.txt", b""))
    body, digest = tar_of(*files)
    assert hashlib.sha256(body).hexdigest() == digest
    assert len(body) % tarfile.RECORDSIZE == 0
    with tarfile.open(fileobj=io.BytesIO(body), mode="r:") as tar:
        members = tar.getmembers()
        assert [(m.name, tar.extractfile(m).read()) for m in members] == list(files)
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {
            (0, 0, 0, "", "", 0o444)
        }


def test_a_full_disk_is_told_where_the_tar_is_written():
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    writer = TarWriter(Full())
    with pytest.raises(OSError, match="No space left"):
        writer.add(("a.jpg", bytes(2 * PIECE)))


def test_these_very_bytes():
    """The format is a contract: shards of other versions must not differ."""
    assert tar_of(*FILES)[1] == GOLDEN_SHA256
