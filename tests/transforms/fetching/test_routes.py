"""Opt-outs of hosts, from real servers: robots.txt, tdmrep.json and the headers of responses."""

import json
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import quote

import pytest

from alignset.transforms.fetching import routes
from alignset.transforms.fetching.curl_handle import EndedTransfer
from alignset.transforms.fetching.fetch import Fetched, fetch_all
from alignset.transforms.fetching.fetch_settings import FetchSettings
from alignset.transforms.fetching.orders import Order
from alignset.transforms.fetching.robots import PolicyCache
from tests.support.bad_web import BODY, BadWeb, bad_web
from tests.support.small_web import SmallWeb, small_web

HOW = FetchSettings(allow_private_addresses=True, retries=0, timeout_s=5.0)
REPORT = replace(HOW, opt_outs="report")
TDMREP = replace(HOW, tdmrep_json=True)
WISHES = (routes.ROBOTS_PATH, routes.TDMREP_PATH)
RULES = b"User-agent: *\nDisallow: /private/\nContent-Usage: /art/ train-ai=n\n"
RESERVED = json.dumps([{"location": "/r/", "tdm-reservation": 1}]).encode()


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "ROBOTS", PolicyCache())
    monkeypatch.setattr(routes, "TDMREP", PolicyCache())


@pytest.fixture(scope="module")
def bad() -> Iterator[BadWeb]:
    with bad_web() as server:
        yield server


@pytest.fixture
def web() -> Iterator[SmallWeb]:
    with small_web() as server:
        server.files = {"/robots.txt": RULES, "/.well-known/tdmrep.json": RESERVED}
        server.files |= dict.fromkeys(("/a", "/private/a", "/art/a", "/r/a", "/r/free"), b"x")
        server.headers = {"/r/free": {"TDM-Reservation": "0"}}
        yield server


def fetched(urls: list[str], how: FetchSettings = HOW) -> list[Fetched]:
    return sorted(fetch_all(urls, how), key=lambda one: one.index)


def outcomes(web: SmallWeb, how: FetchSettings) -> dict[str, str | None]:
    paths = [path for path in web.files if path not in WISHES]
    ends = fetched([web.url + path for path in paths], how)
    return {path: one.detail for path, one in zip(paths, ends, strict=True)}


SAID = {
    "X-Robots-Tag=noai": "x_robots_tag",
    "x-robots-tag=alignset%3A+noindex": "x_robots_tag",
    "X-Robots-Tag=bot%3A+noai": None,
    "tdm-reservation=1": "tdm_reservation",
    "tdm-reservation=0": None,
    "Content-Usage=train-ai%3Dn": "content_usage",
    "Content-Usage=train-ai%3Dn%2C": None,
    "Content-Usage=search%3Dn": None,
}


def test_headers_of_an_answer_and_of_a_redirect(bad: BadWeb) -> None:
    urls = [f"{bad.url}/says?{query}" for query in SAID]
    urls += [f"{url}&to={quote(bad.url)}/ok" for url in urls]
    details = [*SAID.values()] * 2
    assert [one.detail for one in fetched(urls)] == details
    reported = fetched(urls, REPORT)
    assert all((one.body, one.detail) == (BODY, None) for one in reported)
    assert [one.opted_out for one in reported] == [(said,) if said else () for said in details]
    off = replace(HOW, disallowed_header_directives="", tdm_reservation=False, content_usage="")
    assert {one.detail for one in fetched(urls, off)} == {None}


def test_by_default_robots_txt_is_asked_for_once_and_tdmrep_json_not_at_all(web: SmallWeb) -> None:
    ends = {"/a": None, "/private/a": "robots_txt", "/art/a": "content_usage"}
    assert outcomes(web, HOW) == {**ends, "/r/a": None, "/r/free": None}
    assert web.policies_asked == ["/robots.txt"]
    assert sorted(web.requests) == ["/a", "/r/a", "/r/free"]
    assert outcomes(web, HOW) == {**ends, "/r/a": None, "/r/free": None}  # another shard
    assert web.policies_asked == ["/robots.txt"]


def test_tdmrep_json_is_asked_for_once_and_each_opt_out_has_a_flag(web: SmallWeb) -> None:
    none = replace(HOW, robots_txt=False, tdm_reservation=False)
    assert set(outcomes(web, none).values()) == {None}
    assert web.policies_asked == []
    for _ in range(2):
        ends = outcomes(web, TDMREP)  # an answer comes before the file
        assert (ends["/r/a"], ends["/r/free"], ends["/a"]) == ("tdm_reservation", None, None)
    assert web.policies_asked == ["/robots.txt", "/.well-known/tdmrep.json"]
    ends = outcomes(web, replace(HOW, content_usage=""))
    assert (ends["/art/a"], ends["/private/a"]) == (None, "robots_txt")


def test_what_is_only_reported_is_fetched_with_all_its_opt_outs(web: SmallWeb) -> None:
    web.headers |= {"/private/a": {"X-Robots-Tag": "noai"}}
    paths = ["/a", "/private/a", "/art/a", "/r/a", "/r/free"]
    how = replace(REPORT, tdmrep_json=True)
    ends = fetched([web.url + path for path in paths], how)
    assert [one.opted_out for one in ends] == [
        *((), ("robots_txt", "x_robots_tag"), ("content_usage",), ("tdm_reservation",), ())
    ]
    assert all(one.body == b"x" for one in ends)


def test_where_a_redirect_leads_goes_before_what_waits() -> None:
    ways, order = routes.Routes(replace(HOW, robots_txt=False)), Order([], 60.0)
    for number in range(3):
        ways.take(order, number, f"http://a.example/{number}")
    job = ways.next_job()
    assert job is not None
    ways.note_end(EndedTransfer(job, redirect="http://a.example/new"))
    assert ways.next_job() is job
    assert job.url == "http://a.example/new"


@pytest.mark.parametrize(
    ("was_asked", "line_has_trouble", "is_tried_again"),
    [(True, False, False), (True, True, True), (False, False, True)],
)
def test_a_host_that_was_asked_and_took_too_long_is_not_asked_again(
    was_asked: bool, line_has_trouble: bool, is_tried_again: bool
) -> None:
    ways, order = routes.Routes(replace(HOW, robots_txt=False, retries=2)), Order([], 60.0)
    ways.take(order, 0, "http://a.example/0")
    job = ways.next_job()
    assert job is not None
    ways.note_end(EndedTransfer(job, detail="timeout", silent=True, was_asked=was_asked))
    ways.settle(try_again=line_has_trouble)
    order.end()
    assert [result.detail for result in order.results()] == ["timeout"] * (not is_tried_again)
    assert len(ways) == is_tried_again
    assert job.attempts == 1 + is_tried_again


def test_what_is_late_goes_with_its_order_and_a_file_of_opt_outs_is_asked_for_again() -> None:
    ways, order = routes.Routes(replace(HOW, robots_txt=False, retries=2)), Order([], 60.0)
    ways.take(order, 0, "http://a.example/0")
    job = ways.next_job()
    assert job is not None
    ways.note_end(EndedTransfer(job, detail="timeout", was_asked=True))
    assert ways.remove(order) == [job]
    ways.settle(try_again=True)
    assert len(ways) == 0
    ways = routes.Routes(replace(HOW, retries=1))
    ways.take(order, 0, "http://a.example/0")
    job = ways.next_job()
    assert job is not None
    assert job.url.endswith(routes.ROBOTS_PATH)
    ways.note_end(EndedTransfer(job, detail="timeout", silent=True, was_asked=True))
    assert ways.queue.due_s() > 0
    assert job.attempts == 2


def test_the_answer_of_an_image(bad: BadWeb) -> None:
    to = f"{bad.url}/says?ETag=%22a%3Ab%22&Last-Modified=yesterday&Content-Type=image/png"
    [one] = fetched([f"{bad.url}/to/{quote(to, safe='')}"])
    assert one.answer is not None
    assert one.answer.url == to
    assert one.answer[1::2] == (200, "image/png", "yesterday")
    assert one.answer.etag == '"a:b"'
    assert one.answer.came_at > 1.7e9
    [one] = fetched([f"{bad.url}/hinted"])
    assert one.answer is not None
    assert (one.answer.status, one.answer.etag) == (200, "late")


def test_files_of_opt_outs_that_never_end_are_read_as_far_as_they_count() -> None:
    rules = {"/robots.txt": RULES, "/.well-known/tdmrep.json": b"[" + b" " * 9}
    with small_web() as web:
        web.files = {"/a": b"x", "/private/a": b"x"}
        web.files |= {path: rules[path] + b"\n" * 30_000_000 for path in WISHES}
        assert outcomes(web, TDMREP) == {"/a": None, "/private/a": "robots_txt"}


def test_endless_and_hostile_files_of_opt_outs_end(bad: BadWeb) -> None:
    for kind in ("endless", "drip", "gzip/50000000"):
        with small_web() as web:
            web.files = {"/a": b"x"}
            web.moved = dict.fromkeys(WISHES, f"{bad.url}/{kind}")
            details = {
                one.detail for one in fetched([f"{web.url}/a"], replace(TDMREP, timeout_s=1))
            }
            assert details <= {None, "no_robots_txt"}


def test_a_redirect_inside_is_not_followed_and_the_host_is_not_blamed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from alignset.transforms.fetching import curl_handle

    with bad_web() as inside, small_web() as web:
        web.files = {"/a": b"x"}
        web.moved = {path: f"http://127.0.0.2:{inside.server_address[1]}/ok" for path in WISHES}
        monkeypatch.setattr(curl_handle, "is_public_address", "127.0.0.1".__eq__)
        guarded = replace(TDMREP, allow_private_addresses=False)
        assert [one.detail for one in fetched([f"{web.url}/a"], guarded)] == ["no_robots_txt"]
        unasked = replace(guarded, robots_txt=False)
        assert [one.detail for one in fetched([f"{web.url}/a"], unasked)] == [None]
        assert inside.heads == []
