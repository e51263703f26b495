"""What is on a blocklist is not in the dataset, and nothing is asked of a blocked host."""

import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import imagehash
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as PillowImage

from tests.support.agreement import rows
from tests.support.bad_web import bad_web
from tests.support.command import funnel, kept, manifest, run, succeed
from tests.support.golden import FLAGS, TEXTS
from tests.support.picture_files import encoded, photograph
from tests.support.small_web import SmallWeb, small_web

COUNT = 24
ROBOTS = "--robots_txt"


class Blocked(NamedTuple):
    """Pairs on two hosts, and lists that each of some kinds has an entry of."""

    good: SmallWeb
    bad: SmallWeb
    folder: Path
    expected: dict[str, str]  # detail by URL

    @property
    def source(self) -> Path:
        return self.folder / "pairs.parquet"

    @property
    def lists(self) -> str:
        return f"--blocklist=hosts.csv={self.folder}/hosts.csv,others.txt={self.folder}/others.txt"


def photo(number: int) -> bytes:
    return encoded(photograph(900 + number), "JPEG")


@pytest.fixture(scope="module")
def blocked(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("blocklist")
    with small_web() as good, small_web() as bad:
        good.files |= {f"/g/{n}": photo(n) for n in range(COUNT)}
        bad.files |= {f"/b/{n}": photo(50 + n) for n in range(3)}
        named = bad.url.replace("127.0.0.1", "localhost")
        urls = [f"{good.url}/g/{n}" for n in range(COUNT)] + [f"{named}/b/{n}" for n in range(3)]
        texts = [*TEXTS[:COUNT], *TEXTS[30:33]]
        texts[3] = "a photo of a forbidden word in the garden"
        pq.write_table(pa.table({"url": urls, "caption": texts}), folder / "pairs.parquet")
        (folder / "hosts.csv").write_text("host,why\nlocalhost,asked for it\n")
        phash = imagehash.phash(PillowImage.open(io.BytesIO(photo(6))))
        lines = {
            1: f"url:{urls[1]}",
            2: f"prefix:{good.url}/g/2?",
            3: "text:Forbidden WORD",
            4: f"sha256:{hashlib.sha256(photo(4)).hexdigest()}",
            5: f"md5:{hashlib.md5(photo(5)).hexdigest()}",
            6: f"phash:{phash}",
        }
        (folder / "others.txt").write_text("\n".join(lines.values()))
        hits = {urls[n]: f"others.txt:{line.partition(':')[0]}" for n, line in lines.items()}
        del hits[urls[2]]  # a prefix that is longer than the URL
        hits |= dict.fromkeys(urls[COUNT:], "hosts.csv:host")
        yield Blocked(good, bad, folder, hits)


@pytest.fixture(scope="module")
def found(blocked: Blocked, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("found") / "set"
    succeed(blocked.source, out, *FLAGS, ROBOTS, blocked.lists)
    return out


def test_planted_matches_are_dropped_and_a_blocked_host_is_never_asked(
    blocked: Blocked, found: Path
) -> None:
    out = found
    assert {row["url"]: row["detail"] for row in rows(out, "rejected")} == blocked.expected
    assert {row["reason"] for row in rows(out, "rejected")} == {"blocked"}
    assert {row["detail"].partition(":")[2]: row["step"] for row in rows(out, "rejected")} == {
        **dict.fromkeys(("host", "url", "text"), "blocklist"),
        **dict.fromkeys(("sha256", "md5", "phash"), "blocked_images"),
    }
    assert all(row["thumbnail"] is None for row in rows(out, "rejected"))
    assert len(kept(out)) == COUNT + 3 - len(blocked.expected)
    assert blocked.bad.requests == []  # not even its robots.txt
    assert not {"/g/1", "/g/3"} & {*blocked.good.requests}
    assert "/g/4" in blocked.good.requests
    dropped = {step["step"]: step["dropped"] for step in funnel(out)["steps"]}
    assert dropped["blocklist"] == {"removed_before": 0, "blocked": 5}
    assert dropped["blocked_images"] == {"blocked": 3}
    said = manifest(out)["blocklists"]
    assert [entry["name"] for entry in said] == ["hosts.csv", "others.txt"]
    body = (blocked.folder / "others.txt").read_bytes()
    assert said[1]["sha256"] == hashlib.sha256(body).hexdigest()
    assert said[1]["entries"]["phash"] == 1
    assert "hosts.csv" in (out / "README.md").read_text()
    assert not (out / "_temporary").exists()


def test_a_redirect_to_a_blocked_host_is_not_followed(tmp_path: Path) -> None:
    with bad_web() as web, small_web() as there:
        there.files["/a"] = photo(1)
        target = there.url.replace("127.0.0.1", "localhost")
        urls = [
            f"{web.url}/to/{to.replace('/', '%2F')}" for to in (f"{target}/a", f"{there.url}/a")
        ]
        columns = {"url": urls, "caption": TEXTS[:2]}
        pq.write_table(pa.table(columns), tmp_path / "pairs.parquet")
        (tmp_path / "hosts.txt").write_text("host:localhost\n")
        lists = f"--blocklist=hosts.txt={tmp_path}/hosts.txt"
        succeed(tmp_path / "pairs.parquet", tmp_path / "set", *FLAGS, ROBOTS, lists)
        assert [row["url"] for row in rows(tmp_path / "set", "rejected")] == urls[:1]
        assert rows(tmp_path / "set", "rejected")[0]["detail"] == "hosts.txt:host"
        assert there.requests.count("/a") == 1
        assert [fate.url for fate in kept(tmp_path / "set")] == urls[1:]


def test_rows_may_be_left_without_what_they_tell(blocked: Blocked, tmp_path: Path) -> None:
    out = tmp_path / "set"
    succeed(blocked.source, out, *FLAGS, blocked.lists, "--forget_blocked")
    found = rows(out, "rejected")
    assert len(found) == len(blocked.expected)
    for row in found:
        assert row["key"]
        assert row["url"] is row["caption"] is row["page_url"] is None
    from alignset.pipeline.look.__main__ import main as look

    assert look([str(out), "--reason=blocked", f"--output={tmp_path}/look.html"]) == 0
    again = tmp_path / "again"
    succeed(out, again, *FLAGS, "--min_image_side=101", "--also_rejected=all")
    assert len(kept(again)) == len(kept(out))  # `all` does not bring them back


def test_another_list_is_another_run(blocked: Blocked, found: Path) -> None:
    ended = succeed(blocked.source, found, *FLAGS, ROBOTS, blocked.lists)
    assert "is finished: nothing to do" in ended.err
    for lists in ((), (f"--blocklist={blocked.folder}/hosts.csv",)):
        ended = run(blocked.source, found, *FLAGS, ROBOTS, *lists)
        assert ended.status == 2
        assert "other blocklists" in ended.err


@pytest.mark.slow
def test_a_retry_asks_the_lists_that_it_is_given(blocked: Blocked, tmp_path: Path) -> None:
    out, web = tmp_path / "set", blocked.good
    lost = {path: web.files.pop(path) for path in ("/g/7", "/g/8", "/g/9")}
    try:
        succeed(blocked.source, out, *FLAGS, blocked.lists)
    finally:
        web.files |= lost
    before, retry = len(kept(out)), "--retry_failed=all"
    assert "other blocklists" in run(blocked.source, out, *FLAGS, retry).err
    longer = tmp_path / "longer.txt"
    entries = [f"url:{web.url}/g/7", f"sha256:{hashlib.sha256(photo(8)).hexdigest()}"]
    longer.write_text("\n".join([(blocked.folder / "others.txt").read_text(), *entries]))
    asked = len(web.requests)
    succeed(blocked.source, out, *FLAGS, f"--blocklist=longer.txt={longer}", retry)
    assert len(kept(out)) == before + 1
    assert sorted(web.requests[asked:]) == ["/g/8", "/g/9"]
    details = {row["url"]: row["detail"] for row in rows(out, "rejected")}
    assert details[f"{web.url}/g/7"] == "longer.txt:url"
    assert details[f"{web.url}/g/8"] == "longer.txt:sha256"
    (retried,) = manifest(out)["retries"]
    assert [entry["name"] for entry in retried["blocklists"]] == ["longer.txt"]
    stats = [json.loads(path.read_text()) for path in out.glob("shards/*_stats.json")]
    assert sum(of["reasons"].get("blocked", 0) for of in stats) == 3 + 2
    shutil.rmtree(out)
