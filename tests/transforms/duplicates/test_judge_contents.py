"""Which pairs leave since their image is in the dataset twice, against a scalar version."""

import hashlib
import random
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.settings import Settings
from alignset.transforms.arrivals.image_looks import LOOK, look_columns
from alignset.transforms.columns.records import key_column
from alignset.transforms.duplicates import find_near
from alignset.transforms.duplicates.contents import (
    OF_TRAINING,
    contents_of,
    digests_of,
    judge_contents,
    leaving_pairs,
    near_contents,
)
from alignset.transforms.duplicates.find_copies import FindCopies
from alignset.transforms.shards.leaving_pairs import leaving_files, name_of, read_leaving
from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces
from alignset.transforms.storage.blocks import Blocks
from tests.support.made_batches import run_in_beam
from tests.support.made_images import image_settings


class Row(NamedTuple):
    """A kept pair of a shard; `content` names the bytes of its image."""

    shard: int
    key: int
    url: str
    caption: str
    content: str


def sidecar(rows: list[Row]) -> pa.Table:
    digests = [hashlib.sha256(row.content.encode()).hexdigest() for row in rows]
    columns = {
        "key": [f"{row.key:016x}" for row in rows],
        "url": [row.url for row in rows],
        "caption": [row.caption for row in rows],
        "sha256": digests,
    }
    return pa.table({name: pa.array(column, pa.string()) for name, column in columns.items()})


Fates = dict[int, tuple[str, str | None]]  # by key: reason and detail


def copy_settings(max_texts: int, *, duplicates: str = "keep", clean: bool = True) -> Settings:
    more = {"duplicates": duplicates, "holdout_copies": "drop" if clean else "keep"}
    return image_settings(max_texts_per_image=max_texts, **more)


def found(rows: list[Row], settings: Settings) -> Fates:
    shards = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.key):
        shards[row.shard].append(row)
    parts = [contents_of(n, sidecar(of), settings.max_texts_per_image) for n, of in shards.items()]
    random.Random(1).shuffle(parts)
    verdicts = judge_contents(pa.Table.from_batches(parts), settings)
    fates: Fates = {}
    for number, of in shards.items():
        mine = verdicts.filter(pa.compute.equal(verdicts["shard"], number))
        for row in leaving_pairs(sidecar(of), mine).to_pylist():
            fates[row["key"]] = row["reason"], row["detail"]
    return fates


def by_hand(rows: list[Row], settings: Settings) -> Fates:
    fates: Fates = {}
    for content in {row.content for row in rows}:
        of = sorted((row for row in rows if row.content == content), key=lambda row: row.key)
        if len({row.caption.casefold() for row in of}) > settings.max_texts_per_image:
            fates |= {row.key: ("image_with_too_many_texts", None) for row in of}
            continue
        sides = {held: [r for r in of if (r.shard >= HOLDOUT) == held] for held in (False, True)}
        if sides[True] and sides[False] and settings.holdout_copies == "drop":
            kept = f"{sides[False][0].key:016x}"
            fates |= {row.key: ("duplicate_of_training", kept) for row in sides.pop(True)}
        for first, *others in filter(None, sides.values()):
            for row in others if settings.duplicates == "exact" else ():
                if row.url != first.url:
                    fates[row.key] = "duplicate_image", f"{first.key:016x}"
    return fates


@pytest.mark.parametrize("max_texts", [2, 3, 1000])
@pytest.mark.parametrize("duplicates", ["keep", "exact"])
@pytest.mark.parametrize("clean", [False, True])
def test_what_leaves_is_what_a_scalar_version_says(max_texts: int, duplicates: str, clean: bool):
    rng = random.Random(7)
    keys = iter(rng.sample(range(1, 1 << 62), 600))
    rows, seen = [], set()
    for _ in range(600):
        image, text = rng.randrange(120), f"Text {rng.randrange(6)}"
        if (image, text) not in seen:
            seen.add((image, text))
            # An image's shard and side follow from its URL; most contents have one image.
            shard = image % 5 + HOLDOUT * (image % 9 == 0)
            text = text.upper() if rng.random() < 0.2 else text
            url, content = f"http://host.example/{image}", f"content {image % 70}"
            rows.append(Row(shard, next(keys), url, text, content))
    settings = copy_settings(max_texts, duplicates=duplicates, clean=clean)
    fates = found(rows, settings)
    assert fates == by_hand(rows, settings)
    assert bool(fates) == (duplicates == "exact" or clean or max_texts < 6)


def test_a_placeholder_is_a_few_rows_of_each_shard_however_many_urls_it_has():
    for count in (50_000, 100_000):
        urls = [f"http://host.example/{n}" for n in range(count)]
        same = [Row(3, n + 1, url, f"text {n % 900}", "gone") for n, url in enumerate(urls)]
        rows = contents_of(3, sidecar(same), 1000)
        assert len(rows) == 900
        assert rows.slice(0, 1).to_pylist()[0]["images"] == count
        other = [row._replace(caption=f"text {row.key}") for row in same]
        rows = contents_of(3, sidecar(other), 1000)
        assert len(rows) == 1001
        verdicts = judge_contents(pa.Table.from_batches([rows]), copy_settings(1000))
        assert len(verdicts) == 1
        assert len(leaving_pairs(sidecar(other), verdicts)) == count
        rows = contents_of(3, sidecar(same), 1000)
        once = copy_settings(1000, duplicates="exact")
        verdicts = judge_contents(pa.Table.from_batches([rows]), once)
        assert len(verdicts) == 1
        left = leaving_pairs(sidecar(same), verdicts)
        assert left["reason"].to_pylist() == ["duplicate_image"] * (count - 1)


def test_of_more_alt_texts_than_may_be_a_content_without_limit_is_named_once():
    rows = [Row(0, n + 1, f"http://host.example/{n}", f"text {n}", "gone") for n in range(50)]
    assert len(contents_of(0, sidecar(rows), 1_000_000_000)) == 2
    for duplicates, count in (("keep", 0), ("exact", 49)):
        assert len(found(rows, copy_settings(1_000_000_000, duplicates=duplicates))) == count


def test_what_is_held_out_leaves_for_a_near_duplicate_where_no_equal_one_is_in_training():
    held = [Row(HOLDOUT, n, f"http://host.example/{n}", "text", f"content {n}") for n in (7, 8, 9)]
    other = Row(0, (1 << 63) + 1, "http://host.example/0", "text", "content 8")
    parts = [contents_of(HOLDOUT, sidecar(held), 9), contents_of(0, sidecar([other]), 9)]
    near = [[2**63 + 5, 2**63 + 3, 4], [7, 7, 8]]  # training keys, and of which content
    hi, lo = digests_of(sidecar([held[n - 7] for n in near[1]])["sha256"])
    parts.append(near_contents(hi, lo, np.array(near[0], np.uint64), OF_TRAINING))
    for clean in (True, False):
        settings = copy_settings(9, clean=clean)
        verdicts = judge_contents(pa.Table.from_batches(parts), settings)
        verdicts = verdicts.filter(pa.compute.equal(verdicts["shard"], HOLDOUT))
        left = leaving_pairs(sidecar(held), verdicts).to_pylist()
        kept = {row["key"]: int(row["detail"], 16) for row in left}
        assert kept == ({7: 2**63 + 3, 8: 2**63 + 1} if clean else {})  # to the last bit


# Near-duplicates over shards: what leaves, and how many images of a cell are held at once.

ROWS, MOST = 200, 100


def put_shards(out: Path, count: int) -> list[int]:
    """Shards: the first half of each one's images look like one, and the largest is in the
    second shard."""
    rng = np.random.default_rng(0)
    one = rng.integers(-127, 128, 64)
    shards = [*range(count), HOLDOUT]
    for shard in shards:
        looks = np.zeros(ROWS, LOOK)
        vectors = rng.integers(-127, 128, (ROWS, 64))
        vectors[: ROWS // 2] = np.clip(one + rng.integers(-9, 10, (ROWS // 2, 64)), -127, 127)
        looks["descriptor"] = vectors
        looks["trimmed_phash"][ROWS // 2 :] = rng.integers(0, 1 << 63, ROWS // 2)
        sides = rng.integers(100, 900, (2, ROWS))
        sides[:, 0] = 1000 if shard == 1 else 999
        keys = key_column(np.sort(rng.integers(0, 1 << 63, ROWS).astype(np.uint64)))
        texts = pa.array([f"text {key}" for key in keys.to_pylist()])
        table = {"key": keys, "url": texts, "caption": texts}
        table |= {"sha256": pa.array([rng.bytes(32).hex() for _ in range(ROWS)])}
        table |= {"opted_out": pa.nulls(ROWS, pa.string())}
        table |= {f"original_{name}": sides[at] for at, name in enumerate(("width", "height"))}
        path = Path(ShardPlaces(str(out)).sidecar(shard))
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table(table | look_columns(looks)), path)
    return shards


@pytest.mark.parametrize("shards", [4, 8])
def test_one_of_a_group_stays_whatever_its_size_and_a_cell_is_held_in_part(
    shards: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    held, cells, cluster = [], [], find_near.cluster

    def noted(nodes: np.ndarray) -> find_near.Clusters:
        held.append(len(nodes))
        cells.append(nodes["key"].tolist())
        return cluster(nodes)

    monkeypatch.setattr(find_near, "MOST_IN_CELL", MOST)
    monkeypatch.setattr(find_near, "cluster", noted)
    numbers = put_shards(tmp_path, shards)
    settings = copy_settings(1000, duplicates="near")
    find = FindCopies(str(tmp_path), f"{tmp_path}/plan", "", settings, Blocks(), 4, 3)
    run_in_beam(lambda pipeline: pipeline | beam.Create(numbers) | find)
    best = pq.read_table(ShardPlaces(str(tmp_path)).sidecar(1))["key"][0].as_py()
    left = 0
    for shard in range(shards):
        rows = read_leaving(f"{tmp_path}/plan", name_of(shard)).rows
        assert set(rows["detail"].to_pylist()) == {best}
        assert all(rows["near"].to_pylist())
        keys = pq.read_table(ShardPlaces(str(tmp_path)).sidecar(shard))["key"].to_pylist()
        # All that look alike are in the first half; the others are in none of their groups.
        assert {f"{key:016x}" for key in rows["key"].to_pylist()} == {*keys[: ROWS // 2]} - {best}
        left += len(rows)
    assert left == shards * ROWS // 2 - 1
    assert leaving_files(f"{tmp_path}/plan") == [name_of(shard) for shard in range(shards)]
    assert max(held) == MOST
    assert len({key for cell in cells for key in cell}) < shards * ROWS  # some only follow
