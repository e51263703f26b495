"""Whole runs on object stores: the same bytes as on this machine, also where a store fails."""

import re
import shutil
import time
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest

from alignset.pipeline import progress
from alignset.pipeline.commands import takedown as take_down
from tests.support.command import digests, manifest, run, succeed
from tests.support.golden_run import Golden
from tests.support.small_web import SmallWeb
from tests.support.stores import Store, chosen_store, faulty_proxy

pytestmark = pytest.mark.slow
DIFFERENT = ("manifest.json",)  # it names the input


@pytest.fixture(params=["s3", "gs"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Store:
    return chosen_store(request, monkeypatch)


class Local(NamedTuple):
    """The input and the evaluation images of the runs here, and what they give on this machine."""

    folder: Path
    flags: tuple[str, ...]


STRICTER = ("--language=", "--min_image_side=100", "--max_words=12", "--samples_per_shard=50")


@pytest.fixture(scope="module")
def local(plain: Golden, web: SmallWeb, tmp_path_factory: pytest.TempPathFactory) -> Local:
    folder = tmp_path_factory.mktemp("local")
    shutil.copytree(plain.pairs.parent, folder, dirs_exist_ok=True)
    shutil.rmtree(folder / "set")
    (folder / "exam").mkdir()
    kept = [pq.read_table(file)["url"] for file in plain.output.glob("shards/*.parquet")]
    # By its path: the order of the pairs follows from the port too, and some have near copies.
    path = min(url.removeprefix(web.url) for urls in kept for url in urls.to_pylist())
    (folder / "exam" / "1.jpg").write_bytes(web.files[path])
    exam = f"--eval_images=exam={folder}/exam"
    succeed(folder / "pairs.parquet", folder / "set", *plain.flags, exam)
    succeed(folder / "set", folder / "stricter", *STRICTER, f"--vocabulary={folder}/set")
    return Local(folder, plain.flags)


def test_all_in_a_store(store: Store, local: Local, tmp_path: Path):
    """Input, evaluation images and output; then another rule over what is stored."""
    root = store.root
    for name in ("pairs.parquet", "exam/1.jpg"):
        store.upload(local.folder / name, f"{root}/{name}")
    flags = (*local.flags, f"--eval_images=exam={root}/exam", *store.flags)
    succeed(f"{root}/pairs.parquet", f"{root}/set", *flags)
    got = store.download(f"{root}/set", tmp_path / "set")
    assert digests(got, DIFFERENT) == digests(local.folder / "set", DIFFERENT)
    for name in ("rules", "shards", "vocabulary", "evaluation_images", "pairs"):
        assert manifest(got)[name] == manifest(local.folder / "set")[name]
    again = run(f"{root}/pairs.parquet", f"{root}/set", *flags)
    assert (again.status, again.err.count("\n")) == (0, 1)
    assert "is finished: nothing to do" in again.err

    kept = f"--vocabulary={root}/set"
    succeed(f"{root}/set", f"{root}/stricter", *STRICTER, kept, *store.flags)
    got = store.download(f"{root}/stricter", tmp_path / "stricter")
    differ = (*DIFFERENT, "history/00/manifest.json")
    assert digests(got, differ) == digests(local.folder / "stricter", differ)
    assert (got / "history/00/manifest.json").exists()
    assert 0 < manifest(got)["pairs"] < manifest(local.folder / "set")["pairs"]

    (tmp_path / "list.txt").write_text(f"url:{kept_urls(local.folder / 'set')[0]}\n")
    here = shutil.copytree(local.folder / "set", tmp_path / "here")
    for out in (here, f"{root}/set"):
        assert take_down([str(out), f"--blocklist={tmp_path}/list.txt"]) == 0
    got = store.download(f"{root}/set", tmp_path / "taken")
    assert digests(got, DIFFERENT) == digests(here, DIFFERENT)
    assert kept_urls(got) == kept_urls(local.folder / "set")[1:]


def kept_urls(out: Path) -> list[str]:
    tables = [pq.read_table(file, columns=["url"]) for file in out.glob("shards/*.parquet")]
    return sorted(url for table in tables for url in table["url"].to_pylist())


def test_nothing_is_listed_in_a_loop(s3: Store, local: Local, monkeypatch: pytest.MonkeyPatch):
    """Eleven shards cost no more listings than six, but for one of the attempts at each."""
    monkeypatch.setattr(progress, "LISTED_S", float("inf"))  # or a slow machine lists more often
    table = pq.read_table(local.folder / "pairs.parquet")
    for n in range(6):
        part = table.slice(n * len(table) // 6, len(table) // 6)
        pq.write_table(part, local.folder / "part.parquet")
        s3.upload(local.folder / "part.parquet", f"{s3.root}/parts/{n}.parquet")
    listings = []
    for size, least in ((25, 5), (13, 10)):
        with faulty_proxy(s3) as (proxy, store):
            out = f"{s3.root}/of{size}"
            flags = [f for f in local.flags if "samples_per_shard" not in f]
            succeed(f"{s3.root}/parts", out, *flags, f"--samples_per_shard={size}", *store.flags)
            assert len([key for key in s3.keys(out) if key.endswith(".tar")]) >= least
            shards = [key for key in s3.keys(out) if key.endswith("_stats.json")]
            of_shard = [path for path in proxy.listings() if re.search(r"attempts%2F\d", path)]
            assert len(of_shard) == len(shards)
            listings.append(len(proxy.listings()) - len(of_shard))
            # The images of the report are found by some reads of a tar. Six shards of 25 pairs and
            # their rejects took 818.
            assert len(proxy.requests) < 900 + 80 * (size < 25) * 6, len(proxy.requests)
    # The input, whether the output is empty, the shards as the image stage begins and ends, what
    # leaves, attempts that were killed, the folders as shards are renumbered, counted and
    # described, what is cleaned up at the end, and the report's: by folder.
    assert listings[0] == listings[1] <= 36, listings


def test_a_store_that_fails_for_a_while(s3: Store, plain: Golden, tmp_path: Path):
    """In both stages, and once for longer than boto3 tries."""
    out = f"{s3.root}/failing"
    bursts = {503: range(20, 23), 500: range(45, 52), "cut": range(70, 73)}
    with faulty_proxy(s3) as (proxy, store):

        def fault(*_: str) -> int | str | None:
            at = len(proxy.requests)
            return next((kind for kind, when in bursts.items() if at in when), None)

        proxy.fault = fault
        ended = run(plain.pairs, out, *plain.flags, *store.flags)
        assert ended.status == 0, ended.err
        assert len(proxy.failed) > 9
    assert "Traceback" not in ended.err
    assert digests(s3.download(out, tmp_path / "got")) == digests(plain.output)


def test_a_store_that_stays_down_ends_with_one_line(
    s3: Store, plain: Golden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What was done stays; started again, it goes on to the same bytes."""
    out = f"{s3.root}/down"
    monkeypatch.setattr("time.sleep", quickly(time.sleep))
    with faulty_proxy(s3) as (proxy, store):
        proxy.fault = lambda method, path: 503 if "shards/" in path and method == "PUT" else None
        ended = run(plain.pairs, out, *plain.flags, *store.flags)
    assert ended.status == 1
    lines = ended.err.splitlines()
    assert [line for line in lines if line.startswith("beam_runner.py: failed: ")] == lines[-1:]
    assert "SlowDown" in lines[-1]
    assert "the same command tries again from here" in lines[-1]
    assert "Traceback" not in ended.err
    assert not [key for key in s3.keys(out) if key.startswith("shards/")]
    ended = succeed(plain.pairs, out, *plain.flags, *s3.flags)
    assert "waiting" not in ended.err, "the lock tells that its holder has let go"
    assert digests(s3.download(out, tmp_path / "got")) == digests(plain.output)


def quickly(sleep):
    """Minutes of waiting for a store, in moments."""
    return lambda seconds: sleep(min(seconds, 0.01))
