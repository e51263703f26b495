"""Licence files of RSL that pages name: in new runs, grown ones and audits."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.agreement import rows
from tests.support.command import fates, grow, rejected, succeed
from tests.support.forks import start
from tests.support.golden import FLAGS, TEXTS
from tests.support.host_files import forget_host_files
from tests.support.nginx import nginx
from tests.support.page_archives import page_record
from tests.support.picture_files import encoded, photograph
from tests.support.small_web import SmallWeb, small_web

RSL = '<rsl xmlns="https://rslstandard.org/rsl"><content url="{}"><license>{}</license>'
RSL += "</content></rsl>"
NO, YES = (f'<{of} type="usage">ai-train</{of}>' for of in ("prohibits", "permits"))
LINK = '<link rel="license" type="application/rsl+xml" href="{}/license{}">'
# By the page's name: the number of its licence file, and whether its image is opted out.
PAGES = {
    "silent": ("", False),
    "no": ("1", True),
    "yes": ("2", False),
    "articles/a": ("3", True),  # by the page's path alone
    "other/a": ("3", False),
    "scope": ("4", True),
    "missing": ("5", False),
}


def archive(path: Path, web: SmallWeb, *names: str) -> Path:
    pages = []
    for name in names:
        number = [*PAGES].index(name)
        web.files[f"/i{number}"] = encoded(photograph(700 + number), "JPEG")
        head = LINK.format(web.url, PAGES[name][0]) if PAGES[name][0] else ""
        html = f'<head>{head}</head><img src="{web.url}/i{number}" alt="{TEXTS[number]}">'
        pages.append(page_record(f"http://page.example/{name}", html))
    path.write_bytes(b"".join(pages))
    return path


def run(out: Path, command: str = "audit", *flags: str) -> str:
    forked = start(f"alignset.pipeline.commands:{command}", out, *flags)
    said = forked.communicate()
    assert forked.wait() == 0, said
    return said[0]


def test_licences_of_pages(tmp_path: Path) -> None:
    with small_web() as web:
        for number, (url, use) in enumerate(
            (("/", NO), ("/", YES), ("/articles/*", NO), ("", NO)), 1
        ):
            web.files[f"/license{number}"] = RSL.format(url, use).encode()
        first, *others = PAGES
        one = archive(tmp_path / "one.warc", web, *others)
        two = archive(tmp_path / "two.warc", web, first)
        succeed(one, tmp_path / "out", *FLAGS)
        expected = {f"/i{n}": out for n, (_, out) in enumerate(PAGES.values())}
        del expected["/i0"]
        dropped = {fate.url.removeprefix(web.url): fate[2:] for fate in rejected(tmp_path / "out")}
        assert dropped == {path: ("opted_out", "rsl") for path, out in expected.items() if out}
        assert not {path for path, out in expected.items() if out} & set(web.requests)
        assert sorted(web.policies_asked)[:-1] == [f"/license{n}" for n in range(1, 6)]
        told = run(tmp_path / "out")
        assert told.startswith("0 differences among the verdicts on 6 images, 3 of them opted")
        # A licence that changes is heard of known images, and one from scratch says the same.
        web.files["/license2"] = RSL.format("/", NO).encode()
        forget_host_files()
        web.requests.clear()
        told = run(tmp_path / "out", "recheck", "--allow_private_addresses", "--retries=0")
        assert "opted out since: 1 pair of 1 host\n" in told
        (found,) = pq.read_table(tmp_path / "out/recheck.parquet").to_pylist()
        assert (found["url"], found["detail"]) == (f"{web.url}/i2", "rsl")
        assert (found["file"], web.requests) == (f"{web.url}/license2", [])
        (tmp_path / "out/recheck.parquet").unlink()
        assert grow(tmp_path / "out", tmp_path / "new", f"--input={two}", FLAGS[0]).status == 0
        assert web.requests == ["/i0"]
        succeed(f"{one},{two}", tmp_path / "whole", *FLAGS)
        assert fates(tmp_path / "new") == fates(tmp_path / "whole")
        for out in ("new", "whole"):
            pages = {row["page_url"].rpartition("/")[2] for row in rows(tmp_path / out, "shards")}
            assert pages == {"silent", "a", "missing"}
            assert run(tmp_path / out).startswith("0 differences among the verdicts on 7 images")
        succeed(one, tmp_path / "off", *FLAGS, "--rsl=false")
        assert not rejected(tmp_path / "off")


def test_requests_by_the_log_of_a_real_server(tmp_path: Path) -> None:
    with nginx(tmp_path, hosts=20) as web:
        port, links = web.url.rpartition(":")[2], "License: /license.xml\nUser-agent: *\nAllow: /\n"
        (web.files / "robots.txt").write_text(links)
        (web.files / "license.xml").write_text(RSL.format("/", YES))
        urls = [f"http://127.0.0.{1 + n % 20}:{port}/{n}.jpg" for n in range(60)]
        for n in range(60):
            (web.files / f"{n}.jpg").write_bytes(encoded(photograph(800 + n), "JPEG"))
        texts = [f"a photograph of the old harbour at {n} in summer" for n in range(60)]
        pq.write_table(pa.table({"url": urls, "caption": texts}), tmp_path / "list.parquet")
        succeed(tmp_path / "list.parquet", tmp_path / "out", *FLAGS, "--tdmrep_json")
        log = web.requests_by_host()
    assert len(rows(tmp_path / "out", "shards")) == 60
    assert len(log) == 60 + 3 * 20
    assert {*log.values()} == {1}, "each kind of file at most once a host"
