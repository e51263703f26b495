"""2,400 hosts state each opt-out in each place, in odd spellings, or state nothing."""

from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.agreement import rows
from tests.support.command import rejected, succeed
from tests.support.forks import start
from tests.support.golden import FLAGS
from tests.support.picture_files import encoded, photograph
from tests.support.serving import serving

pytestmark = pytest.mark.slow
HOSTS = 2_400
ROBOTS, TDMREP, LICENSE = "/robots.txt", "/.well-known/tdmrep.json", "/rsl.xml"
RSL = '<rsl xmlns="https://rslstandard.org/rsl"><content url="/"><license>{}</license>'
RSL += "</content></rsl>"
USAGE = '<{0} type="usage">{1}</{0}>'


class Case(NamedTuple):
    """The files and image headers of a host, and the detail by which its image is dropped."""

    detail: str | None = None
    robots: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    tdmrep: str | None = None
    license: str | None = None


def by_robots(detail: str | None, *texts: str) -> list[Case]:
    return [Case(detail, text) for text in texts]


def by_header(detail: str | None, *lines: tuple[str, str]) -> list[Case]:
    return [Case(detail, headers=(line,)) for line in lines]


def by_license(detail: str | None, *terms: str) -> list[Case]:
    link = (("Link", f'<{LICENSE}>; rel="license"; type="application/rsl+xml"'),)
    texts = [RSL.format(term) for term in terms]
    named = [Case(detail, f"License: {LICENSE}\nUser-agent: *\nAllow: /", license=t) for t in texts]
    return named + [Case(detail, headers=link, license=text) for text in texts]


CASES = [
    *[Case()] * 12,
    *by_robots(
        "robots_txt",
        *(
            "User-agent: *\nDisallow: /",
            "USER-AGENT:ALIGNSET\nDISALLOW:/\n\nUser-agent: *\nAllow: /",
        ),
        *(
            "\ufeffuser-agent : *\rdisallow : /",
            "User-agent: alignset/1.0\nUser-agent: b\nDisallow: /",
        ),
    ),
    *by_robots(
        "robots_txt:CCBot", "User-agent: CCBot\nDisallow: /", "user-agent:ccbot\ndisallow:/i"
    ),
    *by_robots("robots_txt:Google-Extended", "User-agent: Google-Extended\nDisallow: /"),
    *by_robots("robots_txt:Applebot-Extended", "User-Agent: applebot-extended\nDisallow: *"),
    *by_robots(
        "content_signal",
        "User-agent: *\nContent-Signal: search=yes,ai-train=no,use=reference\nAllow: /",
        "User-Agent: *\ncontent-signal:AI-TRAIN = NO , search = yes",
        "User-agent: alignset\nCONTENT-SIGNAL: ai-train=no\n\nUser-agent: *\nAllow: /",
    ),
    *by_robots("content_usage", "User-agent: *\nContent-Usage: train-ai=n\nAllow: /"),
    *by_robots(
        None,
        "User-agent: other\nDisallow: /\nContent-Signal: ai-train=no",
        "User-agent: *\nContent-Signal: search=no, ai-input=no, ai-train=yes\nAllow: /",
        "User-agent: *\nContent-Usage: train-ai=y\nDisallow: /private",
        "User-agent: GPTBot\nUser-agent: Bytespider\nDisallow: /",
        "<html>no such page</html>",
    ),
    *by_header(
        "x_robots_tag",
        *(("X-Robots-Tag", "noai"), ("x-robots-tag", "NoImageAI, NoAI"), ("X-ROBOTS-TAG", "none")),
        ("X-Robots-Tag", "otherbot: all, alignset: noai"),
    ),
    *by_header("tdm_reservation", ("tdm-reservation", "1"), ("TDM-Reservation", " 1 ")),
    *by_header(
        "content_usage", ("Content-Usage", "train-ai=n"), ("content-usage", "a=y, train-ai=n")
    ),
    *by_header(
        "content_signal", ("Content-Signal", "ai-train=no"), ("content-signal", "AI-Train = No")
    ),
    *by_header(
        None,
        *(
            ("X-Robots-Tag", "otherbot: noai"),
            ("tdm-reservation", "0"),
            ("X-Robots-Tag", "nofollow"),
        ),
        *(("Content-Usage", "train-ai=y"), ("Content-Signal", "search=no")),
    ),
    Case("tdm_reservation", tdmrep='[{"location": "/*", "tdm-reservation": 1}]'),
    Case(tdmrep='[{"location": "/other/*", "tdm-reservation": 1}]'),
    Case(tdmrep='{"location": 1', headers=(("tdm-reservation", "2"),)),
    *by_license(
        "rsl",
        *(USAGE.format("prohibits", of) for of in ("ai-train", "all", "ai-all search")),
        *(USAGE.format("permits", "search"), '<payment type="purchase"/>'),
    ),
    *by_license(
        None,
        *(USAGE.format("permits", of) for of in ("all", "ai-train search")),
        *(USAGE.format("prohibits", "search"), '<prohibits type="geo">FR</prohibits>'),
    ),
]


class _Web(ThreadingHTTPServer):
    daemon_threads, block_on_close, request_queue_size = True, False, 512

    def __init__(self) -> None:
        super().__init__(("", 0), _Handler)
        self.cases = [CASES[host % len(CASES)] for host in range(HOSTS)]
        self.image = encoded(photograph(1), "JPEG")
        self.asked: Counter[tuple[int, str]] = Counter()

    def url(self, host: int) -> str:
        return f"http://127.4.{host // 250}.{1 + host % 250}:{self.server_port}/i{host}.jpg"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        _, _, high, low = self.headers["Host"].partition(":")[0].split(".")
        host = 250 * int(high) + int(low) - 1
        self.server.asked[host, self.path] += 1
        case = self.server.cases[host]
        files = {ROBOTS: case.robots, TDMREP: case.tdmrep, LICENSE: case.license}
        body = (files[self.path] or "").encode() if self.path in files else self.server.image
        self.send_response(200 if body else 404)
        for name, value in case.headers if self.path not in files else ():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # what recheck asks by

    def log_message(self, *_: object) -> None:
        pass


def done(command: str, *words: object) -> str:
    forked = start(f"alignset.pipeline.commands:{command}", *words)
    out, err = forked.communicate()
    assert forked.wait() == 0, err
    return out + err


def test_each_host_is_heard_and_those_that_change_are_found(tmp_path: Path) -> None:
    out, asking = tmp_path / "out", ("--connections=32", "--timeout_s=60", "--idle_timeout_s=60")
    with serving(_Web()) as web:
        hosts = {web.url(host): host for host in range(HOSTS)}
        captions = [
            f"a photograph of the old harbour at {host} in summer" for host in hosts.values()
        ]
        pq.write_table(pa.table({"url": [*hosts], "caption": captions}), tmp_path / "list.parquet")
        limits = ("--max_texts_per_image=1000000", "--samples_per_shard=500")
        succeed(tmp_path / "list.parquet", out, *FLAGS, *limits, *asking, "--tdmrep_json")
        said: dict[int, str | None] = {hosts[row["url"]]: None for row in rows(out, "shards")}
        said |= {hosts[fate.url]: fate.detail for fate in rejected(out)}
        assert said == {host: case.detail for host, case in enumerate(web.cases)}
        assert {n for (_, path), n in web.asked.items()} == {1}, "each file is requested once"
        assert done("audit", out).startswith("0 differences among the verdicts on 2,400 images")
        kept = {host for host, detail in said.items() if detail is None}
        web.asked.clear()
        web.cases = [CASES[(host + host // len(CASES)) % len(CASES)] for host in range(HOSTS)]
        done("recheck", out, "--allow_private_addresses", *asking)
        by_files = {host: web.cases[host].detail for host in kept if not web.cases[host].headers}
        found = {
            hosts[r["url"]]: r["detail"] for r in pq.read_table(out / "recheck.parquet").to_pylist()
        }
        assert found == {host: detail for host, detail in by_files.items() if detail}
        assert {n for (_, path), n in web.asked.items()} == {1}
        heads = {host for host, path in web.asked if path.startswith("/i")}
        freed = {host for host in kept if web.cases[host].tdmrep and web.cases[host].detail}
        assert heads == freed, "images whose header may free them are requested alone"
        done("recheck", out, "--images", "--allow_private_addresses", *asking)
        found = {
            hosts[r["url"]]: r["detail"] for r in pq.read_table(out / "recheck.parquet").to_pylist()
        }
        stated = {host: web.cases[host].detail for host in kept}
        assert found == {host: detail for host, detail in stated.items() if detail}
