"""What owners do not want used, by the whole command: dropped, or only reported; from lists and
from pages; and where kept images are from."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support import stating_files as made
from tests.support.agreement import rows as all_rows
from tests.support.command import fates, funnel, manifest, rejected, succeed
from tests.support.described_sets import HEADS, LICENCE, PAGES, DescribedSets
from tests.support.golden import FLAGS, TEXTS
from tests.support.host_files import forget_host_files
from tests.support.picture_files import encoded, photograph
from tests.support.small_web import SmallWeb, small_web

ROBOTS = b"User-agent: *\nDisallow: /private/\nContent-Usage: /art/ train-ai=n\n"
STATES = b"Content-Signal: /signal/ ai-train=no\nUser-agent: CCBot\nDisallow: /crawled/\n"
STATES += b"License: /license.xml\n"
RSL = b'<rsl xmlns="https://rslstandard.org/rsl"><content url="/sold/"><license>'
RSL += b'<payment type="crawl"/></license></content></rsl>'
NAMES = {
    "a": None,
    "private/a": "robots_txt",
    "art/a": "content_usage",
    "signal/a": "content_signal",
    "sold/a": "rsl",
    "crawled/a": "robots_txt:CCBot",
    "tagged": "x_robots_tag",
    "reserved": "tdm_reservation",
    "prohibited": "xmp_data_mining",
    "signed": "c2pa",
    "licensed": None,
    "all": "x_robots_tag",
    "moved": None,
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
        server.files |= {"/robots.txt": ROBOTS + STATES, "/license.xml": RSL}
        server.headers, server.moved = HEADERS, {"/moved": "/a"}
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
    assert steps(tmp_path / "set")["opt_outs"] == 10
    assert "not wanted by its owner, dropped: x_robots_tag 2, c2pa 1" in ended.out
    assert funnel(tmp_path / "set")["fetch"]["failed"] == 0
    stats = json.loads((tmp_path / "set/shards/00000_stats.json").read_text())
    assert stats["reasons"] == {"opted_out": 10}
    assert stats["status_dict"]["opted_out: c2pa"] == 1
    assert "/private/a" not in stating.requests
    assert {"/art/a", "/signal/a", "/sold/a", "/crawled/a"}.isdisjoint(stating.requests)
    assert stating.policies_asked.count("/robots.txt") <= 1  # once in this process
    kept = rows(tmp_path / "set")
    assert set(kept) == {"a", "licensed", "moved"}
    hints = [kept["licensed"][name] for name in ("web_statement", "usage_terms", "page_license")]
    assert hints == [LICENCE, "as you like", None]
    assert kept["a"]["web_statement"] is kept["a"]["opted_out"] is None
    (ledger,) = (tmp_path / "set").glob("images/*")
    responses = {row["key"]: row for row in pq.read_table(ledger).to_pylist() if row["key"]}
    assert {*responses} == {row["key"] for row in kept.values()}
    licensed = responses.pop(kept["licensed"]["key"])
    assert licensed["final_url"] == f"{stating.url}/licensed"
    for row in responses.values():
        assert row["final_url"] == f"{stating.url}/a"
        assert (row["status"], row["content_type"], row["etag"]) == (200, "image/jpeg", '"1"')
        assert row["last_modified"] == "Thu, 01 Jan 2026 00:00:00 GMT"
        assert row["date"].year >= 2025


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
        **{"robots_txt": 1, "robots_txt:CCBot": 1, "tdm_reservation": 1},
        **{"content_signal": 1, "rsl": 1},
    }
    assert "not wanted by its owner, kept, with it in `opted_out`" in ended.out
    assert manifest(tmp_path / "set")["fetch"]["opt_outs"] == "report"
    # The stored images are judged again by what they hold themselves.
    succeed(f"{tmp_path}/set/shards", tmp_path / "clean", *FLAGS)
    assert set(NAMES) - set(rows(tmp_path / "clean")) == {"prohibited", "signed", "all"}


def test_owners_who_have_changed_their_mind_are_asked_about_known_images(tmp_path: Path) -> None:
    """As in a run from scratch, and no image is fetched but what a tdmrep.json reserves."""

    def run(name: str, *flags: str) -> Path:
        for server in (web, other):
            server.requests.clear()
            server.policies_asked.clear()
        forget_host_files()
        succeed(tmp_path / "list.parquet", tmp_path / name, *FLAGS, "--tdmrep_json=true", *flags)
        return tmp_path / name

    with small_web() as web, small_web() as other:
        paths = ["a", "private/a", "art/a", "r/a", "r/free", "moved", "to", "tagged", "gone"]
        web.files = {f"/{path}": encoded(photograph(950 + n)) for n, path in enumerate(paths[:5])}
        web.files["/tagged"] = web.files["/a"]
        other.files = {"/a": encoded(photograph(970)), "/private/a": encoded(photograph(971))}
        web.moved = {"/moved": f"{other.url}/private/a", "/to": f"{other.url}/a"}
        web.headers = {"/tagged": HEADERS["/tagged"], "/r/free": {"TDM-Reservation": "0"}}
        urls = [f"{web.url}/{path}" for path in paths]
        table = pa.table({"url": urls, "caption": TEXTS[: len(urls)]})
        pq.write_table(table, tmp_path / "list.parquet")
        assert len(rows(run("out"))) == 7
        for server in (web, other):
            server.files["/robots.txt"] = ROBOTS
        web.files["/.well-known/tdmrep.json"] = b'[{"location": "/r/", "tdm-reservation": 1}]'
        grown = run("grown", f"--images_from={tmp_path}/out")
        assert (sorted(web.requests), other.requests) == (["/r/a", "/r/free"], [])
        both = ["/robots.txt", "/.well-known/tdmrep.json"]
        assert web.policies_asked == other.policies_asked == both
        scratch = run("scratch")
        assert fates(grown) == fates(scratch)
        details = {one.url.removeprefix(f"{web.url}/"): one.detail for one in rejected(grown)}
        assert details == {
            **{"private/a": "robots_txt", "art/a": "content_usage", "r/a": "tdm_reservation"},
            **{"moved": "robots_txt", "tagged": "x_robots_tag", "gone": "http_404"},
        }
        tars = [out / "shards/00000.tar" for out in (grown, scratch)]
        assert tars[0].read_bytes() == tars[1].read_bytes()
    # A host that is gone has not opted out.
    assert {*rows(run("later", f"--images_from={tmp_path}/grown"))} == {"a", "r/free", "to"}


def test_pages_that_do_not_want_it(described: DescribedSets) -> None:
    out, wanted = described.find("all"), {name: None for name in HEADS}
    wanted |= {"noai": "meta_robots", "reserved": "tdm_reservation", "tagged": "x_robots_tag"}

    def of_pages(out: Path, column: str, *folders: str) -> dict[str, Any]:
        found = [row for row in all_rows(out, *folders) if row["page_url"]]
        return {row["page_url"].rpartition("/")[2]: row[column] for row in found}

    assert steps(out)["pairs"] == 3
    assert funnel(out)["pages"]["pages"] == PAGES
    dropped = of_pages(out, "detail", "rejected")
    assert {name: dropped.get(name) for name in HEADS} == wanted
    licences = of_pages(out, "page_license", "shards", "holdout")
    assert [name for name, licence in licences.items() if licence == LICENCE] == ["a"]
    kept = of_pages(described.find("reported"), "opted_out", "shards", "holdout")
    assert {name: kept[name] for name in wanted if wanted[name]} == {
        name: detail for name, detail in wanted.items() if detail
    }
