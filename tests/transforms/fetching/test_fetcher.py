"""The fetcher of a process: several calls at once, what they share, and that each ends."""

import dataclasses
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from alignset.transforms.fetching import connection_limit, fetcher
from alignset.transforms.fetching.connection_limit import ConnectionLimit
from alignset.transforms.fetching.fetch_settings import FETCH_DETAILS, FetchSettings
from alignset.transforms.fetching.fetcher import Fetched, connections_open, fetch_all
from tests.support.bad_web import BODY, BadWeb, bad_web
from tests.support.certificates import Authority
from tests.support.root import ROOT
from tests.support.serving import serving

HOW = FetchSettings(robots_txt=False, allow_private_addresses=True, timeout_s=5.0, retries=0)


@pytest.fixture
def web() -> Iterator[BadWeb]:
    with bad_web() as server:
        yield server


def test_a_host_bears_no_more_of_several_calls_than_of_one(web: BadWeb):
    how = dataclasses.replace(HOW, connections_per_host=3)
    urls = [f"{web.url}/hang/0.05"] * 20
    with ThreadPoolExecutor(4) as pool:
        for results in pool.map(lambda _: list(fetch_all(urls, how)), range(4)):
            assert sorted(one.index for one in results) == list(range(20))
            assert all(one.body == BODY for one in results)
    assert web.most_at_once == 3


def test_a_call_that_is_left_takes_nothing_of_another(web: BadWeb):
    """Neither the connections that hang for an hour, nor a turn of those that wait for one."""
    patient = dataclasses.replace(HOW, timeout_s=3600.0, idle_timeout_s=3600.0)
    left = fetch_all([f"{web.url}/ok", *[f"{web.url}/hang/3600"] * 50], patient)
    assert next(left).body == BODY
    left.close()
    how = dataclasses.replace(HOW, shard_timeout_s=60.0)
    assert [one.body for one in fetch_all([f"{web.url}/ok"] * 3, how)] == [BODY] * 3
    assert len(web.heads) <= 1 + HOW.connections_per_host + 3


def test_the_end_of_one_calls_time_ends_no_other(web: BadWeb):
    settings = dataclasses.replace(
        HOW, shard_timeout_s=6.0, timeout_s=30.0, idle_timeout_s=30.0, connections_per_host=100
    )

    def call(urls: list[str], after_s: float) -> Counter[str | None]:
        time.sleep(after_s)
        return Counter(one.detail for one in fetch_all(urls, settings))

    with ThreadPoolExecutor(2) as pool:
        early = pool.submit(call, [f"{web.url}/hang/20"] * 9, 0.0)
        late = pool.submit(call, [f"{web.url}/hang/3"] * 9, 4.0)
    assert (early.result(), late.result()) == ({"deadline": 9}, {None: 9})


def test_that_urls_are_nearly_taken_and_how_many_are_open_is_known(web: BadWeb):
    nearly, events = threading.Event(), []
    urls = [f"{web.url}/ok"] * 1_000
    for one in fetch_all(urls, dataclasses.replace(HOW, connections=4), nearly):
        events.append(nearly.is_set())
        assert one.body == BODY
    assert (events[0], events[-1]) == (False, True)
    fetching = fetch_all([f"{web.url}/ok", *[f"{web.url}/hang/2"] * 5], HOW)
    next(fetching)
    count, limited_by = connections_open()
    assert 1 <= count <= 6
    assert limited_by
    fetching.close()


def test_what_breaks_the_fetcher_comes_to_every_caller_and_the_next_call_works(
    web: BadWeb, monkeypatch: pytest.MonkeyPatch
):
    def broken(self: ConnectionLimit) -> None:
        raise RuntimeError("a broken invariant")

    with monkeypatch.context() as patched:
        patched.setattr(ConnectionLimit, "note_answer", broken)
        with pytest.raises(RuntimeError, match="a broken invariant"):
            list(fetch_all([f"{web.url}/ok"], HOW))
    assert [one.body for one in fetch_all([f"{web.url}/ok"], HOW)] == [BODY]


def test_a_fetcher_ends_when_nobody_asks(web: BadWeb, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fetcher, "IDLE_S", 0.2)
    how = dataclasses.replace(HOW, contact="of-its-own")
    before = threading.active_count()
    assert [one.body for one in fetch_all([f"{web.url}/ok"], how)] == [BODY]
    until = time.monotonic() + 60
    while threading.active_count() > before:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert [one.body for one in fetch_all([f"{web.url}/ok"], how)] == [BODY]


@pytest.mark.slow
def test_hosts_that_accept_and_never_answer_hold_up_no_other(
    web: BadWeb, monkeypatch: pytest.MonkeyPatch
):
    """200 addresses of loopback, before all that is good: more than the limit, which stays low."""
    monkeypatch.setattr(connection_limit, "LEAST_STALLED_S", 0.2)
    monkeypatch.setattr(ConnectionLimit, "review", lambda *_: None)
    how = dataclasses.replace(HOW, timeout_s=8.0)
    with ExitStack() as stack:
        silent = stack.enter_context(socket.socket())
        silent.bind(("0.0.0.0", 0))
        silent.listen(1000)
        port = silent.getsockname()[1]
        urls = [f"http://127.0.{n // 100}.{n % 100 + 1}:{port}/" for n in range(200)]
        ends = list(fetch_all([*urls, *[f"{web.url}/ok"] * 100], how))
    details = Counter((one.index >= 200, one.detail) for one in ends)
    assert details == {(False, "timeout"): 200, (True, None): 100}
    assert all(one.body for one in ends[:100])  # none waited until those had their time


FEW_FILES = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
from collections import Counter
from alignset.transforms.fetching.fetch_settings import FetchSettings
from alignset.transforms.fetching.fetcher import fetch_all
how = dict(robots_txt=False, allow_private_addresses=True, retries=0, connections_per_host=8)
urls = [f"http://127.0.{n % 9}.{n % 200 + 1}:{sys.argv[1]}/hang/0.02" for n in range(600)]
print(sorted(Counter(end.detail for end in fetch_all(urls, FetchSettings(**how))).items(), key=str))
print(len(os.listdir("/proc/self/fd")) < 256)
"""


def test_a_process_of_256_files_loses_nothing():
    """Each of 600 URLs is on one of 1,800 addresses, whose connections are kept as it can."""
    with bad_web(everywhere=True) as web:
        command = [sys.executable, "-c", FEW_FILES, str(web.server_address[1])]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[(None, 600)]", "True"]
    assert "may open 256 files" in done.stderr


def test_no_clock_that_may_jump_is_asked_but_for_the_date_of_an_answer():
    """All waiting, and all that is kept for a time, goes by the monotonic clock."""
    clocks = re.compile(r"time\.time\b|time_ns|datetime|gmtime|localtime|CLOCK_REALTIME")
    paths = sorted((ROOT / "transforms" / "fetching").glob("*.py"))
    asked = {path.name: clocks.findall(path.read_text()) for path in paths}
    assert {name: used for name, used in asked.items() if used} == {
        "curl_transfers.py": ["time.time"],
        "routes.py": ["time.time"],
    }


def test_one_answer_that_is_too_long_ends_no_other(web: BadWeb, monkeypatch: pytest.MonkeyPatch):
    """What had to wait for memory goes on within a call of curl's, and may be refused there."""
    monkeypatch.setattr(fetcher, "memory_for_bodies", lambda: 300_000)
    how = dataclasses.replace(
        HOW,
        timeout_s=120.0,  # they go on one after another
        max_image_bytes=250_000,
        connections_per_host=32,
        contact="of-little-memory",
    )
    kinds = ["endless", "gzip/1000000", "ok"] * 8
    ends = list(fetch_all([f"{web.url}/{kind}" for kind in kinds], how))
    details = Counter((kinds[one.index], one.detail) for one in ends)
    assert details == {
        ("endless", "too_large"): 8,
        ("gzip/1000000", "too_large"): 8,
        ("ok", None): 8,
    }


def test_answers_of_a_call_that_is_over_count_until_they_are_looked_at(
    web: BadWeb, monkeypatch: pytest.MonkeyPatch
):
    """Else each shard that is fetched whole holds as much again: 1.2 GB of 20,000 photographs."""
    monkeypatch.setattr(fetcher, "memory_for_bodies", lambda: 32 * len(BODY))
    how = dataclasses.replace(HOW, max_image_bytes=len(BODY), contact="behind")
    first = fetch_all([f"{web.url}/ok?{n}" for n in range(10)], how)
    assert next(first).body == BODY
    end = time.monotonic() + 60
    while len(web.heads) < 10 and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.5)  # until the fetcher has brought all ten, and the call is over for it
    second: list[Fetched] = []
    urls = [f"{web.url}/ok?b{n}" for n in range(3)]
    thread = threading.Thread(target=lambda: second.extend(fetch_all(urls, how)))
    thread.start()
    thread.join(0.5)
    assert (len(web.heads), second) == (10, [])
    assert len(list(first)) == 9
    thread.join(60)
    assert len(second) == 3


STOPPED = """\
import sys
from alignset.transforms.fetching.fetch_settings import FetchSettings
from alignset.transforms.fetching.fetcher import fetch_all
how = FetchSettings(robots_txt=False, allow_private_addresses=True, timeout_s=2.0, retries=1,
                    connections_per_host=20)
print(*sorted({str(end.detail) for end in fetch_all(sys.argv[1:], how)}))
"""


def test_a_process_that_stands_still_loses_nothing() -> None:
    with bad_web() as server:
        urls = [f"{server.url}/hang/1?n={n}" for n in range(10)]
        command = [sys.executable, "-c", STOPPED, *urls]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
            while sum(server.requests_of(f"/hang/1?n={n}") for n in range(10)) < 10:
                time.sleep(0.01)
            child.send_signal(signal.SIGSTOP)
            time.sleep(3.2)  # each attempt has 2 s, and a pause counts from 1 s on
            child.send_signal(signal.SIGCONT)
            assert child.stdout is not None
            assert child.stdout.read() == "None\n"
        asked = [server.requests_of(f"/hang/1?n={n}") for n in range(10)]
        assert max(asked) == 2  # they were late, or nothing was tested here


# TLS: certificates are checked as a browser does, and the message says what is wrong.


class _Secure(BadWeb):
    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__("127.0.0.1")
        self.versions: list[str] = []  # of each connection
        self.socket = context.wrap_socket(self.socket, server_side=True)

    def get_request(self) -> tuple:
        accepted = super().get_request()
        self.versions.append(accepted[0].version())
        return accepted


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """The one that this process trusts."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
    return authority


def own(folder: Path) -> FetchSettings:
    """Settings of their own, so that their fetcher begins with the authority of this test."""
    return dataclasses.replace(HOW, timeout_s=10.0, contact=str(folder))


def details(server: _Secure, how: FetchSettings, count: int = 1) -> list[str | None]:
    urls = [f"https://127.0.0.1:{server.server_address[1]}/ok?{n}" for n in range(count)]
    return [end.detail for end in fetch_all(urls, how)]


def test_what_is_wrong_with_a_certificate_is_told(authority: Authority, tmp_path: Path):
    here, stranger = "127.0.0.1", Authority(tmp_path, "stranger")
    how, found = own(tmp_path), {}
    for name, context in {
        "good": authority.context(here),
        "expired": authority.context(here, days=(-2, -1)),
        "wrong name": authority.context("other.example"),
        "not yet valid": authority.context(here, days=(1, 2)),
        "unknown issuer": stranger.context(here),
    }.items():
        with serving(_Secure(context)) as server:
            (found[name],) = details(server, how)
    assert found == {
        "good": None,
        "expired": "tls_expired",
        "wrong name": "tls_wrong_name",
        "not yet valid": "tls",
        "unknown issuer": "tls_unknown_issuer",
    }
    assert {*found.values()} - {None} <= FETCH_DETAILS


def test_a_connection_is_kept_across_calls_and_is_tls_1_3(authority: Authority, tmp_path: Path):
    how = dataclasses.replace(own(tmp_path), connections_per_host=1)
    with serving(_Secure(authority.context("127.0.0.1"))) as server:
        for _ in range(3):
            assert details(server, how, 4) == [None] * 4
        assert server.versions == ["TLSv1.3"]
