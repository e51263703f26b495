"""What a name server is asked: again where an answer was lost, or says less than there is."""

import math
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pycares
import pytest

from alignset.transforms.fetching import host_names, name_questions
from alignset.transforms.fetching.name_questions import ServerSilence
from tests.support.name_server import NameServer, name_server
from tests.support.watched_names import Watched, job


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    with name_server() as server:
        monkeypatch.setattr(name_questions, "SERVERS", [server.address])
        yield server


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


class OneKind:
    """Stands where c-ares stands, which says that there is no address of any kind where the name
    server said so of one, and the question for the other was lost."""

    family: socket.AddressFamily | None = None  # of the name's address

    def __init__(self, **_: object) -> None:
        pass

    def getaddrinfo(self, *_: object, family: int, callback: Callable, **__: object) -> None:
        if family != self.family:
            callback(None, pycares.errno.ARES_ENODATA)
            return
        node = SimpleNamespace(addr=(b"127.0.0.1", 0), ttl=300, family=family)
        callback(SimpleNamespace(nodes=[node], cnames=[]), None)

    def query(self, *_: object, **__: object) -> None:
        pass

    process_fd = close = query


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, None])
def test_each_kind_of_address_is_asked_for_before_there_is_none(
    monkeypatch: pytest.MonkeyPatch, family: socket.AddressFamily | None
):
    monkeypatch.setattr(OneKind, "family", family)
    monkeypatch.setattr(name_questions.pycares, "Channel", OneKind)
    watched = Watched(timeout_s=1.0)
    ((_, detail),) = watched.look_up([job("a.example")])
    assert detail == (None if family else "dns")


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


def test_a_name_server_is_silent_once_a_probe_has_had_no_answer_for_long():
    silence = ServerSilence(limit_s=2.0)
    assert (silence.due(), silence.lasts(1e9)) == (-math.inf, False)  # nothing was asked
    silence.probe(10.0)
    silence.probe(11.0)
    assert silence.is_doubted
    assert [silence.lasts(now) for now in (11.9, 12.0)] == [False, True]
    assert silence.hear(12.5)
    assert (silence.is_doubted, silence.spoke_again, silence.due()) == (False, 12.5, 13.5)
    silence.probe(14.0)
    assert not silence.hear(15.0)  # in time: it was not silent
    assert (silence.lasts(100.0), silence.spoke_again) == (False, 12.5)
