"""A dataset that the steps for pipelines of others wrote is cleaned as one of the command is."""

from __future__ import annotations

import shutil
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import alignset
from alignset.pipeline.commands import takedown as main
from tests.runs.test_takedown import taken
from tests.support.agreement import check_ledgers, rows, samples, stored
from tests.support.command import digests
from tests.support.golden import TEXTS
from tests.support.made_batches import run_in_beam
from tests.support.picture_files import encoded, photograph
from tests.support.small_web import small_web

COUNT, LOST = 30, 27  # pairs, and from where on their images are not there
SMALL = 26  # whose image is too small, and has a thumbnail in rejected/
OPEN = {"language": "", "max_images_per_text": 10**9, "max_texts_per_image": 10**9}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    """A dataset of some shards, and the URLs of its images."""
    out = tmp_path_factory.mktemp("steps") / "set"
    with small_web() as web:
        web.files |= {f"/s/{n}": encoded(photograph(400 + n), "JPEG") for n in range(LOST)}
        web.files[f"/s/{SMALL}"] = encoded(photograph(400 + SMALL, 90, 90), "JPEG")
        urls = [f"{web.url}/s/{n}" for n in range(COUNT)]
        columns = [pa.array([*urls, urls[0]]), pa.array([*TEXTS[:COUNT], "dog"])]
        batch = pa.record_batch(columns, ["url", "caption"])

        def build(pipeline: beam.Pipeline) -> None:
            texts = pipeline | beam.Create([batch]) | alignset.FilterTexts(out, **OPEN)
            texts["kept"] | alignset.FetchImages(
                out,
                samples_per_shard=8,
                holdout=0.2,
                allow_private_addresses=True,
                max_unsafe_score=1,
                min_image_side=100,
                retries=0,
                thumbnails=99,
            )

        run_in_beam(build)
        yield out, urls


def words_of(out: Path) -> bytes:
    files = [path.read_bytes() for path in out.rglob("*") if path.is_file()]
    return b"\n".join([*files, str(rows(out, "*")).encode()])


def test_no_file_keeps_the_url_the_text_or_the_image(
    made: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out, urls = Path(shutil.copytree(made[0], tmp_path / "set")), made[1]
    plain = Path(shutil.copytree(out, tmp_path / "plain"))
    assert taken(plain, tmp_path, f"url:{urls[SMALL]}") == 0
    assert not [row for row in rows(plain, "rejected") if row["thumbnail"]]
    (out / "report.html").write_text("a report with an image of what is listed")
    (out / "report").mkdir()
    (out / "report/images-00000.thumbnails").write_bytes(b"of version 0.2")
    here = [urls.index(url) for url in stored(out).values()]
    asked = sorted({0, here[1], LOST, SMALL, *here[2:6]})
    assert [row["url"] for row in rows(out, "rejected") if row["thumbnail"]] == [urls[SMALL]]
    entries = [f"url:{urls[n]}" for n in asked]
    assert b"/s/0'" in words_of(out)
    before = digests(out)
    assert taken(out, tmp_path, *entries, flags=("--dry_run",)) == 0
    assert digests(out) == before
    keys = {key for key, url in stored(out).items() if urls.index(url) in asked}
    assert taken(out, tmp_path, *entries, flags=("--forget_blocked",)) == 0
    assert f"taken down: {len(keys)} pairs" in capsys.readouterr().out
    assert not keys & stored(out).keys()
    assert {f"{key:016x}" for key in np.fromfile(out / "taken_down.u64", "<u8")} >= keys
    gone = [row for row in rows(out, "rejected") if row["reason"] == "taken_down"]
    assert len(gone) == len(asked) + 1  # with the text that was dropped
    assert all(row["url"] is row["caption"] is row["thumbnail"] is None for row in gone)
    left = words_of(out)
    for n in asked:
        assert f"/s/{n}'".encode() not in left
        assert f'/s/{n}"'.encode() not in left
        if n:
            assert TEXTS[n].encode() not in left
    assert not [*out.glob("report*")]
    assert not (out / "_temporary").exists()
    for tar in (*out.glob("shards/*.tar"), *out.glob("holdout/*.tar")):
        rest = pq.read_table(tar.with_suffix(".parquet"))["key"].to_pylist()
        assert [sample["__key__"] for sample in samples(tar)] == rest
    check_ledgers(out)
    taken_images = [row for row in rows(out, "images") if row["reason"] == "taken_down"]
    assert len(taken_images) == len(asked)
    assert {name for row in taken_images for name, value in row.items() if value is not None} == {
        *("image", "reason", "detail")
    }
    assert taken(out, tmp_path, *entries) == 0
    assert "no pair of the dataset is on the list" in capsys.readouterr().out


def test_what_cannot_be_done_is_one_line(
    made: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = Path(shutil.copytree(made[0], tmp_path / "set"))
    (tmp_path / "l.txt").write_text(f"url:{made[1][3]}\n")
    blocklist = f"--blocklist={tmp_path / 'l.txt'}"
    before = digests(out)
    assert main([str(out), blocklist, "--reason=licence"]) == 2
    assert "leave --reason out" in capsys.readouterr().err
    work = out / "_temporary" / ("a" * 12) / "plan"
    work.mkdir(parents=True)
    (work / "0.parquet").write_bytes(b"")
    assert main([str(out), blocklist]) == 2
    assert "a pipeline is writing to" in capsys.readouterr().err
    shutil.rmtree(out / "_temporary")
    assert digests(out) == before
