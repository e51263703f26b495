"""Photographs that look alike: one stays, in a run and in a finished dataset."""

import random
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageOps

from alignset.pipeline.deduplicate.__main__ import main
from alignset.pipeline.look.__main__ import main as look
from alignset.transforms.shards.shard_files import LOOK_SCHEMA, SHARD_SCHEMA
from tests.support.agreement import check_dataset, rows, stored
from tests.support.command import digests, funnel, manifest, succeed
from tests.support.golden import FLAGS as GOLDEN
from tests.support.golden import TEXTS
from tests.support.picture_files import encoded, photograph
from tests.support.small_web import small_web

FLAGS = (*GOLDEN, "--samples_per_shard=12", "--max_texts_per_image=4", "--holdout=0.1")
# Seeds of which no tone fills 0.27 of the image, as of most photographs, and their copies alike.
SEEDS = (700, 701, 703, 707, 710)
CROWDED = 5  # URLs of an image with more alt-texts than an image may have


class Made(NamedTuple):
    """Sets of one web, without near-duplicates and with all images."""

    source: Path
    near: Path
    keep: Path


def drawing(seed: int) -> PillowImage.Image:
    """A chart: one tone fills it."""
    rng = random.Random(seed)
    made = PillowImage.new("RGB", (200, 150), "white")
    draw = ImageDraw.Draw(made)
    for bar in range(8):
        height = rng.randrange(20, 130)
        draw.rectangle(
            (20 + 20 * bar, 150 - height, 34 + 20 * bar, 150), (rng.randrange(256), 80, 160)
        )
    return made


def pictures() -> dict[str, bytes]:
    """Files by path: `/photo SEED/…` are of one photograph, of which `best` is the best."""
    files = {}
    for seed in SEEDS:
        photo = photograph(seed)
        smaller = photo.resize((140, 103), PillowImage.Resampling.LANCZOS)
        framed = ImageOps.expand(photo, 10, (0, 0, 0))
        files |= {
            f"/photo{seed}/best": encoded(photo, "JPEG", quality=90),
            f"/photo{seed}/framed": encoded(framed, "JPEG", quality=90),
            f"/photo{seed}/smaller": encoded(smaller, "PNG"),
            f"/photo{seed}/worse": encoded(photo, "JPEG", quality=40),
        }
        files[f"/photo{seed}/again"] = files[f"/photo{seed}/smaller"]
    for seed in (1, 2):
        for quality in (90, 60):
            files[f"/chart{seed}/{quality}"] = encoded(drawing(seed), "JPEG", quality=quality)
    crowded = photograph(731)
    files |= {f"/crowded/{n}": encoded(crowded, "JPEG", quality=95) for n in range(CROWDED)}
    files["/crowded/alike"] = encoded(crowded, "JPEG", quality=30)
    return files


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("near")
    with small_web() as web:
        web.files |= pictures()
        texts = iter(TEXTS)
        captions = {path: next(texts) for path in web.files if path.startswith(tuple("/pc"))}
        captions["/chart2/60"] = captions["/chart2/90"]
        urls = [web.url + path for path in captions]
        table = pa.table({"url": urls, "caption": [*captions.values()]})
        pq.write_table(table, folder / "pairs.parquet")
        for name in ("near", "keep"):
            succeed(folder / "pairs.parquet", folder / name, *FLAGS, f"--duplicates={name}")
        yield Made(folder / "pairs.parquet", *(folder / name for name in Made._fields[1:]))


def path_of(url: str) -> tuple[str, str]:
    return tuple(url.rsplit("/", 2)[1:])


def training(out: Path) -> dict[str, tuple[str, str]]:
    """The images to train on, by key: which one, and which file of it."""
    return {row["key"]: path_of(row["url"]) for row in rows(out, "shards")}


def before_all(made: Made) -> set[tuple[str, str]]:
    """The files to train on, but for those of what falls."""
    there = set(training(made.keep).values())
    return {place for place in there if place[0] != "crowded" or place[1] == "alike"}


def left(out: Path) -> list[dict]:
    return [row for row in rows(out, "rejected") if row["reason"] == "duplicate_image"]


def test_of_each_photograph_the_best_is_left(made: Made):
    check_dataset(made.near)
    kept, before = training(made.near), training(made.keep)
    order = ("best", "worse", "smaller", "again", "framed")
    for seed in SEEDS:
        of_photo = [file for name, file in before.values() if name == f"photo{seed}"]
        best = {file for name, file in kept.values() if name == f"photo{seed}"}
        wanted = min(of_photo, key=order.index)
        # Of equal size, the one with the smaller key.
        wanted = {"best", "worse"} if wanted in order[:2] else {wanted}
        assert len(best) == 1
        assert best <= wanted
    near = [row for row in left(made.near) if row["detail"] in kept]
    assert len(near) == len(left(made.near))
    assert stored(made.near).items() <= stored(made.keep).items()
    sources = {key: path_of(url) for key, url in stored(made.keep).items()}
    for row in near:
        assert sources[row["key"]][0] == kept[row["detail"]][0]
        assert row["step"] == "copies"


def test_graphics_stay_and_are_counted_unless_their_alt_texts_are_equal(made: Made):
    kept = [place for place in training(made.near).values() if place[0].startswith("chart")]
    before = [place for place in training(made.keep).values() if place[0].startswith("chart")]
    alike = [file for name, file in before if name == "chart2"]
    assert len(before) - len(kept) == max(0, len(alike) - 1)
    told = funnel(made.near)["near_duplicates"]
    assert told["images"] == max(0, len([1 for name, _ in before if name == "chart1"]) - 1)
    contents = {(name, file.replace("again", "smaller")) for name, file in before_all(made)}
    assert sum(told["distances"]) == len(contents)
    page = (made.near / "report.html").read_text()
    # One of the two charts may be held out, by the port of the web.
    assert (f"{told['images']} graphic" in page) == (told["images"] > 0)
    assert "Distance to the nearest other image" in page


def test_nothing_leaves_for_an_image_that_leaves_itself(made: Made):
    kept = training(made.near).values()
    gone = {
        path_of(r["url"])
        for r in rows(made.near, "rejected")
        if r["reason"] == "image_with_too_many_texts"
    }
    assert {name for name, _ in gone} == {"crowded"}
    alike = {path for path in training(made.keep).values() if path == ("crowded", "alike")}
    assert alike <= set(kept)


def test_sidecars_say_how_images_look_only_where_that_is_asked_for(made: Made):
    by_key = {}
    for file in made.keep.glob("[sh]*/0*.parquet"):
        assert pq.read_schema(file).equals(SHARD_SCHEMA)
        by_key |= {row["key"]: row for row in pq.read_table(file).to_pylist()}
    for file in made.near.glob("[sh]*/0*.parquet"):
        assert pq.read_schema(file).names[-5:] == LOOK_SCHEMA.names
        for row in pq.read_table(file).to_pylist():
            if "/photo" in row["url"]:
                assert row["has_border"] == row["url"].endswith("framed")
            assert np.any(row["descriptor"])
            assert len(row["trimmed_phash"]) == 16
            assert {name: row[name] for name in SHARD_SCHEMA.names} == by_key[row["key"]]


def test_deduplicate_near_keeps_what_a_run_keeps(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture
):
    out = Path(shutil.copytree(made.keep, tmp_path / "set"))
    assert main([str(out), "--near", "--dry_run"]) == 0
    said = capsys.readouterr()
    assert "would leave: " in said.out
    assert re.search(r"looking at all images for near-duplicates: about \d+ core-second", said.err)
    assert digests(out) == digests(made.keep)
    assert main([str(out), "--near"]) == 0
    check_dataset(out)
    assert stored(out) == stored(made.near)
    why = {row["key"]: (row["detail"], row["thumbnail"]) for row in left(out)}
    assert why == {row["key"]: (row["detail"], row["thumbnail"]) for row in left(made.near)}
    (entry,) = manifest(out)["deduplications"]
    assert entry["near"] is True
    card = " ".join((out / "README.md").read_text().split())
    assert "photographs that look like a better one left. `rejected/`, in the folder" in card
    before = digests(out)
    assert main([str(out), "--near"]) == 0
    assert "nothing was changed" in capsys.readouterr().out
    assert digests(out) == before


def test_a_dropped_photograph_is_looked_at_beside_the_kept_one(made: Made, tmp_path: Path):
    near = [row for row in left(made.near) if row["thumbnail"]]
    again = [row for row in left(made.near) if not row["thumbnail"]]
    assert near
    assert {path_of(row["url"])[1] for row in again} <= {"again", "smaller"}  # equal files
    sheet = tmp_path / "sheet.html"
    assert look([str(made.near), "--reason=duplicate_image", f"--output={sheet}", "--n=60"]) == 0
    page = sheet.read_text()
    assert page.count(">dropped<") == len(near)
    assert page.count("data:image/jpeg") == page.count(">dropped<") + page.count(">kept<")
