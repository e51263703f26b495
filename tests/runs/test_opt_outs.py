"""What owners do not want used, by the whole command: dropped, or only reported; from lists and
from pages; and where kept images are from."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.errors import UsageError
from alignset.pipeline.options import parse
from tests.support import stating_files as made
from tests.support.command import funnel, manifest, rejected, succeed
from tests.support.golden import FLAGS, TEXTS
from tests.support.page_archives import page_record
from tests.support.picture_files import encoded, photograph
from tests.support.small_web import SmallWeb, small_web

ROBOTS = b"User-agent: *\nDisallow: /private/\nContent-Usage: /art/ train-ai=n\n"
LICENCE = "https://l.example/by"
PAGE = "https://page.example/{}"
NAMES = {
    "a": None,
    "private/a": "robots_txt",
    "art/a": "content_usage",
    "tagged": "x_robots_tag",
    "reserved": "tdm_reservation",
    "prohibited": "xmp_data_mining",
    "signed": "c2pa",
    "licensed": None,
    "all": "x_robots_tag",
}
HEADERS = {
    "/tagged": {"X-Robots-Tag": "noimageai"},
    "/reserved": {"tdm-reservation": "1"},
    "/all": {"X-Robots-Tag": "noai", "Content-Usage": "train-ai=n"},
    "/a": {"ETag": '"1"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"},
}


@pytest.fixture(scope="module")
def stating() -> Any:
    """A host that states each opt-out, and a list of its images."""
    with small_web() as server:
        for number, name in enumerate(NAMES):
            server.files[f"/{name}"] = encoded(photograph(900 + number), "JPEG")
        prohibited, store = made.xmp(made.PROHIBITED), made.forbidding_store()
        for name, packet, signed in (
            ("prohibited", prohibited, b""),
            ("signed", b"", store),
            ("licensed", made.xmp("", LICENCE, "as you like"), b""),
            ("all", prohibited, store),
        ):
            server.files[f"/{name}"] = made.jpeg_with(server.files[f"/{name}"], packet, signed)
        server.files["/robots.txt"] = ROBOTS
        server.headers = HEADERS
        yield server


def listed(web: SmallWeb, folder: Path) -> Path:
    urls = [f"{web.url}/{name}" for name in NAMES]
    path = folder / "list.parquet"
    pq.write_table(pa.table({"url": urls, "caption": TEXTS[: len(urls)]}), path)
    return path


def rows(output: Path, pattern: str = "shards/*.parquet") -> dict[str, dict[str, Any]]:
    """The rows of some files by the path of their URL."""
    tables = [pq.read_table(file) for file in sorted(output.glob(pattern))]
    each = [row for table in tables for row in table.to_pylist()]
    return {row["url"].split("/", 3)[3]: row for row in each}


def steps(output: Path) -> dict[str, int]:
    return {step["step"]: step["dropped"].get("opted_out", 0) for step in funnel(output)["steps"]}


def test_what_is_not_wanted_is_dropped_and_told(stating: SmallWeb, tmp_path: Path) -> None:
    ended = succeed(listed(stating, tmp_path), tmp_path / "set", *FLAGS)
    found = {fate.url.split("/", 3)[3]: fate[2:] for fate in rejected(tmp_path / "set")}
    assert found == {name: ("opted_out", detail) for name, detail in NAMES.items() if detail}
    counts = Counter(filter(None, NAMES.values()))
    told = funnel(tmp_path / "set")["opted_out"]
    assert told == {"opt_outs": "reject", "details": dict(counts)}
    assert steps(tmp_path / "set")["opt_outs"] == 7
    assert "not wanted by its owner, dropped: x_robots_tag 2, c2pa 1" in ended.out
    assert funnel(tmp_path / "set")["fetch"]["failed"] == 0
    stats = json.loads((tmp_path / "set/shards/00000_stats.json").read_text())
    assert stats["reasons"] == {"opted_out": 7}
    assert stats["status_dict"]["opted_out: c2pa"] == 1
    assert "/private/a" not in stating.requests
    assert "/art/a" not in stating.requests
    assert stating.policies_asked.count("/robots.txt") <= 1  # once in this process
    kept = rows(tmp_path / "set")
    assert set(kept) == {"a", "licensed"}
    hints = [kept["licensed"][name] for name in ("web_statement", "usage_terms", "page_license")]
    assert hints == [LICENCE, "as you like", None]
    assert kept["a"]["web_statement"] is kept["a"]["opted_out"] is None


def test_what_is_only_reported_is_kept(stating: SmallWeb, tmp_path: Path) -> None:
    source = listed(stating, tmp_path)
    ended = succeed(source, tmp_path / "set", *FLAGS, "--opt_outs=report")
    kept = rows(tmp_path / "set")
    assert {name: row["opted_out"] for name, row in kept.items()} == NAMES | {
        "all": "x_robots_tag,content_usage,xmp_data_mining,c2pa"
    }
    told = funnel(tmp_path / "set")["opted_out"]
    assert told["opt_outs"] == "report"
    assert told["details"] == {
        **{"c2pa": 2, "content_usage": 2, "x_robots_tag": 2, "xmp_data_mining": 2},
        **{"robots_txt": 1, "tdm_reservation": 1},
    }
    assert "not wanted by its owner, kept, with it in `opted_out`" in ended.out
    assert manifest(tmp_path / "set")["fetch"]["opt_outs"] == "report"
    # The stored images are judged again by what they hold themselves.
    succeed(f"{tmp_path}/set/shards", tmp_path / "clean", *FLAGS)
    assert set(NAMES) - set(rows(tmp_path / "clean")) == {"prohibited", "signed", "all"}


def test_the_responses_of_kept_images(stating: SmallWeb, tmp_path: Path) -> None:
    stating.moved = {"/licensed": "/a"}
    try:
        succeed(listed(stating, tmp_path), tmp_path / "set", *FLAGS)
    finally:
        stating.moved = {}
    responses = rows(tmp_path / "set", "responses/*_responses.parquet")
    assert set(responses) == {"a", "licensed"} == set(rows(tmp_path / "set"))
    for row in responses.values():
        assert row["final_url"] == f"{stating.url}/a"
        assert (row["status"], row["content_type"], row["etag"]) == (200, "image/jpeg", '"1"')
        assert row["last_modified"] == "Thu, 01 Jan 2026 00:00:00 GMT"
        assert row["date"].year >= 2025
    assert [row["key"] for row in responses.values()] == sorted(
        row["key"] for row in rows(tmp_path / "set").values()
    )


def test_pages_that_do_not_want_it(web: SmallWeb, tmp_path: Path) -> None:
    heads = {
        "free": f'<link rel="license" href="{LICENCE}">',
        "noai": '<meta name="robots" content="noai">',
        "reserved": '<meta name="tdm-reservation" content="1">',
        "tagged": "",
    }
    records = []
    for number, (name, head) in enumerate(heads.items()):
        image = f"/page/{number}.jpg"
        web.files[image] = encoded(photograph(950 + number), "JPEG")
        html = f'<html><head>{head}</head><img src="{web.url}{image}" alt="{TEXTS[number]}"></html>'
        fields = ["X-Robots-Tag: noai"] if name == "tagged" else []
        records.append(page_record(PAGE.format(name), html, *fields))
    source = tmp_path / "pages.warc"
    source.write_bytes(b"".join(records))
    succeed(source, tmp_path / "set", *FLAGS)
    assert steps(tmp_path / "set")["pairs"] == 3
    details = {"meta_robots": 1, "tdm_reservation": 1, "x_robots_tag": 1}
    assert funnel(tmp_path / "set")["opted_out"]["details"] == details
    assert funnel(tmp_path / "set")["pages"]["pairs"] == 4
    (kept,) = rows(tmp_path / "set").values()
    assert (kept["page_license"], kept["page_url"]) == (LICENCE, PAGE.format("free"))
    succeed(source, tmp_path / "all", *FLAGS, "--opt_outs=report")
    kept_rows = rows(tmp_path / "all")
    opted_out = {row["page_url"].rpartition("/")[2]: row["opted_out"] for row in kept_rows.values()}
    assert opted_out == {
        **{"free": None, "noai": "meta_robots", "reserved": "tdm_reservation"},
        "tagged": "x_robots_tag",
    }


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--opt_outs=keep"], "opt_outs must be one of reject, report; got 'keep'"),
        (["--content_usage=Train AI"], "content_usage must be categories, comma-separated"),
        (["--c2pa=maybe"], "must be true or false"),
        (["--tdmrep_json", "--tdm_reservation=false"], "tdmrep_json asks for what"),
    ],
)
def test_wrong_flags_are_refused(flags: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse(["--input=a.parquet", "--output=set", *flags])
