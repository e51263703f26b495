"""Shards on disk: tar, Parquet and stats say the same, and the images are those served."""

import hashlib
import io
import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as PillowImage

from alignset.transforms.rules.catalogue import PRODUCT
from alignset.transforms.shards import write_shards
from alignset.transforms.shards.build_shard import REJECTS, SIDECAR, TAR
from alignset.transforms.shards.shard_files import SHARD_SCHEMA
from alignset.transforms.shards.shard_places import ShardPlaces
from alignset.transforms.shards.shards_under_way import Beginning
from alignset.transforms.shards.write_shards import PATIENCE_S, POLL_S, ShardDoFn, take_over
from alignset.transforms.workers.claims import Mark
from alignset.transforms.workers.fencing import SupersededError
from tests.support.command import keep_too_little, kept, manifest, rejected, samples, succeed
from tests.support.golden import TEXTS
from tests.support.golden_run import Golden
from tests.support.picture_files import encoded, good_files, photograph, turned
from tests.support.rules import STEP_OF
from tests.support.small_web import SmallWeb

UNFETCHED = {*PRODUCT.text_steps, "fetch"}


def rows(output: Path) -> list[dict]:
    tables = [pq.read_table(path) for path in sorted(output.glob("shards/*.parquet"))]
    assert all(table.schema.equals(SHARD_SCHEMA) for table in tables)
    return pa.concat_tables(tables).to_pylist()


def test_the_golden_run_fills_several_shards_in_the_order_of_keys(golden: Golden):
    tars = [path.name for path in sorted(golden.output.glob("shards/*.tar"))]
    assert tars == [f"{number:05d}.tar" for number in range(len(tars))]
    assert len(tars) > 2
    files = sorted(golden.output.glob("shards/*.parquet"))
    shards = [pq.read_table(file).to_pylist() for file in files]
    for shard in shards:
        assert [row["key"] for row in shard] == sorted(row["key"] for row in shard)
    images = [{row["url"] for row in shard} for shard in shards]
    assert sum(map(len, images)) == len(set.union(*images))  # each image is in one shard
    assert len({row["key"] for shard in shards for row in shard}) == sum(map(len, shards))
    assert [row["key"] for row in rows(golden.output)] == list(samples(golden.output))


def test_a_sample_its_row_and_its_json_agree(golden: Golden):
    files = samples(golden.output)
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
    for name, described in manifest(golden.output)["shards"].items():
        stats = json.loads((golden.output / "shards" / f"{name}_stats.json").read_text())
        table = pq.read_metadata(golden.output / "shards" / f"{name}.parquet")
        tar = (golden.output / "shards" / f"{name}.tar").read_bytes()
        assert stats["successes"] == table.num_rows == described["pairs"]
        assert stats["count"] == stats["successes"] + sum(stats["reasons"].values())
        assert sum(stats["status_dict"].values()) == stats["count"]
        assert stats["sha256"] == described["sha256"] == hashlib.sha256(tar).hexdigest()
        size += stats["bytes_downloaded"]
        total.update(stats["status_dict"])
    assert size == sum(
        len(web.files[url.removeprefix(web.url)]) for url in {fate.url for fate in fetched}
    )
    assert total["success"] == fates[None]
    assert total["fetch_failed: http_404"] == 1
    assert total["undecodable: truncated"] == 2
    assert total["too_small"] == fates["too_small"]


@pytest.fixture(scope="module")
def pictures(web: SmallWeb, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Landscape, larger, portrait, and one that EXIF turns; each URL ends in its number."""
    stored, exif = turned(6)
    bodies = [
        encoded(photograph(1), "JPEG"),
        encoded(photograph(2, 300, 240), "PNG"),
        encoded(photograph(3, 110, 150), "WEBP"),
        encoded(stored, "JPEG", exif=exif),
    ]
    web.files |= {f"/resize/{n}": body for n, body in enumerate(bodies)}
    urls = [f"{web.url}/resize/{n}" for n in range(len(bodies))]
    path = tmp_path_factory.mktemp("resize") / "pairs.parquet"
    pq.write_table(pa.table({"url": urls, "caption": TEXTS[: len(urls)]}), path)
    return path


def test_images_are_resized(pictures: Path, tmp_path: Path):
    """Each mode and format: tests/transforms/images/test_resize.py."""
    flags = ("--allow_private_addresses", "--min_image_side=90", "--encode_quality=90")
    of_mode = ("--resize_mode=keep_ratio", "--encode_format=webp", "--image_size=64")
    succeed(pictures, tmp_path / "set", *flags, *of_mode)
    assert rejected(tmp_path / "set") == []
    files, sizes = samples(tmp_path / "set"), {}
    for row in rows(tmp_path / "set"):
        picture = PillowImage.open(io.BytesIO(files[row["key"]]["webp"]))
        assert (picture.format, picture.size) == ("WEBP", (row["width"], row["height"]))
        original = row["original_width"], row["original_height"]
        sizes[int(row["url"][-1])] = original, picture.size
    assert [sizes[number] for number in range(4)] == [
        ((150, 110), (87, 64)),  # the shorter side becomes 64
        ((300, 240), (80, 64)),
        ((110, 150), (64, 87)),
        ((110, 150), (87, 64)),  # is turned by EXIF
    ]


def test_the_stats_are_the_last_file_of_a_shard(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """They say that it is whole: one that is killed before has none."""
    folders, there = ("shards", "rejected", "responses"), []
    write = write_shards.write_atomically

    def files() -> set[str]:
        found = [path for name in folders for path in (tmp_path / "set" / name).glob("*00000*")]
        return {str(path.relative_to(tmp_path)) for path in found}

    def noted(path: str, body: Callable[[BinaryIO], object]) -> None:
        there.append(files())
        write(path, body)

    monkeypatch.setattr(write_shards, "write_atomically", noted)
    flags = ("--allow_private_addresses", "--min_image_side=90", "--max_unsafe_score=1")
    succeed(pictures, tmp_path / "set", *flags)
    stats = "set/shards/00000_stats.json"
    of_images = {name for name in files() if "/text-" not in name}
    assert len(of_images - {stats}) == 4  # rejects, sidecar, tar, answers
    assert [of_images - before for before in there] == [{stats}]


def test_what_another_attempt_has_published_stays(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The web may have given it other images, so the files of two must not be mixed."""
    places, build = ShardPlaces(str(tmp_path / "set")), write_shards.build_shard
    published: dict[str, int] = {}

    def meanwhile(*arguments):
        stats, folder = build(*arguments), Path(arguments[4])
        files = {REJECTS: places.rejected(0), SIDECAR: places.sidecar(0), TAR: places.tar(0)}
        for name, path in files.items():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / name, path)
            published[path] = Path(path).stat().st_ino
        other = replace(stats, bytes_downloaded=stats.bytes_downloaded + 1)
        Path(places.stats(0)).write_bytes(other.encode())
        published[places.stats(0)] = Path(places.stats(0)).stat().st_ino
        return stats

    monkeypatch.setattr(write_shards, "build_shard", meanwhile)
    flags = ("--allow_private_addresses", "--min_image_side=90", "--max_unsafe_score=1")
    succeed(pictures, tmp_path / "set", *flags)
    assert len(published) == 4
    assert {path: Path(path).stat().st_ino for path in published} == published


def test_without_the_flag_no_private_address_is_fetched(
    pictures: Path, web: SmallWeb, tmp_path: Path
):
    before = len(web.requests)
    last = keep_too_little(pictures, tmp_path / "set")
    assert "fetches failed with forbidden_address (private addresses" in last
    assert "the same command with --retry_failed tries them again" in last
    assert {(fate.reason, fate.detail) for fate in rejected(tmp_path / "set")} == {
        ("fetch_failed", "forbidden_address")
    }
    assert len(web.requests) == before
    assert (kept(tmp_path / "set"), samples(tmp_path / "set")) == ([], {})


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


class Attempt(NamedTuple):
    """Of another worker: the mark it left, and when it will have written the shard, s."""

    name: str
    done_s: float
    number: int = 1

    @property
    def mark(self) -> Mark:
        return Mark("start", self.number, self.name)


class World:
    """Shards, some of which others write, on a clock that goes on where somebody sleeps."""

    slowest_s, superseded_s = 0.0, float("inf")

    def __init__(self, others: dict[int, Attempt], took_s: float = 1.0) -> None:
        self.others, self.took_s = others, took_s
        self.now_s = 0.0
        self.written: dict[int, float] = {}

    def is_finished(self, shard: int) -> bool:
        ends = self.others[shard].done_s if shard in self.others else float("inf")
        return shard in self.written or ends <= self.now_s

    def check(self) -> None:
        if self.now_s >= self.superseded_s:
            raise SupersededError

    def newest_mark(self, shard: int) -> Mark | None:
        return self.others[shard].mark if shard in self.others else None

    def attempt(self, shard: int) -> None:
        assert not self.is_finished(shard)
        self.now_s += self.took_s
        self.slowest_s = max(self.slowest_s, self.took_s)
        self.written[shard] = self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def run(self, shards: int, slept: Callable[[float], None] | None = None) -> None:
        take_over(range(shards), self, clock=lambda: self.now_s, sleep=slept or self.sleep)


def test_a_worker_of_an_earlier_start_does_not_wait_on():
    world = World({0: Attempt("slow", 1000.0)})
    world.superseded_s = 5.0
    with pytest.raises(SupersededError):
        world.run(1)
    assert world.now_s == 5.0


def test_a_finished_shard_is_not_written_again():
    """One that resumes tells of it, and writes the others."""

    class Resumed:
        def open(self, index: str) -> None:
            assert index == "index"

        def is_finished(self, shard: int) -> bool:
            return shard == 0

        def stats_of(self, shard: int) -> str:
            return f"stats of {shard}"

        def write(self, shard: int, beginning: Beginning) -> str:
            assert shard == 1
            return "stats of another"

    shards = ShardDoFn(Resumed())
    shards.start_bundle()
    told = [stats for shard in (0, 1) for stats in shards.process(shard, "index")]
    told += [row.value for row in shards.finish_bundle()]
    assert sorted(told) == ["stats of 0", "stats of another"]


INF = float("inf")


@pytest.mark.parametrize(
    ("others", "took_s", "shards", "written", "least_s", "most_s"),
    [
        # What nobody has begun comes first, and what others write is waited for.
        ({0: Attempt("a", 5.0), 1: Attempt("b", 7.0)}, 1.0, 5, {2, 3, 4}, 7.0, 7.0),
        # A dead worker is not waited for long; each further attempt is given twice the time.
        ({0: Attempt("dead", INF)}, 1.0, 1, {0}, PATIENCE_S + 1, PATIENCE_S + 1),
        ({0: Attempt("third", INF, 3)}, 1.0, 1, {0}, 4 * PATIENCE_S + 1, 4 * PATIENCE_S + 1),
        # What takes long here may take half as long again elsewhere. The slow one is seen for the
        # first time at 0 or, behind this worker's own, at 200.
        ({0: Attempt("a", 1000.0), 1: Attempt("b", 290.0)}, 200.0, 3, {0, 2}, 500.0, 700.0),
    ],
)
def test_what_is_taken_over(others, took_s, shards, written, least_s, most_s):
    world = World(others, took_s)
    world.run(shards)
    assert world.written.keys() == written
    assert least_s <= world.now_s <= most_s + POLL_S


def test_an_attempt_that_begins_meanwhile_gets_its_time():
    """Two idle workers do not both take over the same shard."""
    world = World({0: Attempt("dead", INF)})

    def slept(seconds: float) -> None:
        world.now_s += seconds
        if world.now_s == PATIENCE_S - POLL_S:
            world.others[0] = Attempt("another", world.now_s + PATIENCE_S - POLL_S)

    world.run(1, slept)
    assert not world.written
