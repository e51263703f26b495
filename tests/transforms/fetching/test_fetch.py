import dataclasses
import gc
import http.server
import itertools
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alignset.transforms.columns.opt_outs import OPT_OUTS
from alignset.transforms.fetching import curl_handle as transfer
from alignset.transforms.fetching import routes
from alignset.transforms.fetching.fetch import Fetched, fetch_all
from alignset.transforms.fetching.fetch_settings import FETCH_DETAILS, FetchSettings
from tests.support.bad_web import BODY, BadWeb, bad_web
from tests.support.serving import serving
from tests.support.small_web import small_web

QUICK = FetchSettings(
    robots_txt=False, allow_private_addresses=True, timeout_s=1.0, retries=0, max_image_bytes=50_000
)
WIDE = dataclasses.replace(QUICK, connections=16, connections_per_host=16)
WIDE_PATIENT = dataclasses.replace(WIDE, retries=1, connections_per_host=1, timeout_s=3.0)


@pytest.fixture(scope="module")
def web() -> Iterator[BadWeb]:
    with bad_web() as server:
        yield server


def fetch_one(url: str, how: FetchSettings = QUICK) -> Fetched:
    [fetched] = fetch_all([url], how)
    assert fetched.index == 0
    assert (fetched.body is None) == (fetched.detail in {*FETCH_DETAILS, *OPT_OUTS})
    return fetched


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/no/such", "http_404"),
        *((f"/status/{code}", f"http_{code}") for code in (400, 403, 410, 429, 451, 500, 503)),
        ("/status/418", "http_4xx"),
        ("/status/599", "http_5xx"),
        ("/status/999", "http_other"),
        ("/status/204", "http_2xx"),
        ("/status/203", "http_2xx"),
        ("/status/304", "http_3xx"),
        ("/status/302", "http_3xx"),
        ("/reset/0", "reset"),
        ("/reset/20", "reset"),
        ("/reset/500", "reset"),
        ("/nothing", "reset"),
        ("/cut", "cut_off"),
        ("/cutchunks", "cut_off"),
        ("/badchunks", "reset"),
        ("/garbage", "bad_answer"),
        ("/hang/3", "timeout"),
        ("/drip", "timeout"),
        ("/endless", "too_large"),
        ("/announce/50001", "too_large"),
        ("/announce/50000", "timeout"),
        ("/gzip/50001", "too_large"),
        ("/gzip/20000000", "too_large"),
        ("/badgzip", "bad_encoding"),
        ("/loop/5", "too_many_redirects"),
        ("/to/file:%2F%2F%2Fetc%2Fpasswd", "bad_redirect"),
        ("/to/ftp:%2F%2F127.0.0.1%2F", "bad_redirect"),
        ("/to/http:%2F%2F", "bad_redirect"),
        ("/to/%2Fno%2Fsuch", "http_404"),
    ],
)
def test_each_failure_has_its_detail(web: BadWeb, path: str, detail: str) -> None:
    # A busy server takes its time: only what is to time out has little.
    how = QUICK if detail == "timeout" else dataclasses.replace(QUICK, timeout_s=60.0)
    assert fetch_one(web.url + path, how) == Fetched(0, None, detail)


@pytest.mark.parametrize(
    "path",
    [
        "/ok",
        "/loop/4",
        "/to/%2Fok",
        "/to/%2Fok?status=308",
        "/to/%2Fok%3Fa%20b",
        "/to/%2Fok%3F%C3%A9",
    ],
)
def test_good_answers_come_whole(web: BadWeb, path: str) -> None:
    assert fetch_one(web.url + path) == Fetched(0, BODY, None)


def test_a_body_of_just_the_cap_and_a_gzipped_one_come_whole(web: BadWeb) -> None:
    assert fetch_one(web.url + "/gzip/50000").body == b"\0" * 50_000
    how = dataclasses.replace(QUICK, max_image_bytes=len(BODY))
    assert fetch_one(web.url + "/ok", how).body == BODY
    assert (
        fetch_one(web.url + "/ok", dataclasses.replace(how, max_image_bytes=len(BODY) - 1)).body
        is None
    )


def test_connection_failures() -> None:
    port = closed_port()
    assert fetch_one(f"http://127.0.0.1:{port}/").detail == "refused"
    assert fetch_one("http://no-such-host.invalid/").detail == "dns"
    with bad_web() as server:
        assert fetch_one(server.url.replace("http", "https")).detail == "tls"


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "2130706433", "0x7f.1", "0177.0.0.1", "127.1"),
        *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0", "１２７。0。0。1", "user:secret@127.0.0.1"),
    ],
)
def test_private_addresses_are_refused_however_they_are_written(web: BadWeb, host: str) -> None:
    how = dataclasses.replace(QUICK, allow_private_addresses=False)
    url = f"http://{host}:{web.server_address[1]}/private"
    assert fetch_one(url, how).detail == "forbidden_address"
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


@pytest.mark.parametrize(
    "first",
    ["reset/0", "nothing", "cut", "cutchunks", *(f"status/{n}" for n in (429, 500, 503))],
)
def test_what_is_transient_is_tried_again(web: BadWeb, first: str) -> None:
    name, _, argument = first.partition("/")
    path = f"/later/{name}{argument}?first={name}&with={argument}"
    fetched = fetch_one(web.url + path, dataclasses.replace(QUICK, retries=2, timeout_s=0.7))
    assert fetched == Fetched(0, BODY, None)
    assert web.requests_of(path) == 3


@pytest.mark.parametrize(
    ("path", "requests"),
    [
        *(("/status/404", 1), ("/status/502", 2), ("/endless", 1), ("/badgzip", 1)),
        ("/hang/3", 1),  # it is a time-out of a host that was asked
    ],
)
def test_how_often_a_failure_is_tried(path: str, requests: int) -> None:
    with bad_web() as server:
        fetch_one(server.url + path, dataclasses.replace(QUICK, retries=1))
        assert server.requests_of(path) == requests


def test_a_host_is_left_alone_for_as_long_as_it_asks() -> None:
    how = dataclasses.replace(QUICK, retries=1, timeout_s=3.0)
    with bad_web() as server:
        began = time.monotonic()
        urls = [server.url + "/after/1", *[server.url + "/ok"] * 20]
        fetched = {end.index: end.detail for end in fetch_all(urls, WIDE_PATIENT)}
        assert set(fetched.values()) == {None}
        assert time.monotonic() - began >= 1
        assert fetch_one(server.url + "/after/2", how).body == BODY


def test_a_host_that_asks_for_too_long_is_not_waited_for() -> None:
    how = dataclasses.replace(QUICK, retries=2, max_retry_after_s=0.5)
    with bad_web() as server:
        assert fetch_one(server.url + "/after/3600", how).detail == "http_503"
        assert server.requests_of("/after/3600") == 1


def test_no_more_requests_a_second_than_allowed() -> None:
    how = dataclasses.replace(QUICK, requests_per_second_per_host=20.0)
    with bad_web() as first, bad_web() as second:
        began = time.monotonic()
        urls = [server.url + "/ok" for _ in range(11) for server in (first, second)]
        fetched = list(fetch_all(urls, how))
        assert all(answer.body == BODY for answer in fetched)
        assert time.monotonic() - began >= 0.5
        assert {answer.index % 2 for answer in fetched[:11]} == {0, 1}  # side by side


def test_a_shard_ends_at_its_deadline_and_says_what_it_cut_off() -> None:
    how = dataclasses.replace(
        QUICK, connections_per_host=2, timeout_s=30.0, shard_timeout_s=0.7, retries=3
    )
    with bad_web() as slow, bad_web() as quick:
        urls = [slow.url + "/hang/20"] * 30 + [quick.url + "/ok"] * 30 + [quick.url + "/status/503"]
        fetched = {end.index: end.detail for end in fetch_all(urls, how)}
    assert sorted(fetched) == list(range(61))
    assert {fetched[n] for n in range(30)} == {"deadline"}
    assert {fetched[n] for n in range(30, 60)} == {None}
    assert fetched[60] == "deadline"  # it waited to be tried again


def test_what_was_never_taken_is_cut_off_too(web: BadWeb) -> None:
    how = dataclasses.replace(QUICK, connections=1, shard_timeout_s=0.3)
    urls = [web.url + "/hang/0.1"] * 600
    fetched = [end.detail for end in fetch_all(urls, how)]
    assert len(fetched) == 600
    assert set(fetched) == {None, "deadline"}


def connections_to(listening: socket.socket) -> int:
    """How many wait to be accepted."""
    listening.setblocking(False)
    count = 0
    with suppress(BlockingIOError):
        while True:
            listening.accept()[0].close()
            count += 1
    return count


def test_a_host_that_never_answers_is_given_up() -> None:
    port = closed_port()
    how = dataclasses.replace(QUICK, max_host_failures=5, connections_per_host=1)
    with socket.socket() as silent, bad_web() as server:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        name = f"http://127.0.0.1:{silent.getsockname()[1]}"
        urls = [f"{name}/{n}" for n in range(300)] + [f"{server.url}/ok"] * 9
        how_quick = dataclasses.replace(how, timeout_s=0.2)
        fetched = {end.index: end.detail for end in fetch_all(urls, how_quick)}
        assert connections_to(silent) < 20
        assert {fetched[n] for n in range(300)} == {"timeout"}
        assert {fetched[n] for n in range(300, 309)} == {None}
    refused = [end.detail for end in fetch_all([f"http://127.0.0.1:{port}/"] * 50, how)]
    assert refused == ["refused"] * 50


def test_a_host_that_answers_now_and_then_is_not_given_up(web: BadWeb) -> None:
    how = dataclasses.replace(QUICK, max_host_failures=3, connections_per_host=1, timeout_s=0.2)
    paths = ["/hang/1", "/hang/1", "/ok"] * 4
    fetched = sorted(fetch_all([web.url + p for p in paths], how), key=lambda end: end.index)
    assert [end.detail for end in fetched] == ["timeout", "timeout", None] * 4


def test_an_answer_that_stands_still_ends_before_the_whole_time(web: BadWeb) -> None:
    how = dataclasses.replace(QUICK, timeout_s=20.0, idle_timeout_s=1.0)
    for path in ("/hang/9", "/drip"):  # of which the first would be answered in the end
        assert fetch_one(web.url + path, how).detail == "timeout"
    assert fetch_one(web.url + "/announce/500", how).detail in ("timeout", "cut_off")


def test_no_socket_is_left_for_the_interpreter_to_warn_of(web: BadWeb) -> None:
    gc.collect()  # what other tests have left
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert fetch_one(f"{web.url}/ok", QUICK).body == BODY
        gc.collect()
    assert not [one for one in told if one.category is ResourceWarning]


@pytest.mark.parametrize(
    ("tag", "detail"),
    [("noai", "x_robots_tag"), ("alignset: noindex", "x_robots_tag"), ("bot: noai", None)],
)
def test_x_robots_tag_is_honoured_unless_told_otherwise(
    web: BadWeb, tag: str, detail: str | None
) -> None:
    url = f"{web.url}/tagged/{tag}"
    assert fetch_one(url).detail == detail
    assert fetch_one(url, dataclasses.replace(QUICK, disallowed_header_directives="")).body == BODY


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({}, "alignset/0.1 (collects images with alt-texts)"),
        ({"contact": "me@a.org"}, "alignset/0.1 (collects images with alt-texts) (+me@a.org)"),
        ({"user_agent": "me/1", "user_agent_token": "robot"}, "me/1 (robot)"),
        ({"user_agent": "robot/1 (+a.org)", "user_agent_token": "robot", "contact": "a.org"}, None),
    ],
)
def test_who_the_fetcher_says_that_it_is(flags: dict[str, str], said: str | None) -> None:
    assert FetchSettings(**flags).said_user_agent == (said or flags["user_agent"])


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
    monkeypatch.setattr(routes, "FIRST_RETRY_AFTER_S", 10.0)
    urls = [web.url + "/status/503", *[web.url + "/ok"] * 50]
    how = dataclasses.replace(QUICK, connections=2, retries=1)
    assert [fetched.index for fetched in fetch_all(urls, how)][-1] == 0


def test_many_at_once_each_index_once_and_no_more_than_allowed() -> None:
    paths = ["/hang/0.1", "/ok", "/cut", "/no", "/loop/2", "/reset/9"]
    with bad_web() as server:
        urls = [server.url + path for path in paths * 40] + ["nonsense", "http://x y/"]
        fetched = list(fetch_all(urls, WIDE))
        assert sorted(end.index for end in fetched) == list(range(len(urls)))
        assert {end.detail for end in fetched if end.index % 6 == 2 and end.index < 240} == {
            "cut_off"
        }
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


def test_an_error_in_the_urls_comes_through_and_nothing_hangs(web: BadWeb) -> None:
    def broken() -> Iterator[str]:
        yield web.url + "/hang/1"
        raise RuntimeError("the list ended badly")

    with pytest.raises(RuntimeError, match="ended badly"):
        list(fetch_all(broken(), QUICK))


@pytest.mark.parametrize("connections", [1, 2, 3])
@pytest.mark.parametrize("urls", [0, 1, 2, 5])
def test_few_urls_on_few_connections(web: BadWeb, urls: int, connections: int) -> None:
    how = dataclasses.replace(QUICK, connections=connections)
    for path in ("/ok", " no url at all"):
        assert len(list(fetch_all([web.url + path] * urls, how))) == urls
    assert list(fetch_all(["no url"] * urls, how)) == [
        Fetched(index, None, "bad_url") for index in range(urls)
    ]


def test_what_a_request_says(web: BadWeb, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    how = dataclasses.replace(QUICK, user_agent="me (me@example.org)", connections=1)
    host = f"user:secret@127.0.0.1:{web.server_address[1]}"
    already = len(web.heads)
    urls = [f"http://{host}/ok?1", f"http://{host}/to/http:%2F%2Fa:b@{host.split('@')[1]}%2Fok"]
    assert all(end.body == BODY for end in fetch_all(urls, how))
    heads = [head.lower() for head in web.heads[already:]]
    assert len(heads) == 3
    for head in heads:
        assert "user-agent: me (me@example.org)\n" in head.replace("\r", "")
        assert not any(name in head for name in ("cookie", "authorization", "referer", "secret"))


def test_connections_are_reused() -> None:
    accepted = []

    class Counting(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            accepted.append(1)
            super().setup()

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *args: object) -> None:
            pass

    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Counting)) as server:
        urls = [f"http://127.0.0.1:{server.server_port}/{n}" for n in range(20)]
        assert all(
            end.body == b"ok" for end in fetch_all(urls, dataclasses.replace(QUICK, connections=3))
        )
    assert len(accepted) <= 3


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
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
    fetched = list(fetch_all(urls, dataclasses.replace(QUICK, timeout_s=2.0)))
    assert sorted(end.index for end in fetched) == list(range(len(urls)))
    assert all(end.detail in FETCH_DETAILS and end.body is None for end in fetched)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("connections", 0, "connections must be >= 1; got 0"),
        ("timeout_s", -1, "timeout_s must be > 0; got -1"),
        ("timeout_s", float("nan"), "timeout_s must be > 0; got nan"),
        ("connect_timeout_s", 0, "connect_timeout_s must be > 0; got 0"),
        ("retries", -1, "retries must be >= 0; got -1"),
        ("max_image_bytes", 0, "max_image_bytes must be >= 1; got 0"),
        ("max_redirects", -1, "max_redirects must be >= 0; got -1"),
        ("user_agent", "a\r\nb: c", "user_agent must be of printable ASCII"),
        ("contact", "me\n", "contact must be of printable ASCII"),
        ("user_agent_token", "a b", "user_agent_token must be of letters"),
        ("shard_timeout_s", 0, "shard_timeout_s must be > 0; got 0"),
        ("idle_timeout_s", 0, "idle_timeout_s must be > 0; got 0"),
        ("requests_per_second_per_host", -1, "requests_per_second_per_host must be >= 0; got -1"),
        ("max_host_failures", -1, "max_host_failures must be >= 0; got -1"),
    ],
)
def test_wrong_settings(field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(QUICK, **{field: value})


def test_every_setting_can_become_a_flag() -> None:
    for setting in dataclasses.fields(FetchSettings):
        assert setting.type in (int, float, str, bool)
        assert isinstance(setting.default, setting.type)
        assert setting.metadata["help"]
