"""`--holdout` sets pairs aside by their images: the same ones on every way to the same dataset."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset

from alignset.pipeline.job import Job
from alignset.transforms.pairs.hold_out import held_out
from tests.support.command import digests, funnel, kept, manifest, rejected, run, succeed
from tests.support.golden import FLAGS, TEXTS
from tests.support.picture_files import encoded, photograph
from tests.support.small_web import SmallWeb, small_web

COUNT = 72
SHARE = 0.25
HOLDOUT = f"--holdout={SHARE}"
SMALL = "--samples_per_shard=8"


@pytest.fixture(scope="module")
def web():
    with small_web() as web:
        for n in range(COUNT):
            web.files[f"/h/{n}"] = encoded(photograph(1200 + n), "JPEG")
        yield web


@pytest.fixture(scope="module")
def source(web: SmallWeb, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each image with two texts."""
    folder = tmp_path_factory.mktemp("holdout")
    urls = [f"{web.url}/h/{n % COUNT}" for n in range(2 * COUNT)]
    pq.write_table(pa.table({"url": urls, "caption": TEXTS[: 2 * COUNT]}), folder / "pairs.parquet")
    return folder / "pairs.parquet"


def urls_of(folder: Path) -> set[str]:
    tables = [pq.read_table(path) for path in folder.glob("*.parquet")]
    return {url for table in tables for url in table["url"].to_pylist()}


def expected(web: SmallWeb, share: float) -> set[str]:
    urls = pa.array([f"{web.url}/h/{n}" for n in range(COUNT)])
    return set(urls.filter(pa.array(held_out(urls, share))).to_pylist())


def test_images_are_on_one_side_with_all_their_texts(web: SmallWeb, source: Path, tmp_path: Path):
    out = tmp_path / "set"
    succeed(source, out, *FLAGS, SMALL, HOLDOUT)
    assert urls_of(out / "holdout") == expected(web, SHARE)
    assert urls_of(out / "shards") == {f"{web.url}/h/{n}" for n in range(COUNT)} - expected(
        web, SHARE
    )
    said, counted = manifest(out), funnel(out)
    assert counted["pairs"] == said["pairs"] == 2 * COUNT
    assert counted["holdout"] == 2 * len(expected(web, SHARE))
    for folder in ("shards", "holdout"):
        names = sorted(path.stem for path in out.glob(f"{folder}/*.tar"))
        assert names == [f"{number:05d}" for number in range(len(names))] == sorted(said[folder])
        assert len(names) > 1
        assert {f"{folder}/{n}.tar": s["sha256"] for n, s in said[folder].items()} == {
            name: digest
            for name, digest in digests(out).items()
            if name.startswith(folder) and name.endswith(".tar")
        }
    tars = [str(path) for path in sorted(out.glob("holdout/*.tar"))]
    samples = list(webdataset.WebDataset(tars, shardshuffle=False))
    assert len(samples) == counted["holdout"]


@pytest.mark.slow
def test_what_could_not_be_fetched_joins_its_own_side(web: SmallWeb, source: Path, tmp_path: Path):
    out, lost = tmp_path / "set", {}
    for n in range(0, COUNT, 3):
        lost[f"/h/{n}"] = web.files.pop(f"/h/{n}")
    try:
        succeed(source, out, *FLAGS, SMALL, HOLDOUT)
    finally:
        web.files |= lost
    assert len(rejected(out)) == 2 * len(lost)
    before = digests(out)
    succeed(source, out, *FLAGS, SMALL, HOLDOUT, "--retry_failed=all")
    assert urls_of(out / "holdout") == expected(web, SHARE)
    assert rejected(out) == []
    assert len(kept(out)) + len(urls_of(out / "holdout")) * 2 == 2 * COUNT
    assert funnel(out)["holdout"] == 2 * len(expected(web, SHARE))
    tars = {name: digest for name, digest in before.items() if name.endswith(".tar")}
    assert {name: digests(out)[name] for name in tars} == tars


@pytest.mark.slow
def test_what_a_set_holds_out_comes_back_only_where_it_is_held_out_again(
    web: SmallWeb, source: Path, tmp_path: Path
):
    first, pairs = tmp_path / "sets" / "first", tmp_path / "pairs.parquet"
    table = pq.read_table(source).slice(0, COUNT)
    short = pa.table({"url": table["url"], "caption": [f"the red dog {n}" for n in range(COUNT)]})
    pq.write_table(pa.concat_tables([table, short]), pairs)
    succeed(pairs, first, *FLAGS, "--min_words=5", HOLDOUT)
    held = expected(web, SHARE)
    assert any(fate.url in held for fate in rejected(first))
    loose = ("--also_rejected=too_few_words", "--min_words=3")
    ended = run(first, tmp_path / "a", *FLAGS, *loose)
    assert ended.status == 2
    assert f"pass --holdout={SHARE} too" in ended.err
    succeed(first, tmp_path / "a", *FLAGS, *loose, HOLDOUT)
    assert urls_of(tmp_path / "a/holdout") == held
    assert not urls_of(tmp_path / "a/shards") & held
    before = len(web.requests)
    for number, name in enumerate(("sets", "sets/first", "sets/*/shards/*.tar", "sets/**")):
        out = tmp_path / f"again-{number}"
        succeed(tmp_path / name, out, *FLAGS)
        assert urls_of(out / "shards") == urls_of(first / "shards")
        assert (out / "history/00/manifest.json").exists()
    assert web.requests[before:] == []
    succeed(first / "holdout", tmp_path / "named", *FLAGS)  # it was asked for
    assert urls_of(tmp_path / "named/shards") == urls_of(first / "holdout")


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan"), float("inf")])
def test_what_it_cannot_be(share: float):
    with pytest.raises(ValueError, match="holdout must be a share below 1"):
        Job(input="a", output="b", holdout=share)
