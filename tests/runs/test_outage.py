"""Where images cannot be had the command says so, and what is fetched later makes a whole
dataset."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.documents import describe
from tests.support.command import (
    funnel,
    grow,
    keep_too_little,
    kept,
    manifest,
    rejected,
    run,
    succeed,
)
from tests.support.golden import FLAGS, TEXTS
from tests.support.picture_files import encoded, photograph
from tests.support.small_web import SmallWeb, small_web

COUNT = 40
SMALL = "--samples_per_shard=10"
PRIVATE = "--allow_private_addresses"
RULES = [flag for flag in FLAGS if flag != PRIVATE]


@pytest.fixture(scope="module")
def web():
    with small_web() as web:
        for n in range(COUNT):
            web.files[f"/o/{n}"] = encoded(photograph(900 + n), "JPEG")
        yield web


@pytest.fixture
def source(web: SmallWeb, tmp_path: Path) -> Path:
    urls = [f"{web.url}/o/{n}" for n in range(COUNT)]
    pq.write_table(pa.table({"url": urls, "caption": TEXTS[:COUNT]}), tmp_path / "pairs.parquet")
    return tmp_path / "pairs.parquet"


def tars(output: Path) -> list[str]:
    return sorted(path.name for path in output.glob("shards/*.tar"))


def without_a_gap(output: Path) -> bool:
    names = tars(output)
    return names == [f"{number:05d}.tar" for number in range(len(names))]


def test_nothing_fetched_and_then_all(web: SmallWeb, source: Path, tmp_path: Path, monkeypatch):
    out = tmp_path / "set"
    last = keep_too_little(source, out, *RULES, SMALL)
    assert f"0 of {COUNT} pairs were kept: {COUNT} fetches failed with forbidden_address" in last
    assert "--allow_private_addresses" in last
    assert "--retry_failed" in last
    assert tars(out) == [] == list(out.glob("shards/*.parquet"))
    assert len(list(out.glob("shards/*_stats.json"))) == len(manifest(out)["shards"]) > 1
    assert "shards/*.tar" not in (out / "README.md").read_text()
    assert keep_too_little(source, out, *RULES, SMALL) == last  # it stays so

    refused = run(source, out, *RULES, SMALL, PRIVATE)
    assert refused.status == 2
    assert "allow_private_addresses False there, True here" in refused.err
    assert "to fetch again what failed there, pass it to alignset grow" in refused.err
    refused = run(source, out, *RULES, SMALL, "--retry_failed")
    assert refused.status == 2
    assert f"alignset grow {out} --retry_failed --output=NEW" in refused.err
    new = tmp_path / "new"
    with monkeypatch.context() as patched:  # killed when shards have their new numbers
        patched.setattr(describe, "dataset_card", None)
        assert grow(out, new, PRIVATE, "--retry_failed").status == 1
    already = len(web.requests)
    assert grow(out, new, PRIVATE, "--retry_failed").status == 0
    assert web.requests[already:] == []
    assert len(kept(new)) == funnel(new)["pairs"] == COUNT
    assert without_a_gap(new)
    grown = manifest(new)["grown"]
    assert (grown["joined"], grown["left"], grown["fetched"]) == (COUNT, {}, COUNT)


@pytest.mark.slow
def test_only_what_is_worth_it_is_tried_again(web: SmallWeb, source: Path, tmp_path: Path):
    out = tmp_path / "set"
    gone = web.files.pop("/o/3")
    try:
        table = pq.read_table(source)
        closed = "http://127.0.0.1:2/o/none"
        urls = pa.array([*table["url"].to_pylist(), closed])
        captions = pa.array([*table["caption"].to_pylist(), TEXTS[COUNT]])
        pq.write_table(pa.table({"url": urls, "caption": captions}), source)
        ended = succeed(source, out, *FLAGS)
        assert run(source, out, *FLAGS, "--max_failed_share=0.05").status == 0
        ended_badly = run(source, out, *FLAGS, "--max_failed_share=0.04")
        assert ended_badly.status == 1
        assert "2 of 41 fetches failed, more than --max_failed_share=0.04" in ended_badly.err
        said = f"alignset grow {out} --retry_failed --output=NEW tries 1 failed fetches again"
        assert said in ended.err
    finally:
        web.files["/o/3"] = gone
    before = len(web.requests)
    first, second = tmp_path / "first", tmp_path / "second"
    ended = grow(out, first, PRIVATE, "--retries=0", "--retry_failed")
    assert f"done: {first}: 0 pairs joined, 0 left; 0 images fetched, 40 known" in ended.err
    assert web.requests[before:] == []  # a 404 is not tried again
    assert funnel(first)["fetch"]["details"] == {"http_404": 1, "refused": 1}
    assert {host["failed"] for host in funnel(first)["fetch"]["hosts"]} == {1}
    assert len(funnel(first)["fetch"]["hosts"]) == 2
    again = "--retry_failed=timeout,http_404"
    assert grow(first, second, PRIVATE, "--retries=0", again).status == 0
    assert web.requests[before:] == ["/o/3"]
    assert [(fate.reason, fate.detail) for fate in rejected(second)] == [
        ("fetch_failed", "refused")
    ]
    assert funnel(second)["fetch"]["details"] == {"refused": 1}
    assert manifest(second)["grown"]["known"] == COUNT

    wrong = run(source, out, *FLAGS, "--retry_failed=dsn")
    assert wrong.status == 2
    assert re.search(r"retry_failed must be all, or details .* dns, .* got 'dsn'", wrong.err)
