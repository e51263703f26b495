"""What hosts state is kept as it was read, and gives the verdicts of the dataset again."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.commands import audit, takedown
from tests.support import stating_files as made
from tests.support.agreement import rows
from tests.support.command import rejected, succeed
from tests.support.golden import FLAGS, TEXTS
from tests.support.host_files import forget_host_files
from tests.support.picture_files import encoded, photograph
from tests.support.small_web import SmallWeb, small_web

LICENSE = (
    b'<rsl xmlns="https://rslstandard.org/rsl"><content url="/licensed/"><license>'
    b'<prohibits type="usage">ai-train</prohibits></license></content></rsl>'
)
ROBOTS = (
    b"User-agent: *\nDisallow: /private/\nContent-Usage: /art/ train-ai=n\nLicense: /license.xml\n"
    b"\nUser-agent: CCBot\nDisallow: /crawled/\n"
)
LINK = '<{}/link.xml>; rel="license"; type="application/rsl+xml"'
WANTED = {
    **{"a": None, "private/a": "robots_txt", "art/a": "content_usage", "licensed/a": "rsl"},
    **{"crawled/a": "robots_txt:CCBot", "tagged": "x_robots_tag", "r/a": "tdm_reservation"},
    **{"r/free": None, "moved/a": "robots_txt", "moved/ok": None, "via": "x_robots_tag"},
    **{"prohibited": "xmp_data_mining", "linked": "rsl", "signal": "content_signal", "odd": None},
    "named": None,
}


@pytest.fixture(scope="module")
def webs() -> Iterator[tuple[SmallWeb, SmallWeb]]:
    """A host that states opt-outs in each place, and one to which it redirects."""
    with small_web() as web, small_web() as other:
        web.files = {f"/{n}": encoded(photograph(800 + i), "JPEG") for i, n in enumerate(WANTED)}
        web.files["/prohibited"] = made.jpeg_with(web.files["/a"], made.xmp(made.PROHIBITED))
        web.files |= {"/robots.txt": ROBOTS, "/license.xml": LICENSE}
        web.files["/link.xml"] = LICENSE.replace(b"/licensed/", b"/linked")
        web.files["/.well-known/tdmrep.json"] = b'[{"location": "/r/", "tdm-reservation": 1}]'
        other.files = {"/ok": encoded(photograph(890)), "/private/a": encoded(photograph(891))}
        other.files["/robots.txt"] = ROBOTS
        web.moved = {"/moved/a": f"{other.url}/private/a", "/moved/ok": f"{other.url}/ok"}
        web.moved["/via"] = f"{other.url}/ok"
        web.headers = {
            **{"/tagged": {"X-Robots-Tag": "otherbot: noindex, alignset: noai"}},
            **{"/r/free": {"TDM-Reservation": "0"}, "/via": {"x-robots-tag": "noimageai"}},
            **{
                **{name: {"Link": LINK.format(web.url)} for name in ("/linked", "/named")},
                "/signal": {"Content-Signal": "ai-train=no"},
            },
            "/odd": {"X-Robots-Tag": "\xa0max-snippet: 3\xa0", "Content-Usage": "train-ai=n\xa0"},
        }
        yield web, other


@pytest.fixture(scope="module")
def listed(webs: tuple[SmallWeb, SmallWeb], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audit") / "list.parquet"
    urls = [f"{webs[0].url}/{name}" for name in WANTED]
    pq.write_table(pa.table({"url": urls, "caption": TEXTS[: len(urls)]}), path)
    return path


def run(source: Path, out: Path, *flags: str) -> Path:
    forget_host_files()
    succeed(source, out, *FLAGS, "--tdmrep_json=true", "--samples_per_shard=4", *flags)
    return out


@pytest.fixture(scope="module")
def finished(listed: Path) -> Path:
    return run(listed, listed.parent / "set")


def said_by(out: Path, capsys: pytest.CaptureFixture) -> tuple[int, list[str], str]:
    """The status of an audit, its table, and its last line."""
    capsys.readouterr()
    status = audit([str(out)])
    said = capsys.readouterr()
    *table, last = said.out.splitlines() or [said.err]
    return status, table, last


def change(path: Path, **columns: Any) -> None:
    """Writes a file of Parquet anew, its columns given by functions of their rows."""
    table = pq.read_table(path)
    made_rows = [{**row, **{n: f(row) for n, f in columns.items()}} for row in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(made_rows, table.schema), path)


def test_evidence_is_what_came(
    webs: tuple[SmallWeb, SmallWeb], finished: Path, capsys: pytest.CaptureFixture
) -> None:
    web, other = webs
    details = {of.url.removeprefix(f"{web.url}/"): of.detail for of in rejected(finished)}
    assert details == {name: detail for name, detail in WANTED.items() if detail}
    files = {(row["origin"], row["url"]): row for row in rows(finished, "evidence")}
    for server, path in ((web, "/robots.txt"), (other, "/robots.txt"), (web, "/license.xml")):
        row = files[server.url, server.url + path]
        assert (row["status"], row["detail"], row["body"]) == (200, None, server.files[path])
        assert row["sha256"] == hashlib.sha256(row["body"]).hexdigest()
        assert row["read_at"].year >= 2025
    missing = files[other.url, f"{other.url}/license.xml"]
    assert (missing["status"], missing["detail"], missing["body"]) == (404, "http_404", None)
    assert {row["kind"] for row in files.values()} == {"robots.txt", "tdmrep.json", "license"}
    for path in (finished / "evidence").iterdir():  # a shard's own, though the files came once
        names = [
            (row["origin"], row["kind"], row["url"]) for row in pq.read_table(path).to_pylist()
        ]
        assert names == sorted(names)
        assert (web.url, "robots.txt", f"{web.url}/robots.txt") in names
    assert len({*web.policies_asked}) == len(web.policies_asked)
    headers = {row["final_url"]: row["opt_out_headers"] for row in rows(finished, "images")}
    assert headers[f"{web.url}/a"] == ""
    assert headers[f"{other.url}/ok"] == f"Location: {other.url}/ok\n"
    stated = {row["opt_out_headers"] for row in rows(finished, "images") if row["detail"]}
    assert "x-robots-tag: noimageai\n" in stated
    assert "X-Robots-Tag: otherbot: noindex, alignset: noai\n" in stated
    assert said_by(finished, capsys) == (
        0,
        [],
        "0 differences among the verdicts on 15 images, 10 of them opted out; "
        "not derived: xmp_data_mining 1",
    )


def test_reports_and_no_evidence(
    listed: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    status, table, last = said_by(run(listed, tmp_path / "report", "--opt_outs=report"), capsys)
    assert (status, table) == (0, [])
    assert last.startswith("0 differences among the verdicts on 15 images, 10 of them opted out")
    out = run(listed, tmp_path / "none", "--evidence=false")
    assert not (out / "evidence").exists()
    assert {row["opt_out_headers"] for row in rows(out, "images")} == {None}
    status, _, last = said_by(out, capsys)
    assert status == 2
    assert "has no evidence/" in last
    # Nobody knows what the responses of its images stated; the files of hosts are new.
    grown = run(listed, tmp_path / "grown", f"--images_from={out}")
    status, table, last = said_by(grown, capsys)
    assert (status, table) == (0, [])
    assert "header not recorded" in last


def test_a_grown_dataset(
    webs: tuple[SmallWeb, SmallWeb],
    listed: Path,
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Headers come along, and hosts are judged by what they say now."""
    web, _ = webs
    web.requests.clear()
    monkeypatch.setitem(web.files, "/robots.txt", b"User-agent: *\nDisallow: /a\n")
    monkeypatch.delitem(web.files, "/.well-known/tdmrep.json")
    # A licence that only the response named, which is not requested again.
    monkeypatch.setitem(web.files, "/link.xml", LICENSE.replace(b"/licensed/", b"/named"))
    out = run(listed, tmp_path / "grown", f"--images_from={finished}")
    kept = {row["url"].removeprefix(f"{web.url}/") for row in rows(out, "shards")}
    assert kept >= {"private/a", "licensed/a", "crawled/a", "r/a", "r/free", "linked"}
    assert not kept & {"a", "art/a", "tagged", "via", "named"}
    assert not {*web.requests} & {"/tagged", "/r/free", "/moved/ok", "/signal", "/odd", "/named"}
    assert said_by(out, capsys)[:2] == (0, [])


def test_differences_are_listed(
    webs: tuple[SmallWeb, SmallWeb], finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    web, _ = webs
    out = Path(shutil.copytree(finished, tmp_path / "set"))
    for path in (out / "images").iterdir():
        change(
            path,
            opt_out_headers=lambda row: (
                "X-Robots-Tag: noai\n"
                if row["final_url"] == f"{web.url}/a"
                else row["opt_out_headers"]
            ),
            detail=lambda row: "c2pa" if row["detail"] == "content_signal" else row["detail"],
        )
    status, table, last = said_by(out, capsys)
    assert (status, last[:13]) == (1, "2 differences")
    assert table[0].split("\t") == ["image", "host", "the dataset says", "the evidence says"]
    host = web.url.removeprefix("http://")
    assert {*table[1:]} == {
        f"{web.url}/a\t{host}\tno opt-out\tx_robots_tag",
        f"{web.url}/signal\t{host}\tc2pa\tcontent_signal",
    }
    for path in (out / "evidence").iterdir():
        path.unlink()
    pq.write_table(pq.read_table(next((finished / "evidence").iterdir())).slice(0, 0), path)
    status, table, last = said_by(out, capsys)
    assert (status, table) == (0, [])
    assert "file of a host missing" in last


def test_odd_evidence_is_one_line(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (path, *_) = sorted((finished / "evidence").iterdir())
    table = pq.read_table(path)
    bomb = pa.array([bytes(1 << 20)] * len(table))
    for what, said in (
        (b"", "cannot be read"),
        (table.drop_columns("kind"), "it has other columns"),
        (table.set_column(0, "origin", pa.nulls(len(table), pa.string())), "has no origin, URL"),
        (table.set_column(7, "body", pa.array([b"x"] * len(table))), "does not have its SHA-256"),
        (table.set_column(7, "body", bomb), "does not have its SHA-256"),
    ):
        out = Path(shutil.copytree(finished, tmp_path / str(len([*tmp_path.iterdir()]))))
        place = out / "evidence" / path.name
        place.write_bytes(what) if isinstance(what, bytes) else pq.write_table(what, place)
        assert audit([str(out)]) == 1
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert said in lines[0]
    odd = json.loads((out / "manifest.json").read_text())
    odd["fetch"]["user_agent_token"] = "\n"
    (out / "manifest.json").write_text(json.dumps(odd))
    assert audit([str(out)]) == 2
    assert "settings of fetching: " in capsys.readouterr().err


def test_takedowns_and_evidence(
    webs: tuple[SmallWeb, SmallWeb], finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """A host is not a pair: its files stay, unless the host itself is to be forgotten."""
    web, other = webs
    out = Path(shutil.copytree(finished, tmp_path / "set"))
    for entry, origins in (
        (f"url:{web.url}/a", {web.url, other.url}),
        ("host:127.0.0.1", set()),  # by a redirect alone, too
    ):
        (tmp_path / "list.txt").write_text(entry)
        words = [str(out), f"--blocklist=mine={tmp_path}/list.txt", "--forget_blocked", "--yes"]
        assert takedown(words) == 0
        assert {row["origin"] for row in rows(out, "evidence")} == origins
        assert said_by(out, capsys)[:2] == (0, [])
        numbers = {path.name for path in (out / "images").iterdir()}
        assert {path.name for path in (out / "evidence").iterdir()} <= numbers
    assert not any(row["opt_out_headers"] for row in rows(out, "images"))
