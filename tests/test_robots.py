"""robots.txt and X-Robots-Tag: what they mean, and that the fetcher asks and obeys."""

import dataclasses
import time

import pytest

from tests.small_web import SmallWeb, small_web
from transforms import fetch
from transforms.fetch import FetchSettings, fetch_all
from transforms.robots import Robots, RobotsCache, is_disallowed, read_robots

POLITE = FetchSettings(
    allow_private_addresses=True, robots_txt=True, retries=0, timeout_s=2.0, connections_per_host=2
)
RULES = b"""User-agent: alignset
Disallow: /private/
Allow: /private/open

User-agent: *
Disallow: /
"""
DIRECTIVES = FetchSettings().directives


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_ROBOTS", RobotsCache())


def details(web: SmallWeb, *paths: str, how: FetchSettings = POLITE) -> list[str | None]:
    found = sorted(fetch_all([web.url + path for path in paths], how), key=lambda one: one.index)
    return [one.detail for one in found]


def test_rules_are_asked_for_once_and_obeyed() -> None:
    with small_web() as web:
        web.files = {"/robots.txt": RULES, "/a": b"x", "/private/a": b"x", "/private/open": b"x"}
        asked = details(web, "/a", "/private/a", "/private/open", "/a?1", "/private/b")
        assert asked == [None, "robots", None, "http_404", "robots"]
        assert details(web, "/private/c", "/a") == ["robots", None]  # another shard
        assert web.requests.count("/robots.txt") == 1
        assert not any("/private/a" in path or "/private/b" in path for path in web.requests)


def test_another_token_is_another_fetcher() -> None:
    with small_web() as web:
        web.files = {"/robots.txt": RULES, "/a": b"x"}
        other = dataclasses.replace(POLITE, user_agent_token="other")
        assert details(web, "/a", how=other) == ["robots"]


def test_without_the_flag_nobody_asks() -> None:
    with small_web() as web:
        web.files = {"/robots.txt": RULES, "/private/a": b"x"}
        assert details(web, "/private/a", how=dataclasses.replace(POLITE, robots_txt=False)) == [
            None
        ]
        assert web.requests == ["/private/a"]


def test_no_rules_allow_all_and_a_host_that_is_not_there_keeps_its_own_detail() -> None:
    with small_web() as web:
        web.files = {"/a": b"x"}
        assert details(web, "/a", "/b") == [None, "http_404"]
        gone = web.url
    for url, detail in ((f"{gone}/a", "refused"), ("http://nowhere.invalid/", "dns")):
        assert [one.detail for one in fetch_all([url] * 3, POLITE)] == [detail] * 3


def test_the_rules_themselves_are_fetched_with_the_same_guard() -> None:
    with small_web() as web:
        web.files = {"/robots.txt": RULES, "/a": b"x"}
        guarded = dataclasses.replace(POLITE, allow_private_addresses=False)
        assert details(web, "/a", how=guarded) == ["forbidden_address"]
        assert web.requests == []


def test_the_rules_of_the_host_that_a_redirect_leads_to() -> None:
    from tests.bad_web import bad_web

    with bad_web() as first, small_web() as second:
        second.files = {"/robots.txt": RULES, "/private/a": b"x", "/a": b"x"}
        target = second.url.replace("/", "%2F")
        urls = [f"{first.url}/to/{target}%2Fprivate%2Fa", f"{first.url}/to/{target}%2Fa"]
        found = {one.index: one.detail for one in fetch_all(urls, POLITE)}
        assert found == {0: "robots", 1: None}
        assert "/private/a" not in second.requests


def test_a_crawl_delay_is_kept() -> None:
    with small_web() as web:
        web.files = {"/robots.txt": b"User-agent: *\nCrawl-delay: 0.2", "/a": b"x"}
        began = time.monotonic()
        assert details(web, *["/a"] * 4) == [None] * 4
        assert 0.6 <= time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("detail", "expected"),
    [
        *((f"http_{status}", None) for status in (400, 401, 403, 404, 410, 451)),
        *(
            (detail, "robots")
            for detail in ("http_429", "http_500", "http_503", "reset", "too_large")
        ),
        *((detail, detail) for detail in ("dns", "refused", "timeout", "tls", "forbidden_address")),
    ],
)
def test_answers_that_are_no_rules(detail: str, expected: str | None) -> None:
    assert read_robots(None, detail).refusal_of("http://a.org/b", "alignset") == expected


@pytest.mark.parametrize(
    "body", [b"", b"\0\xff\xfe", b"<html>", b"Disallow: /", b"User-agent\n" * 99]
)
def test_rubbish_forbids_nothing(body: bytes) -> None:
    assert read_robots(body, None).refusal_of("http://a.org/b", "alignset") is None


def test_a_cache_that_forgets() -> None:
    cache = RobotsCache()
    assert cache.get("http://a") is None
    cache.put("http://a", Robots(None))
    assert cache.get("http://a") == Robots(None)
    for number in range(20_000):
        cache.put(f"http://{number}", Robots(None))
    assert cache.get("http://a") is None


@pytest.mark.parametrize(
    ("header", "disallowed"),
    [
        ("X-Robots-Tag: noai", True),
        ("x-robots-tag:NoImageAI", True),
        ("X-Robots-Tag: nofollow, noindex", True),
        ("X-Robots-Tag: noimageindex", True),
        ("X-Robots-Tag: alignset: noai", True),
        ("X-Robots-Tag: AlignSet: nofollow, noai", True),
        ("X-Robots-Tag: otherbot: noai", False),
        ("X-Robots-Tag: otherbot: noai, alignset: noindex", True),
        ("X-Robots-Tag: alignset: all, otherbot: noai", False),
        ("X-Robots-Tag: unavailable_after: 25 Jun 2026 15:00:00 PST, noai", True),
        ("X-Robots-Tag: max-snippet: 20", False),
        ("X-Robots-Tag: nofollow", False),
        ("X-Robots-Tag:", False),
        ("X-Robots: noai", False),
        ("X-Other: noai", False),
    ],
)
def test_x_robots_tag(header: str, disallowed: bool) -> None:
    lines = [b"HTTP/1.1 200 OK\r\n", header.encode() + b"\r\n", b"\r\n"]
    assert is_disallowed(lines, "alignset", DIRECTIVES) == disallowed


def test_the_directives_of_the_flag() -> None:
    assert {"noai", "noimageai", "noindex", "noimageindex"} == DIRECTIVES
    assert FetchSettings(disallowed_header_directives="").directives == frozenset()
    as_img2dataset_has_it = FetchSettings(disallowed_header_directives='["noai", "noimageai"]')
    assert as_img2dataset_has_it.directives == {"noai", "noimageai"}
