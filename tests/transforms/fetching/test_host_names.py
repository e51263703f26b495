"""Names that are looked up: each by itself, and none for longer than the settings say."""

import dataclasses
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from random import Random

import pytest

from tests.support.bad_web import BadWeb, bad_web
from transforms.fetching.fetch import FetchSettings, fetch_all
from transforms.fetching.host_names import LOOKUPS, HostNames
from transforms.fetching.host_queue import Job

HOW = FetchSettings(allow_private_addresses=True, connections=100, connect_timeout_s=1.0, retries=0)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A resolver of the system that knows all names but `no…`, and never answers for `silent…`."""
    asked, over, real = [], threading.Event(), socket.getaddrinfo

    def look_up(name: bytes, *args: object, **more: object) -> list:
        asked.append(name.decode())
        if name.startswith(b"silent"):
            over.wait()
        if name.startswith(b"no"):
            raise socket.gaierror(socket.EAI_NONAME)
        return real("127.0.0.1", *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield asked
    over.set()


@pytest.fixture
def web() -> Iterator[BadWeb]:
    with bad_web() as server:
        yield server


def test_silent_names_hold_up_no_other(asked: list[str], web: BadWeb):
    """50 at once: curl's own lookups were 20 threads, and all other names waited behind them."""
    port = web.server_address[1]
    kinds = ["silent", "good", "no"] * 50
    urls = [f"http://{kind}{n}.example:{port}/ok" for n, kind in enumerate(kinds)]
    # The end does not wait for the silent ones: their lookups last as long as this test.
    ended = Counter((kinds[end.index], end.detail) for end in fetch_all(urls, HOW))
    assert ended == {("silent", "timeout"): 50, ("good", None): 50, ("no", "dns"): 50}
    assert sorted(asked) == sorted(url.split("/")[2].split(":")[0] for url in urls)


def test_ten_thousand_silent_names_take_no_more_threads_and_lose_no_other(
    monkeypatch: pytest.MonkeyPatch,
):
    """Silent for four times as long as a name is waited for, they keep all threads busy. Then what
    waits is waiting for its turn, which takes nothing of its time."""
    busy, most, lock = 0, 0, threading.Lock()

    def look_up(name: bytes, *_: object, **__: object) -> list:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        silent = name.startswith(b"silent")
        if silent:
            time.sleep(0.4)
        with lock:
            busy -= 1
        if silent:
            raise socket.gaierror(socket.EAI_AGAIN)
        return [(0, 0, 0, "", ("192.0.2.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    kinds = ["silent"] * 10_000 + ["good"] * 1_000
    Random(1).shuffle(kinds)
    left_s = {"silent": 0.1, "good": 60.0}
    numbered = enumerate(kinds)
    jobs = (Job(n, "", f"http://{kind}{n}/", left_s=left_s[kind]) for n, kind in numbered)
    names, ended, threads = HostNames(timeout_s=60.0), [], threading.active_count()
    while len(ended) < len(kinds):
        for job in islice(jobs, 1_000 - len(names)):
            names.add(job)
        select.select([names.bell], [], [], min(1.0, names.due_s()))
        ended += names.ended()
        assert threading.active_count() - threads <= LOOKUPS
    names.close()
    outcomes = Counter((kinds[job.index], detail is None) for job, _, detail in ended)
    assert outcomes == {("silent", False): 10_000, ("good", True): 1_000}
    assert most == LOOKUPS


def test_where_the_system_gives_no_thread_a_name_waits_for_another_ones(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
):
    start, started = threading.Thread.start, []

    def only_once(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(start(thread))

    monkeypatch.setattr(threading.Thread, "start", only_once)
    hold, original = threading.Event(), socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **b: hold.wait() and original(*a, **b))
    names = HostNames(timeout_s=5.0)
    for n in range(3):
        names.add(Job(n, "", f"https://host{n}.example/", left_s=5.0))
    hold.set()
    ended = []
    while len(ended) < 3:
        ended += names.ended()
    assert [detail for *_, detail in ended] == [None] * 3
    names.close()


def test_a_name_that_breaks_the_resolver_leads_nowhere(monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object, **__: object) -> list:
        raise UnicodeError("label too long")

    monkeypatch.setattr(socket, "getaddrinfo", broken)
    names = HostNames(timeout_s=60.0)
    names.add(Job(0, "", "http://a.example/", left_s=60.0))
    names.add(Job(1, "", "http://\udc80.example/", left_s=60.0))
    ended = []
    while len(ended) < 2:
        select.select([names.bell], [], [], 1.0)
        ended += names.ended()
    assert [detail for *_, detail in ended] == ["dns", "dns"]
    names.close()


def test_a_name_is_looked_up_once_for_many_urls(asked: list[str], web: BadWeb):
    port = web.server_address[1]
    urls = [f"http://{name}.example:{port}/ok" for name in ("a", "b", "silent") * 20]
    how = dataclasses.replace(HOW, connections_per_host=5, retries=1, max_host_failures=0)
    details = Counter(end.detail for end in fetch_all(urls, how))
    assert details == {None: 40, "timeout": 20}
    assert sorted(asked) == ["a.example", "b.example", "silent.example"]


def test_addresses_are_not_looked_up(asked: list[str], web: BadWeb):
    urls = [f"{web.url}/ok", f"http://[::1]:{web.server_address[1]}/ok"]
    assert {end.detail for end in fetch_all(urls, HOW)} == {None, "refused"}
    assert asked == []


def test_where_a_name_leads_is_checked(asked: list[str], web: BadWeb):
    how = dataclasses.replace(HOW, allow_private_addresses=False)
    (end,) = fetch_all([f"http://good.example:{web.server_address[1]}/ok"], how)
    assert (end.detail, web.heads) == ("forbidden_address", [])


def test_answers_are_forgotten(asked: list[str], monkeypatch: pytest.MonkeyPatch):
    names = HostNames(timeout_s=5.0)
    for n in range(3):
        names.add(Job(n, "", f"https://host{n}.example/", left_s=5.0))
    ended = []
    while len(ended) < 3:
        ended += names.ended()
    assert [detail for *_, detail in ended] == [None] * 3
    assert names.entry(ended[0][0]).split(":", 1)[1].startswith("443:127.0.0.1")
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 61)
    assert names.entry(ended[0][0]) is None
    assert list(names.ended()) == []
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert names.entry(ended[0][0]) is None  # it is held no more, not only too old
    names.add(ended[0][0])  # and it is looked up again
    while len(ended) < 4:
        ended += names.ended()
    assert (ended[3][2], len(asked), len(names)) == (None, 4, 0)
    names.close()
