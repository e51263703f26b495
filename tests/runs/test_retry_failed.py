"""What failed is fetched again and joins the same dataset, of which no finished byte changes."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.agreement import check_dataset
from tests.support.command import digests, fates, funnel, kept, manifest, rejected, run, succeed
from tests.support.golden import FLAGS, TEXTS
from tests.support.picture_files import encoded, photograph
from tests.support.small_web import SmallWeb, small_web

COUNT = 120
AGAIN = "--retry_failed=all"  # what is lost is a 404 here
LOST = range(0, COUNT, 3)  # whose images are not there at first


class Half(NamedTuple):
    """A finished run in which every third image could not be fetched."""

    web: SmallWeb
    source: Path
    output: Path


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("retry")
    with small_web() as web:
        urls = [f"{web.url}/r/{n}" for n in range(COUNT)]
        pq.write_table(pa.table({"url": urls, "caption": TEXTS[:COUNT]}), folder / "pairs.parquet")
        web.files |= {f"/r/{n}": body(n) for n in range(COUNT) if n not in LOST}
        succeed(folder / "pairs.parquet", folder / "set", *FLAGS)
        for n in LOST[:-4]:
            web.files[f"/r/{n}"] = body(n)
        web.files[f"/r/{LOST[-4]}"] = b"<html>"  # fetched, and no image: the last three stay lost
        yield Half(web, folder / "pairs.parquet", folder / "set")


class Whole(NamedTuple):
    """The same dataset after a retry that nothing disturbed, and what it asked for. Not to be
    changed: what goes on from it does so in a copy."""

    output: Path
    asked: list[str]


@pytest.fixture(scope="module")
def whole(half: Half, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    output, already = tmp_path_factory.mktemp("whole") / "set", len(half.web.requests)
    retried(half, output)
    return Whole(output, half.web.requests[already:])


def body(number: int) -> bytes:
    return encoded(photograph(500 + number), "JPEG")


def retried(half: Half, output: Path, *flags: str) -> None:
    shutil.copytree(half.output, output)
    succeed(half.source, output, *FLAGS, AGAIN, *flags)


def test_what_is_there_now_joins_and_nothing_finished_changes(half: Half, whole: Whole):
    out, before, after = whole.output, digests(half.output), digests(whole.output)
    check_dataset(out)
    assert Counter(whole.asked) == Counter(f"/r/{n}" for n in LOST)  # only what failed, once
    shards = {name for name in before if name.startswith("shards/")}
    assert shards
    assert {name: after[name] for name in shards} == {name: before[name] for name in shards}
    assert after.keys() > before.keys()
    assert Counter(f.url for f in fates(out).elements()) == Counter(
        f"{half.web.url}/r/{n}" for n in range(COUNT)
    )
    assert Counter((f.reason, f.detail) for f in rejected(out)) == {
        ("fetch_failed", "http_404"): 3,
        ("not_an_image", "html"): 1,
    }
    counted, said = funnel(out), manifest(out)
    assert (counted["fetch"]["tried"], counted["fetch"]["failed"]) == (COUNT, 3)
    [host] = counted["fetch"]["hosts"]
    assert (host["host"], host["failed"]) == (half.web.url.removeprefix("http://"), 3)
    [entry] = said["retries"]
    assert (entry["tried"], entry["kept"]) == (len(LOST), len(LOST) - 4)
    assert entry["shards"] == [len(manifest(half.output)["shards"]), len(said["shards"]) - 1]


def test_a_second_retry_goes_on_from_the_first(half: Half, whole: Whole, tmp_path: Path):
    out = shutil.copytree(whole.output, tmp_path / "set")
    first = digests(out)
    path = f"/r/{LOST[-1]}"
    half.web.files[path] = body(LOST[-1])
    try:
        succeed(half.source, out, *FLAGS, AGAIN, "--user_agent=another (me@example.org)")
    finally:
        del half.web.files[path]
    after = digests(out)
    finished = {name for name in first if name.startswith("shards/")}
    assert {name: after[name] for name in finished} == {name: first[name] for name in finished}
    assert len(kept(out)) == funnel(out)["pairs"] == COUNT - 3
    assert [entry["tried"] for entry in manifest(out)["retries"]] == [len(LOST), 3]
    assert sum(step["dropped"].get("fetch_failed", 0) for step in funnel(out)["steps"]) == 2


def test_what_a_command_that_ended_left_is_not_taken_for_the_next(
    half: Half, whole: Whole, tmp_path: Path
):
    """`clean` was killed when change.json was gone and the rest was not."""
    out = shutil.copytree(whole.output, tmp_path / "set")
    first, last = manifest(out)["retries"][0]["shards"]
    (out / "_temporary").mkdir()
    plan = {"rows_read": 1, "counts": {}, "shards": dict.fromkeys(range(first, last + 1), 1)}
    (out / "_temporary/text.json").write_text(json.dumps(plan))
    (out / "_temporary/renumbered.json").write_text(json.dumps({"moves": [[first, last]]}))
    (out / "_temporary/images.json").write_text("{}")
    succeed(half.source, out, *FLAGS, AGAIN)
    assert [entry["tried"] for entry in manifest(out)["retries"]] == [len(LOST), 3]
    assert Counter(fate.reason for fate in rejected(out))["fetch_failed"] == 3


def test_without_a_run_or_its_rows_nothing_is_changed(half: Half, tmp_path: Path):
    """As in a dataset that was downloaded: no other command may have to wait for this one."""
    ended = run(half.source, tmp_path / "none", *FLAGS, AGAIN)
    assert ended.status == 2
    assert "holds no finished run" in ended.err
    assert not (tmp_path / "none").exists()
    out = Path(shutil.copytree(half.output, tmp_path / "set"))
    shutil.rmtree(out / "rejected")
    before = digests(out)
    ended = run(half.source, out, *FLAGS, AGAIN)
    assert ended.status == 2
    assert "rejected/images-00000.parquet is missing, which has the failed" in ended.err
    assert digests(out) == before
    assert not (out / "_temporary").exists()
