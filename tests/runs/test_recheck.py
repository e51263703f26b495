"""Hosts are asked again: who has opted out since is found, each host is asked once, and what is
taken out is what a takedown of these keys takes out."""

import hashlib
import shutil
import signal
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.commands import recheck as main
from tests.runs.test_killed_changes import UNSEEN, run_killed
from tests.support.agreement import check_dataset, stored
from tests.support.command import Ended, digests, grow, manifest, succeed
from tests.support.described_sets import main as command
from tests.support.forks import start
from tests.support.golden import FLAGS, TEXTS
from tests.support.picture_files import encoded, photograph
from tests.support.serving import serving
from tests.support.stores import Store, options_of

HOSTS, IMAGES = range(1, 37), range(3)
ROBOTS, TDMREP = "/robots.txt", "/.well-known/tdmrep.json"
HOST_FILES = (ROBOTS, TDMREP, "/rsl.xml")
ASKING = ("--allow_private_addresses", "--retries=0", "--timeout_s=60", "--idle_timeout_s=60")
FORBIDDEN = b"User-agent: *\nDisallow: /\n"
RESERVED = b'[{"location": "/*", "tdm-reservation": 1}]'
ETAG = ("ETag", '"1"')
DATE = ("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
LINK = ("Link", '</rsl.xml>; rel="license"; type="application/rsl+xml"')


class Answer(NamedTuple):
    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = (ETAG, DATE)


class Web(ThreadingHTTPServer):
    """The hosts 127.0.3.N on one port.

    Attributes:
      answers: by host and path; anything else is a 404, and an answer of status 0 none.
      asked: (method, host, path) of each request. let_go: until when host `held` does not answer.
    """

    daemon_threads, block_on_close, request_queue_size = True, False, 512

    def __init__(self) -> None:
        super().__init__(("", 0), _Handler)
        self.answers: dict[tuple[int, str], Answer] = {}
        self.asked: list[tuple[str, int, str]] = []
        self.let_go, self.held = Event(), 0

    def url(self, host: int, path: object) -> str:
        return f"http://127.0.3.{host}:{self.server_port}{path}"

    @property
    def robots_asked(self) -> set[int]:
        return {host for _, host, path in self.asked if path == ROBOTS}

    def handle_error(self, *_: object) -> None:
        pass  # a killed client hangs up


class _Handler(BaseHTTPRequestHandler):
    protocol_version, wbufsize = "HTTP/1.1", -1

    def do_GET(self) -> None:
        host = int(self.headers["Host"].partition(":")[0].rpartition(".")[2])
        self.server.asked.append((self.command, host, self.path))
        if host == self.server.held:
            self.server.let_go.wait()
        answer = self.server.answers.get((host, self.path), Answer(404))
        self.close_connection = not answer.status
        if answer.status:
            self.send_response(answer.status)
            for name, value in (*answer.headers, ("Content-Length", str(len(answer.body)))):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body if self.command == "GET" else b"")

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


class Made(NamedTuple):
    web: Web
    out: Path

    def copy(self, folder: Path) -> Path:
        self.web.asked.clear()
        self.web.held = 0
        return Path(shutil.copytree(self.out, folder / "out"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """A dataset of hosts that stated nothing, and have changed since."""
    folder = tmp_path_factory.mktemp("made")
    with serving(Web()) as web:
        places = [(host, f"/{n}") for host in HOSTS for n in IMAGES]
        for number, place in enumerate([*places, (31, "/other")]):
            web.answers[place] = Answer(200, encoded(photograph(3000 + number), "JPEG"))
        web.answers[30, "/0"] = Answer(302, b"", (("Location", web.url(31, "/other")),))
        web.answers[16, "/1"] = web.answers[16, "/1"]._replace(headers=(ETAG, DATE, LINK))
        urls = [web.url(*place) for place in places]
        table = pa.table({"url": urls, "caption": TEXTS[: len(urls)]})
        pq.write_table(table, folder / "list.parquet")
        flags = (*FLAGS, "--tdmrep_json", "--timeout_s=60", "--user_agent_token=ours")
        succeed(folder / "list.parquet", folder / "out", *flags)
        assert len(stored(folder / "out")) == len(urls)
        web.answers |= {(host, ROBOTS): Answer(200, body) for host, body in FILES.items()}
        web.answers |= {(host, TDMREP): Answer(200, RESERVED) for host in (4, 5)}
        web.answers |= {(6, ROBOTS): Answer(503), (7, ROBOTS): Answer(0)}
        web.answers |= {(12, "/rsl.xml"): Answer(200, RSL), (14, "/rsl.xml"): Answer(503)}
        web.answers[16, "/rsl.xml"] = Answer(200, RSL)
        web.answers |= {(15, TDMREP): Answer(503)}
        web.answers |= {(host, f"/{n}"): answer for (host, n), answer in ANSWERS.items()}
        yield Made(web, folder / "out")


FILES = {
    1: FORBIDDEN,
    2: b"User-agent: ours\nDisallow: /1\n",
    3: b"User-agent: *\nAllow: /\nContent-Usage: train-ai=n\n",
    8: b"User-agent: ours\nDisallow: /\n\nUser-agent: *\nAllow: /\n",
    9: b"User-agent: other\nDisallow: /\n",
    11: b"User-agent: *\nContent-Signal: search=yes,ai-train=no\nAllow: /\n",
    12: b"License: /rsl.xml\n",
    13: b"User-agent: CCBot\nDisallow: /\n",
    14: b"License: /rsl.xml\n",
    31: b"User-agent: *\nDisallow: /other\n",
}
RSL = b'<rsl xmlns="https://rslstandard.org/rsl"><content url="/"><license><prohibits type="usage">'
RSL += b"ai-train</prohibits></license></content></rsl>"
ANSWERS = {
    (5, 0): Answer(headers=(("tdm-reservation", "0"),)),
    (5, 1): Answer(405),
    (20, 0): Answer(headers=(ETAG, DATE, ("X-Robots-Tag", "noai"))),
    (21, 0): Answer(404),
    (21, 1): Answer(410),
    (22, 0): Answer(405),
    (22, 1): Answer(501),
    (23, 0): Answer(headers=(("ETag", '"2"'), DATE)),
    (23, 1): Answer(headers=(("Last-Modified", "Fri, 02 Jan 2026 00:00:00 GMT"),)),
    (23, 2): Answer(headers=(("ETag", 'W/"1"'), DATE)),
}
# What is found of the images of a host; "": nothing.
BY_FILES = {
    1: ["robots_txt"] * 3,
    2: ["", "robots_txt", ""],
    3: ["content_usage"] * 3,
    4: ["tdm_reservation"] * 3,
    5: ["", "tdm_reservation", "tdm_reservation"],  # one by HEAD freed, one unanswered
    6: ["no_robots_txt"] * 3,
    7: ["no_robots_txt"] * 3,
    8: ["robots_txt"] * 3,
    11: ["content_signal"] * 3,
    12: ["rsl"] * 3,
    13: ["robots_txt:CCBot"] * 3,
    14: ["no_license"] * 3,
    15: ["no_tdmrep_json"] * 3,
    16: ["", "rsl", ""],  # by a licence that only the response named
    30: ["robots_txt", "", ""],  # by the host that it leads to
}
BY_IMAGES = {
    20: ["x_robots_tag", "", ""],
    21: ["http_404", "http_410", ""],
    22: ["http_405", "http_5xx", ""],
    23: ["etag", "last_modified", ""],
}


def recheck(out: object, *flags: str) -> Ended:
    forked = start("alignset.pipeline.commands:recheck", out, *ASKING, *flags)
    said = forked.communicate()
    return Ended(forked.wait(), *said)


def found(made: Made, out: Path) -> dict[int, list[str]]:
    """The details of `recheck.parquet` by host and image."""
    rows = pq.read_table(out / "recheck.parquet").to_pylist()
    assert {row["key"]: row["url"] for row in rows}.items() <= stored(made.out).items()
    details = {row["url"]: row["detail"] for row in rows}
    of = {n: [details.get(made.web.url(n, f"/{image}"), "") for image in IMAGES] for n in HOSTS}
    return {n: some for n, some in of.items() if any(some)}


def test_exactly_those_are_found_who_have_opted_out_since(made: Made, tmp_path: Path) -> None:
    out = made.copy(tmp_path)
    before = digests(out)
    ended = recheck(out)
    assert found(made, out) == BY_FILES, ended.err
    asked = Counter(made.web.asked)
    assert [asked["GET", n, ROBOTS] for n in HOSTS] == [1] * len(HOSTS)
    assert max(asked.values()) == 1
    images = {of for of in asked if of[2] not in HOST_FILES}
    assert images == {("HEAD", n, f"/{image}") for n in (4, 5) for image in IMAGES}
    rows = pq.read_table(out / "recheck.parquet").to_pylist()
    files = {
        row["detail"]: (row["file"] or "").rpartition(str(made.web.server_port))[2] for row in rows
    }
    named = {"robots_txt": ROBOTS, "tdm_reservation": TDMREP, "rsl": "/rsl.xml"}
    assert {detail: files[detail] for detail in named} == named
    lines = ended.out.splitlines()
    assert lines[0] == "opted out since: 26 pairs of 11 hosts"
    assert f"  {made.web.url(1, ': robots_txt 3').partition('//')[2]}" in lines
    assert "unanswered, which says nothing, so they stay: 12 pairs of 4 hosts" in lines
    assert lines[-1] == "as they were: 70 of 108 pairs"
    bodies = {row["url"]: row["body"] for row in rechecked(out)}
    assert {host: bodies[made.web.url(host, ROBOTS)] for host in FILES} == FILES
    assert (bodies[made.web.url(16, "/rsl.xml")], bodies[made.web.url(6, ROBOTS)]) == (RSL, None)
    assert digests(out, ("recheck.parquet",)) == before, "nothing is taken out, no state is left"
    # Within a day nobody is asked again, unless other things are asked.
    made.web.asked.clear()
    assert recheck(out, "--dry_run").out == ended.out
    assert made.web.asked == []
    assert recheck(out, "--robots_txt=false").status == 0
    of_images = {f"/{image}" for image in IMAGES}
    assert {path for *_, path in made.web.asked} == {TDMREP, "/rsl.xml", *of_images}


def test_each_image_is_asked_for_by_head(made: Made, tmp_path: Path) -> None:
    out = made.copy(tmp_path)
    ended = recheck(out, "--images")
    assert found(made, out) == BY_FILES | BY_IMAGES, ended.err
    asked = Counter(made.web.asked)
    assert {method for method, _, path in asked if path not in HOST_FILES} == {"HEAD"}
    assert max(asked.values()) == 1
    assert "\ngone: 2 pairs of 1 host\n" in ended.out
    rows = pq.read_table(out / "recheck.parquet").to_pylist()
    files = {row["detail"]: row["file"] for row in rows if row["outcome"] == "opted_out"}
    assert [of for of, file in files.items() if file[:4] == "key:"] == ["x_robots_tag"]
    assert "\nchanged: 2 pairs of 1 host\n" in ended.out
    taken = recheck(out, "--images", "--apply", "--gone")
    assert "taken down: 29 pairs" in taken.out
    (entry,) = manifest(out)["takedowns"]
    assert entry["reason"] == "withdrawn"
    (named,) = [of["sha256"] for of in entry["evidence"] if of["url"] == files["x_robots_tag"]]
    assert stated_by(out, named) == (b"X-Robots-Tag: noai\n", "headers")
    check_dataset(out)
    list_path = tmp_path / "list.txt"
    list_path.write_text(files["x_robots_tag"])
    words = (str(out), f"--blocklist={list_path}", "--forget_blocked")
    assert command("takedown", *words) == 0
    assert stated_by(out, named) is None, "the key of its pair, with the URL of a redirect perhaps"
    assert stated_by(out, hashlib.sha256(FORBIDDEN).hexdigest())


def rechecked(out: Path) -> list[dict[str, Any]]:
    """The rows of evidence of a recheck."""
    return [row for path in out.glob("evidence/rec*") for row in pq.read_table(path).to_pylist()]


def stated_by(out: Path, sha256: str) -> tuple[bytes, str] | None:
    """The bytes that this has of a SHA-256, and their kind."""
    found = ((of["body"], of["kind"]) for of in rechecked(out) if of["sha256"] == sha256)
    return next(found, None)


def test_a_killed_one_resumes_where_it_stopped(made: Made, tmp_path: Path) -> None:
    out, web = made.copy(tmp_path), made.web
    parts = {n: zlib.crc32(web.url(n, "").partition("//")[2].encode()) % 16 for n in HOSTS}
    web.held, web.let_go = 10, Event()
    forked = start("alignset.pipeline.commands:recheck", out, *ASKING)
    while len([*out.glob("_recheck/*.parquet")]) < len({*parts.values()}) - 1:
        assert forked.poll() is None
        time.sleep(0.01)
    assert "another run is writing" in recheck(out).err
    forked.send_signal(signal.SIGKILL)
    forked.wait()
    web.let_go.set()
    assert web.robots_asked == {*HOSTS}
    other = shutil.copytree(out, tmp_path / "other")
    web.asked.clear()
    assert recheck(out).status == 0
    assert found(made, out) == BY_FILES
    of_part = {n for n in HOSTS if parts[n] == parts[10]}
    assert web.robots_asked == of_part | ({31} if 30 in of_part else set())
    web.asked.clear()
    assert recheck(other, "--user_agent_token=another").status == 0
    assert web.robots_asked == {*HOSTS}, "what others were told does not count"
    assert found(made, other).keys() == BY_FILES.keys() - {2, 8}


def test_what_is_taken_out_is_what_a_takedown_takes_out(made: Made, tmp_path: Path) -> None:
    out = made.copy(tmp_path)
    assert recheck(out).status == 0
    lists: dict[str, str] = {}
    for row in pq.read_table(out / "recheck.parquet").to_pylist():
        if row["outcome"] == "opted_out":
            kind = row["detail"].partition(":")[0]
            lists[kind] = f"{lists.get(kind, '')}key:{row['key']}\n"
    for kind, lines in lists.items():
        (tmp_path / kind).write_text(lines)
    taken, killed = (shutil.copytree(out, tmp_path / name) for name in ("taken", "killed"))
    named = ",".join(f"recheck-{kind}={tmp_path}/{kind}" for kind in sorted(lists))
    assert command("takedown", str(taken), f"--blocklist={named}") == 0
    made.web.asked.clear()
    _, said, changes = run_killed(out, UNSEEN, "recheck", str(out), *ASKING, "--apply")
    assert "taken down: 26 pairs (" in said
    documents = ("manifest.json", "README.md", "_generated/README.md")  # which name the command
    assert digests(out, documents) == digests(taken, documents)
    assert all(stated_by(out, of["sha256"]) for of in manifest(out)["takedowns"][0]["evidence"])
    assert not (out / "recheck.parquet").exists(), "it may name what is to be forgotten"
    check_dataset(out)
    when = changes.index("_temporary/change.json") + 3
    run_killed(killed, when, "recheck", str(killed), *ASKING, "--apply")
    assert "alignset recheck --apply was stopped on" in recheck(killed).err
    assert recheck(killed, "--apply").status == 0
    assert digests(killed) == digests(out)
    assert made.web.asked == [], "what was shown is what goes"
    (entry,), (plain,) = (manifest(of)["takedowns"] for of in (out, taken))
    evidence = {of["url"]: of for of in entry.pop("evidence")}
    assert entry == plain
    of_host = evidence[made.web.url(1, ROBOTS)]
    assert (of_host["sha256"], of_host["pairs"]) == (hashlib.sha256(FORBIDDEN).hexdigest(), 3)
    assert sum(of["pairs"] for of in evidence.values()) == 26
    new = grow(out, tmp_path / "new", f"--input={made.out.parent}/list.parquet", *ASKING)
    assert new.status == 0, new.err
    assert stored(tmp_path / "new").keys() == stored(out).keys(), "they stay out, without a list"


def test_a_dataset_in_a_store(made: Made, s3: Store, tmp_path: Path) -> None:
    out, there = made.copy(tmp_path), f"{s3.root}/rechecked"
    for path in out.rglob("*"):
        if path.is_file():
            s3.upload(path, f"{there}/{path.relative_to(out)}")
    with options_of(s3):
        ended = recheck(there, "--apply")
    assert "taken down: 26 pairs" in ended.out, ended.err
    got = s3.download(there, tmp_path / "got")
    assert not [*got.glob("*recheck*")]
    assert recheck(out, "--apply").out == ended.out
    days = ("manifest.json",)  # with the times of evidence
    assert digests(got, days) == digests(out, days)
    of_files = [{(row["url"], row["sha256"]) for row in rechecked(of)} for of in (got, out)]
    assert of_files[0] == of_files[1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--min_words=2",), "--min_words: recheck takes flags of fetching and opt-outs"),
        (("--opt_outs=report",), "--opt_outs: recheck takes"),
        (("--runner=x",), "--runner=x: recheck takes"),
        (("--apply", "--dry_run"), "pass --dry_run or --apply"),
        (("--gone", "--apply"), "--gone has no effect without --images"),
        (("--connections=0",), "connections must be >= 1"),
    ],
)
def test_wrong_flags_are_refused(
    made: Made, flags: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main([str(made.out), *flags])
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert message in capsys.readouterr().err
