"""Names that are looked up: each by itself, and none for longer than the settings say."""

import dataclasses
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from alignset.transforms.fetching import host_names
from alignset.transforms.fetching.fetch_settings import FetchSettings
from alignset.transforms.fetching.fetcher import fetch_all
from alignset.transforms.fetching.host_queue import FetchJob
from tests.support.bad_web import BadWeb, bad_web
from tests.support.name_server import NameServer, name_server
from tests.support.watched_names import Watched, job

HOW = FetchSettings(
    robots_txt=False,
    allow_private_addresses=True,
    connections=100,
    connect_timeout_s=1.0,
    retries=0,
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    with name_server() as server:
        monkeypatch.setattr(host_names, "SERVERS", [server.address])
        yield server


@pytest.fixture
def watched(server: NameServer) -> Iterator[Watched]:
    watched = Watched(timeout_s=1.0)
    yield watched
    watched.names.close()


@pytest.fixture
def web() -> Iterator[BadWeb]:
    with bad_web() as server:
        yield server


def own(how: FetchSettings, server: NameServer) -> FetchSettings:
    """Settings that no other test has: their fetcher, which is new, asks this server."""
    return dataclasses.replace(how, contact=server.address)


def test_thousands_of_names_take_no_thread_and_the_silent_ones_lose_no_other(watched: Watched):
    """Of 1,000 at once; each of the others is found, and none costs a thread."""
    threads = threading.active_count()
    kinds = ["good"] * 18 + ["silent", "servfail"]
    jobs = [job(f"{kind}{n}.example") for n in range(50) for kind in kinds]
    found = watched.look_up(jobs)
    assert threading.active_count() <= threads
    assert {one.host[:4] for one, detail in found if detail is None} == {"good"}
    assert Counter(detail for _, detail in found) == {None: 900, "timeout": 50, "dns": 50}


def test_of_many_addresses_the_first_are_kept_and_a_name_may_have_none(watched: Watched):
    many = job("many.example")
    assert watched.look_up([many]) == [(many, None)]
    entry = watched.names.entry(many)
    assert entry is not None
    assert [entry.count(","), entry.count("127.0.0.64"), entry.count("127.0.0.65")] == [63, 1, 0]
    # No address; too long a label; no names at all.
    names = ("bare.example", "a" * 64 + ".example", "a b.example", "\udc80.example", "no.-")
    ends = watched.look_up([job(name) for name in names])
    assert [detail for _, detail in ends] == ["dns"] * len(names)
    for name in ("127.0.0.1", "0x7f.1", "2130706433", "[::1]", "a.0x7f"):
        assert watched.names.entry(job(name)) == ""  # addresses are not looked up


def test_a_name_that_was_lost_in_time_is_asked_for_again(server: NameServer, watched: Watched):
    """A time-out is not an answer, so it is not kept for the next attempt."""
    server.is_down = True
    watched.names.add(job("a.example", left_s=0.1))
    while not (ended := watched.ended()):
        pass
    assert [detail for _, _, detail in ended] == ["timeout"]
    server.is_down = False
    assert [detail for _, detail in watched.look_up([job("a.example")])] == [None]


def test_a_name_is_looked_up_once_for_many_urls(server: NameServer, web: BadWeb):
    port = web.server_address[1]
    urls = [f"http://{name}.example:{port}/ok" for name in ("a", "b", "silent") * 20]
    how = dataclasses.replace(HOW, connections_per_host=10, max_host_failures=0)
    details = Counter(end.detail for end in fetch_all(urls, own(how, server)))
    assert details == {None: 40, "timeout": 20}
    assert server.asked["a.example"] == server.asked["b.example"] == 1


def test_an_answer_is_kept_across_calls_for_as_long_as_it_says(watched: Watched):
    names = watched.names
    watched.look_up([job(n) for n in ("kept.example", "kept.example:81", "short.example")])
    assert names.entry(job("kept.example:81")) == "+kept.example:81:127.0.0.1"
    later = time.monotonic() + 2
    while time.monotonic() < later:
        watched.ended()
    assert names.entry(job("kept.example")) is not None
    assert names.entry(job("short.example")) is None
    assert names.entry(FetchJob(0, "", "https://kept.example/")).split(":")[1] == "443"


def test_what_waited_for_a_name_asks_no_faster_than_allowed(server: NameServer, web: BadWeb):
    """Five URLs wait for one name, which then leads somewhere for all of them at once."""
    server.delay_s = 0.6
    how = dataclasses.replace(HOW, connect_timeout_s=5.0, requests_per_second_per_host=5.0)
    url = f"http://slow.example:{web.server_address[1]}/ok"
    assert all(end.body for end in fetch_all([url] * 5, own(how, server)))
    steps_s = [later - one for one, later in itertools.pairwise(web.times)]
    assert min(steps_s) > 0.05, steps_s  # 0.2, less what the first connection took


def test_where_a_name_leads_is_checked(server: NameServer, web: BadWeb):
    how = dataclasses.replace(HOW, allow_private_addresses=False)
    url = f"http://good.example:{web.server_address[1]}/ok"
    (end,) = fetch_all([url], own(how, server))
    assert (end.detail, web.heads) == ("forbidden_address", [])


def test_a_name_server_that_dies_and_comes_back_loses_no_name(server: NameServer, watched: Watched):
    """It is away for three times as long as a name is waited for; who waits loses no time by it."""
    server.is_down = True
    threading.Timer(3.0, setattr, (server, "is_down", False)).start()
    found = watched.look_up([job(f"good{n}.example") for n in range(200)])
    assert Counter(detail for _, detail in found) == {None: 200}


def test_a_name_server_that_is_dead_is_not_waited_for_without_end(
    server: NameServer, watched: Watched, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(host_names, "PATIENCE_S", 2.0)
    server.is_down = True
    ended: list[tuple[FetchJob, float, str | None]] = []
    watched.names.add(job("good.example"))
    while not ended:
        ended = watched.ended()
    ((_, waited_s, detail),) = ended
    assert detail == "timeout"
    assert waited_s <= 1.0  # as much of the attempt's time as any name takes


def test_jobs_that_are_removed_wait_no_more(watched: Watched):
    for n in range(4):
        watched.names.add(FetchJob(n, "", f"http://silent{n % 2}.example/", left_s=30.0))
    removed = watched.names.remove(lambda one: one.index < 2)
    assert sorted(one.index for one in removed) == [0, 1]
    assert len(watched.names) == 2


def test_a_name_server_that_slows_down_loses_no_name(server: NameServer):
    """After answers within a millisecond c-ares waits for 0.25 s; recursion may take longer."""
    watched = Watched(timeout_s=5.0)
    assert {detail for _, detail in watched.look_up([job(f"a{n}.example") for n in range(50)])} == {
        None
    }
    server.delay_s = 1.5
    names = [*(f"b{n}.example" for n in range(50)), "no.example"]
    details = [detail for _, detail in watched.look_up([job(name) for name in names])]
    watched.names.close()
    assert Counter(details) == {None: 50, "dns": 1}


NAMES = {  # addresses, and whether they are kept for long
    "six.example": ("127.0.0.1,[::1]", True),
    "sixonly.example": ("[::1]", True),
    "sixlost.example": ("[::1]", False),
    "sixfail.example": ("[::1]", False),
}


def test_what_was_lost_of_an_answer_is_asked_for_by_itself(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
):
    """A machine without IPv6 would lose the host for as long as the TTL of the other half."""
    watched = Watched(timeout_s=4.0)
    entry = watched.names.entry
    assert {detail for _, detail in watched.look_up([job(name) for name in NAMES])} == {None}
    found = {name: entry(job(name)) for name in NAMES}
    assert found == {name: f"+{name}:80:{addresses}" for name, (addresses, _) in NAMES.items()}
    later = time.monotonic() + 60
    monkeypatch.setattr(host_names.time, "monotonic", lambda: later)
    assert {name: entry(job(name)) is not None for name in NAMES} == {
        name: is_kept for name, (_, is_kept) in NAMES.items()
    }
    watched.names.close()


def test_a_name_server_that_cannot_tell_is_asked_again_but_not_without_end(server: NameServer):
    watched = Watched(timeout_s=4.0)
    jobs = [job(f"{kind}{n}.example") for kind in ("busy", "servfail") for n in range(50)]
    details = Counter((one.host[:4], detail) for one, detail in watched.look_up(jobs))
    assert details == {("busy", None): 50, ("serv", "dns"): 50}
    assert watched.names.unanswered_count == 50
    assert max(server.questions[f"servfail{n}.example"] for n in range(50)) <= 2 * (1 + 2 + 2)
    watched.names.close()
