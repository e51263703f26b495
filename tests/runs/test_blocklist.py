"""What is on a blocklist is not in the dataset, and nothing is asked of a blocked host."""

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.commands import look
from tests.support.agreement import rows, stored
from tests.support.bad_web import bad_web
from tests.support.command import funnel, kept, manifest, run, succeed
from tests.support.described_sets import LISTS, LOST, DescribedSets, main, photo
from tests.support.golden import FLAGS, TEXTS
from tests.support.small_web import small_web


def blocked_rows(out: Path) -> list[dict]:
    return [row for row in rows(out, "rejected") if row["reason"] == "blocked"]


def test_planted_matches_are_dropped_and_a_blocked_host_is_never_asked(
    described: DescribedSets,
) -> None:
    out = described.find("all")
    found, asked = blocked_rows(out), described.asked["all"]
    assert {row["url"]: row["detail"] for row in found} == described.blocked
    assert {row["detail"].partition(":")[2]: row["step"] for row in found} == {
        **dict.fromkeys(("host", "url", "text"), "blocklist"),
        **dict.fromkeys(("sha256", "md5", "phash"), "blocked_images"),
    }
    assert all(row["thumbnail"] is None for row in found)
    assert not {path for path in asked if path.startswith(("/host/", "/listed"))}
    assert "/sha256" in asked
    dropped = {step["step"]: step["dropped"] for step in funnel(out)["steps"]}
    assert dropped["blocklist"] == {"removed_before": 0, "blocked": len(found) - 3}
    assert dropped["blocked_images"] == {"blocked": 3}
    said = manifest(out)["blocklists"]
    assert [entry["name"] for entry in said] == ["list.txt", "hosts.csv"]
    body = (described.at / "list.txt").read_bytes()
    assert said[0]["sha256"] == hashlib.sha256(body).hexdigest()
    assert said[0]["entries"]["phash"] == 1
    assert "hosts.csv" in (out / "README.md").read_text()


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
        succeed(tmp_path / "pairs.parquet", tmp_path / "set", *FLAGS, "--robots_txt", lists)
        assert [row["url"] for row in rows(tmp_path / "set", "rejected")] == urls[:1]
        assert rows(tmp_path / "set", "rejected")[0]["detail"] == "hosts.txt:host"
        assert there.requests.count("/a") == 1
        assert [fate.url for fate in kept(tmp_path / "set")] == urls[1:]


def test_rows_may_be_left_without_what_they_tell(described: DescribedSets, tmp_path: Path) -> None:
    out = described.find("blocked forgotten")
    found = blocked_rows(out)
    assert len(found) == len(described.blocked)
    for row in found:
        assert row["key"]
        assert row["url"] is row["caption"] is row["page_url"] is None
    assert look([str(out), "--reason=blocked", f"--output={tmp_path}/look.html"]) == 0
    refused = run(out, tmp_path / "again", *FLAGS, "--holdout=0.2")
    assert refused.status == 2
    assert "pairs on the blocklists of" in refused.err
    lists = LISTS.format(at=described.at)
    succeed(out, tmp_path / "again", *FLAGS, "--holdout=0.2", lists)
    forgotten = described.blocked.keys() - {f"{described.web.url}/14"}  # which has another text
    assert not forgotten & {*stored(tmp_path / "again").values()}


def with_lists(described: DescribedSets, name: str, out: Path, lists: str) -> list[str]:
    """The command of a dataset with other blocklists."""
    own = LISTS.format(at=described.at)
    return [lists if word == own else word for word in described.words(name, out)]


def test_another_list_is_another_run(
    described: DescribedSets, capsys: pytest.CaptureFixture[str]
) -> None:
    out = described.find("all")
    assert main(*described.words("all", out)) == 0
    assert "is finished: nothing to do" in capsys.readouterr().err
    for lists in ("--blocklist=", f"--blocklist={described.at}/hosts.csv"):
        assert main(*with_lists(described, "all", out, lists)) == 2
        assert "other blocklists" in capsys.readouterr().err


def test_what_is_asked_for_again_is_asked_of_a_longer_list(
    described: DescribedSets, tmp_path: Path
) -> None:
    source, out = described.find("all"), tmp_path / "set"
    web, (first, second, *others) = described.web, LOST
    longer = tmp_path / "longer.txt"
    entries = [f"url:{web.url}/{first}", f"sha256:{hashlib.sha256(photo(second)).hexdigest()}"]
    longer.write_text("\n".join([(described.at / "list.txt").read_text(), *entries]))
    described.set_web("all again")
    words = described.words("all again", out)
    hosts = f"hosts.csv={described.at}/hosts.csv"
    words = [word for word in words if not word.startswith("--blocklist")]
    lists = f"--blocklist=longer.txt={longer},{hosts}"
    assert main(*words, f"--blocklist={hosts}") == 2
    asked = len(web.requests)
    assert main(*words, lists, "--lists_changed") == 0
    joined = {*stored(out).values()} - {*stored(source).values()}
    assert {f"{web.url}/{n}" for n in others} <= joined
    assert not {f"{web.url}/{n}" for n in (first, second)} & {*stored(out).values()}
    assert {f"/{n}" for n in (second, *others)} <= {*web.requests[asked:]}
    assert f"/{first}" not in web.requests[asked:]
    details = {row["url"]: row["detail"] for row in rows(out, "rejected")}
    assert details[f"{web.url}/{first}"] == "longer.txt:url"
    assert details[f"{web.url}/{second}"] == "longer.txt:sha256"
