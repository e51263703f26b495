import dataclasses
import itertools
import socket
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alignset.transforms.columns.pair_columns import OPT_OUTS
from alignset.transforms.fetching import curl_transfers as transfer
from alignset.transforms.fetching import routes
from alignset.transforms.fetching.fetch_settings import FETCH_DETAILS, FetchSettings
from alignset.transforms.fetching.fetcher import fetch_all, forget_hosts
from alignset.transforms.fetching.host_queue import MOST_REFUSALS
from alignset.transforms.fetching.orders import Fetched
from tests.support.bad_web import BODY, BadWeb, bad_web
from tests.support.small_web import small_web

QUICK = FetchSettings(
    robots_txt=False, allow_private_addresses=True, timeout_s=1.0, retries=0, max_image_bytes=50_000
)
WIDE = dataclasses.replace(QUICK, connections=16, connections_per_host=16)


@pytest.fixture(scope="module")
def web() -> Iterator[BadWeb]:
    with bad_web() as server:
        yield server


def fetch_one(url: str, how: FetchSettings = QUICK) -> Fetched:
    [fetched] = fetch_all([url], how)
    assert fetched.index == 0
    assert (fetched.body is None) == (fetched.detail in {*FETCH_DETAILS, *OPT_OUTS})
    return fetched


def details_of(urls: list[str], how: FetchSettings) -> list[str | None]:
    """In the order of the URLs."""
    ends = sorted(fetch_all(urls, how), key=lambda end: end.index)
    assert [end.index for end in ends] == list(range(len(urls)))
    assert all((end.body is None) == (end.detail is not None) for end in ends)
    return [end.detail for end in ends]


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


LATE = {"/hang/3": "timeout", "/drip": "timeout", "/announce/50000": "timeout"}
FAILURES = {
    "/no/such": "http_404",
    **{f"/status/{code}": f"http_{code}" for code in (400, 403, 410, 429, 451, 500, 503)},
    **{"/status/418": "http_4xx", "/status/599": "http_5xx", "/status/999": "http_other"},
    **{"/status/204": "http_2xx", "/status/203": "http_2xx"},
    **{"/status/304": "http_3xx", "/status/302": "http_3xx"},
    **{"/reset/0": "reset", "/reset/20": "reset", "/reset/500": "reset", "/nothing": "reset"},
    **{"/cut": "cut_off", "/cutchunks": "cut_off", "/badchunks": "reset"},
    "/garbage": "bad_answer",
    **{"/endless": "too_large", "/announce/50001": "too_large"},
    **{"/gzip/50001": "too_large", "/gzip/20000000": "too_large", "/badgzip": "bad_encoding"},
    "/loop/5": "too_many_redirects",
    "/to/file:%2F%2F%2Fetc%2Fpasswd": "bad_redirect",
    "/to/ftp:%2F%2F127.0.0.1%2F": "bad_redirect",
    "/to/http:%2F%2F": "bad_redirect",
    "/to/%2Fno%2Fsuch": "http_404",
}
GOOD = ("/ok", "/loop/4", "/to/%2Fok", "/to/%2Fok?status=308", "/to/%2Fok%3Fa%20b")
GOOD += ("/to/%2Fok%3F%C3%A9", "/gzip/50000")


def test_each_failure_has_its_detail_and_good_answers_come_whole(web: BadWeb) -> None:
    # A busy server takes its time: only what is to time out has little.
    for details, timeout_s in ((LATE, 1.0), (FAILURES | dict.fromkeys(GOOD), 60.0)):
        how = dataclasses.replace(WIDE, timeout_s=timeout_s)
        ends = details_of([web.url + path for path in details], how)
        assert dict(zip(details, ends, strict=True)) == details
    assert fetch_one(f"{web.url}/gzip/50000").body == b"\0" * 50_000
    how = dataclasses.replace(QUICK, max_image_bytes=len(BODY))
    assert fetch_one(f"{web.url}/to/%2Fok", how).body == BODY
    how = dataclasses.replace(how, max_image_bytes=len(BODY) - 1)
    assert fetch_one(f"{web.url}/ok", how).detail == "too_large"


def test_connection_failures() -> None:
    port = closed_port()
    assert fetch_one(f"http://127.0.0.1:{port}/").detail == "refused"
    assert fetch_one("http://no-such-host.invalid/").detail == "dns"
    with bad_web() as server:
        assert fetch_one(server.url.replace("http", "https")).detail == "tls"


def test_private_addresses_are_refused_however_they_are_written(web: BadWeb) -> None:
    hosts = ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "0")
    hosts += ("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "１２７。0。0。1", "user:secret@127.0.0.1")
    how = dataclasses.replace(QUICK, allow_private_addresses=False)
    urls = [f"http://{host}:{web.server_address[1]}/private" for host in hosts]
    assert details_of(urls, how) == ["forbidden_address"] * len(hosts)
    assert not web.requests_of("/private")


def test_addresses_are_checked_again_on_a_redirect(
    web: BadWeb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """127.0.0.1 counts as public here, the 127.0.0.2 of the redirect does not."""
    monkeypatch.setattr(transfer, "is_public_address", lambda address: address == "127.0.0.1")
    how = dataclasses.replace(QUICK, allow_private_addresses=False)
    port = web.server_address[1]
    assert fetch_one(f"{web.url}/ok", how).body == BODY
    moved = fetch_one(f"{web.url}/to/http:%2F%2F127.0.0.2:{port}%2Fhidden", how)
    assert moved.detail == "forbidden_address"
    assert not web.requests_of("/hidden")


def test_what_is_transient_is_tried_again_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "FIRST_RETRY_AFTER_S", 0.05)
    firsts = ["reset/0", "nothing/", "cut/", "cutchunks/"]
    firsts += [f"status/{status}" for status in (429, 500, 503)]
    later = {
        f"/later/{n}?first={name}&with={argument}": 3
        for n, (name, argument) in enumerate(first.split("/") for first in firsts)
    }
    # The last is a time-out of a host that was asked.
    ends = {"/status/404": 1, "/status/502": 3, "/endless": 1, "/badgzip": 1, "/hang/3": 1}
    with bad_web() as server:
        urls = [server.url + path for path in later | ends]
        details = details_of(urls, dataclasses.replace(WIDE, retries=2))
        assert details[: len(later)] == [None] * len(later)
        assert None not in details[len(later) :]
        assert {path: server.requests_of(path) for path in later | ends} == later | ends


def test_a_host_is_left_alone_for_as_long_as_it_asks() -> None:
    how = dataclasses.replace(WIDE, retries=1, connections_per_host=1, timeout_s=3.0)
    with bad_web() as server:
        began = time.monotonic()
        urls = [f"{server.url}/after/1", *[f"{server.url}/ok"] * 20]
        assert set(details_of(urls, how)) == {None}
        assert time.monotonic() - began >= 1
    how = dataclasses.replace(QUICK, retries=2, max_retry_after_s=0.5)
    with bad_web() as server:  # that asks for too long
        assert fetch_one(f"{server.url}/after/3600", how).detail == "http_503"
        assert server.requests_of("/after/3600") == 1


def test_no_more_requests_a_second_than_allowed() -> None:
    how = dataclasses.replace(QUICK, requests_per_second_per_host=20.0)
    with bad_web() as first, bad_web() as second:
        began = time.monotonic()
        urls = [f"{server.url}/ok" for _ in range(11) for server in (first, second)]
        fetched = list(fetch_all(urls, how))
        assert all(answer.body == BODY for answer in fetched)
        assert time.monotonic() - began >= 0.5
        assert {answer.index % 2 for answer in fetched[:11]} == {0, 1}  # side by side


def test_a_shard_ends_at_its_deadline_and_says_what_it_cut_off() -> None:
    how = dataclasses.replace(
        QUICK, connections_per_host=2, timeout_s=30.0, shard_timeout_s=0.7, retries=3
    )
    with bad_web() as slow, bad_web() as quick:
        urls = [f"{slow.url}/hang/20"] * 30 + [f"{quick.url}/ok"] * 30
        details = details_of([*urls, f"{quick.url}/status/503"], how)
        assert details == ["deadline"] * 30 + [None] * 30 + ["deadline"]  # it waited for a retry
        one = dataclasses.replace(QUICK, connections=1, shard_timeout_s=0.3)  # most are never taken
        assert set(details_of([f"{quick.url}/hang/0.1"] * 600, one)) == {None, "deadline"}


def test_a_host_that_never_answers_is_given_up_and_one_that_does_now_and_then_is_not() -> None:
    how = dataclasses.replace(QUICK, max_host_failures=5, connections_per_host=1, timeout_s=0.5)
    with socket.socket() as silent, bad_web() as server:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        silent.setblocking(False)
        name = f"http://127.0.0.1:{silent.getsockname()[1]}"
        urls = [f"{name}/{n}" for n in range(300)] + [f"{server.url}/ok"] * 9
        assert details_of(urls, how) == ["timeout"] * 300 + [None] * 9
        with pytest.raises(BlockingIOError):  # so few connections wait to be accepted
            [silent.accept()[0].close() for _ in range(20)]
        paths = ["/hang/2", "/hang/2", "/ok"] * 3
        how = dataclasses.replace(how, max_host_failures=3)
        details = details_of([server.url + path for path in paths], how)
        assert details == ["timeout", "timeout", None] * 3


def test_a_host_that_refuses_its_first_images_is_left_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    how = dataclasses.replace(QUICK, connections_per_host=1)
    refusals = {
        "status/403": "http_403",
        "status/429": "http_429",
        "status/503?cf-mitigated=challenge": "challenge",
        "status/202?x-amzn-waf-action=challenge": "challenge",
    }
    for path, detail in (("/ok", None), ("/no", "http_404")):
        with bad_web() as kind:
            details = details_of([kind.url + path, *[f"{kind.url}/status/403"] * 40], how)
            assert details == [detail] + ["http_403"] * 40, "it does not refuse all"
    for path, detail in refusals.items():
        caplog.clear()
        with bad_web() as stern:
            urls = [f"{stern.url}/{path}"] * 50
            assert details_of(urls, how) == [detail] * MOST_REFUSALS + ["host_refuses"] * 30, path
            assert details_of(urls[:9], how) == ["host_refuses"] * 9, "in the next shard too"
            assert len(stern.heads) == MOST_REFUSALS
            forget_hosts()
            assert details_of(urls[:2], how) == [detail] * 2, "in another run it is asked again"
        named = [said for said in caplog.messages if stern.url.partition("//")[2] in said]
        assert len(named) == 1


def test_an_answer_that_stands_still_ends_before_the_whole_time(web: BadWeb) -> None:
    how = dataclasses.replace(QUICK, timeout_s=20.0, idle_timeout_s=1.0)
    paths = ("/hang/9", "/drip", "/announce/500")  # of which the first would be answered in the end
    details = details_of([web.url + path for path in paths], how)
    assert details[:2] == ["timeout"] * 2
    assert details[2] in ("timeout", "cut_off")


def test_who_the_fetcher_says_that_it_is() -> None:
    usual = FetchSettings().user_agent
    for flags, said in (
        ({}, usual),
        ({"contact": "me@a.org"}, f"{usual} (+me@a.org)"),
        ({"user_agent": "me/1", "user_agent_token": "robot"}, "me/1 (robot)"),
        (
            {"user_agent": "robot/1 (+a.org)", "user_agent_token": "robot", "contact": "a.org"},
            "robot/1 (+a.org)",
        ),
    ):
        assert FetchSettings(**flags).said_user_agent == said


def test_a_proxy_of_the_environment_only_where_asked_for(
    web: BadWeb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The web itself stands in for the proxy: it gets the whole URL as the path."""
    monkeypatch.setenv("http_proxy", web.url)
    url = "http://nowhere.invalid/ok"
    assert fetch_one(url).detail == "dns"
    how = dataclasses.replace(QUICK, proxies_from_environment=True, allow_private_addresses=False)
    assert fetch_one(url, how).body == BODY
    assert web.requests_of(url) == 1


def test_a_retry_holds_nothing_else_up(web: BadWeb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "FIRST_RETRY_AFTER_S", 2.0)
    urls = [f"{web.url}/status/503", *[f"{web.url}/ok"] * 50]
    how = dataclasses.replace(QUICK, connections=2, retries=1)
    assert [fetched.index for fetched in fetch_all(urls, how)][-1] == 0


def test_many_at_once_each_index_once_and_no_more_than_allowed() -> None:
    paths = ["/hang/0.1", "/ok", "/cut", "/no", "/loop/2", "/reset/9"]
    with bad_web() as server:
        urls = [server.url + path for path in paths * 40] + ["nonsense", "http://x y/"]
        details = details_of(urls, WIDE)
        assert details[:240] == [None, None, "cut_off", "http_404", None, "reset"] * 40
        assert details[240:] == ["bad_url"] * 2
        assert 8 <= server.most_at_once <= 16


def test_one_host_gets_no_more_than_its_share_and_others_go_on() -> None:
    how = dataclasses.replace(QUICK, connections=16, connections_per_host=3, timeout_s=60.0)
    with small_web() as slow, bad_web() as quick:
        slow.files["/held"] = BODY
        fetching = fetch_all([f"{slow.url}/held"] * 30 + [f"{quick.url}/ok"] * 30, how)
        with slow.holding(lambda _: True):
            assert sorted(next(fetching).index for _ in range(30)) == list(range(30, 60))
            until = time.monotonic() + 60
            while len(slow.requests) < 3 and time.monotonic() < until:
                time.sleep(0.01)  # the server may be slower than its neighbour
            assert len(slow.requests) == 3
        assert sorted(fetched.index for fetched in fetching) == list(range(30))


def test_urls_are_taken_only_as_the_consumer_pulls(web: BadWeb) -> None:
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        for taken in itertools.count(1):
            yield web.url + ("/ok" if taken % 2 else "/status/503")

    fetching = fetch_all(endless(), dataclasses.replace(QUICK, connections=4, retries=1))
    assert taken == 0
    for pulled in range(1, 100):
        next(fetching)
        # What is pulled, what is under way, and what waits for its host or another attempt.
        assert taken <= pulled + 4 + 256 * 4
    fetching.close()


def test_what_a_request_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    how = dataclasses.replace(QUICK, user_agent="me (me@example.org)", connections=1)
    with bad_web() as server:
        host = f"127.0.0.1:{server.server_address[1]}"
        to = f"to/http:%2F%2Fa:b@{host}%2Fok"
        urls = [f"http://user:secret@{host}/{path}" for path in ("ok?1", to)]
        assert all(end.body == BODY for end in fetch_all(urls, how))
    heads = [head.lower() for head in server.heads]
    assert len(heads) == 3
    for head in heads:
        assert "user-agent: me (me@example.org)\n" in head.replace("\r", "")
        assert not any(name in head for name in ("cookie", "authorization", "referer", "secret"))


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.text(max_size=20) | st.text(alphabet="/\\:@?#[]%. a1é\0\ud800", max_size=12), max_size=8
    )
)
def test_any_text_as_url_gives_exactly_one_failure(web: BadWeb, texts: list[str]) -> None:
    """As whole URLs, as hosts and as paths of a host that answers."""
    urls = [
        *texts,
        *(f"http://{text}.invalid/" for text in texts),
        *(f"https://127.0.0.1:1{text}" for text in texts),
        *(f"{web.url}/no/such/{text}" for text in texts),
    ]
    details = details_of(urls, dataclasses.replace(QUICK, timeout_s=2.0))
    assert FETCH_DETAILS.issuperset(details)


def test_wrong_settings() -> None:
    for field, value, wanted in (  # others: tests/pipeline/test_options.py
        *(("requests_per_second_per_host", -1, ">= 0"), ("max_host_failures", -1, ">= 0")),
        *(("user_agent", "a\r\nb: c", "of printable ASCII"), ("contact", "me\n", "of printable")),
        *(("user_agent_token", "a b", "of letters"), ("disallowed_page_directives", "a/b", "dir")),
    ):
        with pytest.raises(ValueError, match=f"{field} must be {wanted}"):
            dataclasses.replace(QUICK, **{field: value})
