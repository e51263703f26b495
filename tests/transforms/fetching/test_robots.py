"""robots.txt: what it means, and that the fetcher asks and obeys."""

import dataclasses
import socket
import time

import pytest

from alignset.transforms.fetching import routes
from alignset.transforms.fetching.fetch import fetch_all
from alignset.transforms.fetching.fetch_settings import FetchSettings
from alignset.transforms.fetching.robots import PolicyCache, Robots, read_robots
from tests.support.small_web import SmallWeb, small_web

POLITE = FetchSettings(
    allow_private_addresses=True, robots_txt=True, retries=0, timeout_s=2.0, connections_per_host=2
)


def refusal_of(robots: Robots, url: str) -> str | None:
    """The first detail for which a URL may not be fetched or used, or None."""
    return robots.refusal or next(iter(robots.opt_outs(url)), None)


RULES = b"""User-agent: alignset
Disallow: /private/
Allow: /private/open

User-agent: *
Disallow: /
"""


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "ROBOTS", PolicyCache[Robots]())


def details(web: SmallWeb, *paths: str, how: FetchSettings = POLITE) -> list[str | None]:
    ends = sorted(fetch_all([web.url + path for path in paths], how), key=lambda end: end.index)
    return [end.detail for end in ends]


def test_rules_are_asked_for_once_and_obeyed() -> None:
    with small_web() as web:
        web.files = {"/robots.txt": RULES, "/a": b"x", "/private/a": b"x", "/private/open": b"x"}
        asked = details(web, "/a", "/private/a", "/private/open", "/a?1", "/private/b")
        assert asked == [None, "robots_txt", None, "http_404", "robots_txt"]
        assert details(web, "/private/c", "/a") == ["robots_txt", None]  # another shard
        assert web.policies_asked == ["/robots.txt"]
        assert not any("/private/a" in path or "/private/b" in path for path in web.requests)


def test_another_token_is_another_fetcher_and_without_the_flag_nobody_asks() -> None:
    with small_web() as web:
        web.files = {"/robots.txt": RULES, "/a": b"x", "/private/a": b"x"}
        other = dataclasses.replace(POLITE, user_agent_token="other")
        assert details(web, "/a", how=other) == ["robots_txt"]
        assert web.policies_asked == ["/robots.txt"]
        unasked = dataclasses.replace(POLITE, robots_txt=False)
        assert details(web, "/private/a", how=unasked) == [None]
        assert (web.requests, web.policies_asked) == (["/private/a"], ["/robots.txt"])


def test_no_rules_allow_all_and_a_host_that_is_not_there_keeps_its_own_detail() -> None:
    with small_web() as web:
        web.files = {"/a": b"x"}
        assert details(web, "/a", "/b") == [None, "http_404"]
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and nothing listens there
        gone = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    for url, detail in ((f"{gone}/a", "refused"), ("http://nowhere.invalid/", "dns")):
        assert [end.detail for end in fetch_all([url] * 3, POLITE)] == [detail] * 3


def test_the_rules_themselves_are_fetched_with_the_same_guard() -> None:
    with small_web() as web:
        web.files = {"/robots.txt": RULES, "/a": b"x"}
        guarded = dataclasses.replace(POLITE, allow_private_addresses=False)
        assert details(web, "/a", how=guarded) == ["forbidden_address"]
        assert web.requests == []


def test_the_rules_of_the_host_that_a_redirect_leads_to() -> None:
    from tests.support.bad_web import bad_web

    with bad_web() as first, small_web() as second:
        second.files = {"/robots.txt": RULES, "/private/a": b"x", "/a": b"x"}
        target = second.url.replace("/", "%2F")
        urls = [f"{first.url}/to/{target}%2Fprivate%2Fa", f"{first.url}/to/{target}%2Fa"]
        ended = {end.index: end.detail for end in fetch_all(urls, POLITE)}
        assert ended == {0: "robots_txt", 1: None}
        assert "/private/a" not in second.requests


def test_a_way_up_and_down_is_the_folder_that_it_leads_to() -> None:
    with small_web() as web:
        web.files = {"/robots.txt": RULES, "/private/a": b"x", "/a": b"x"}
        asked = details(web, "/x/../private/a", "/x/%2e%2e/private/a", "/private/../a")
        assert asked == ["robots_txt", "robots_txt", None]


def test_a_crawl_delay_is_kept_and_one_of_days_is_not_waited_for() -> None:
    with small_web() as web:
        web.files = {"/robots.txt": b"User-agent: *\nCrawl-delay: 0.2", "/a": b"x"}
        began = time.monotonic()
        assert details(web, *["/a"] * 4) == [None] * 4
        assert time.monotonic() - began >= 0.6
    with small_web() as web:
        web.files = {f"/a{query}": b"x" for query in ("", "?1", "?2")}
        web.files["/robots.txt"] = b"User-agent: *\nCrawl-delay: 99999"
        asked = [*details(web, "/a", "/a?1", "/a?2"), *details(web, "/a")]
        assert sorted(map(str, asked)) == ["None", "deadline", "deadline", "deadline"]
        assert len(web.requests) == 1


def test_answers_that_are_no_rules() -> None:
    statuses = (400, 401, 403, 404, 410, 451)
    refusals = {
        **dict.fromkeys([f"http_{status}" for status in statuses]),
        "too_many_redirects": None,
        **dict.fromkeys(("http_429", "http_500", "reset", "bad_redirect"), "no_robots_txt"),
        **{detail: detail for detail in ("dns", "refused", "timeout", "tls", "forbidden_address")},
    }
    url = "http://a.org/b"
    found = {detail: refusal_of(read_robots(None, detail, "alignset"), url) for detail in refusals}
    assert found == refusals
    for rubbish in (b"", b"\0\xff\xfe", b"<html>", b"Disallow: /", b"User-agent\n" * 99):
        assert refusal_of(read_robots(rubbish, None, "alignset"), url) is None


GROUPS = (
    ("User-agent: a\nUser-agent: alignset\nUser-agent: b\nDisallow: /x", True),
    ("User-agent: alignset\nDisallow:\n\nUser-agent: *\nDisallow: /x", False),
    ("User-agent: alignset\nDisallow: /y\nUser-agent: b\nDisallow: /x", False),
    ("User-agent: alignset\nSitemap: /s\nUser-agent: b\nDisallow: /x", True),
    ("User-agent: *\nfoo: bar\nUser-agent: b\nDisallow: /x", True),
    ("User-agent: alignset\nNoindex: /y\n\nUser-agent: *\nDisallow: /", True),
    ("User-agent: alignset\nCrawl-delay: 9\nUser-agent: b\nDisallow: /x", True),
    ("User-agent: alignset\nRequest-rate: 1/5\nHost: a.org\nUser-agent: b\nAllow: /\n", False),
    ("User-agent: b\nVisit-time: 0600-0845\nUser-agent: alignset\nDisallow: /x", True),
    ("User-agent: alignset\nno field at all\nUser-agent: b\nDisallow: /x", True),
    ("User-agent: alignset\nDisallow:\nNoindex: /y\nUser-agent: b\nDisallow: /x", False),
    ("User-agent: alignset\nAllow: /y\nUser-agent: b\nNoindex: /y\nDisallow: /x", False),
    ("User-agent: alignset\nContent-Usage: train-ai=n\nUser-agent: b\nDisallow: /x", False),
    ("User-agent: alignset, b\nDisallow: /x", True),
    ("User-agent: b,AlignSet\nDisallow: /x", True),
    ("User-agent: b, alignset/2.0 (x), c\nDisallow: /x", True),
    ("User-agent: b, *\nDisallow: /x", True),
    ("User-agent: b, c,\nDisallow: /x", False),
    ("User-agent: *\nDisallow: /x\nUser-agent: a\nAllow: /", False),
    ("User-agent: a\nDisallow: /x\nUser-agent: *\nAllow: /", True),
    ("User-agent: *\nDisallow: /\u2028/", False),
    ("User-agent: *\nDisallow: /y\x85Disallow: /x", False),
    ("User-agent: *\nDisallow: /x\nUser-agent: align\nAllow: /", False),
    ("User-agent: *\nDisallow: /x\nUser-agent: set\nAllow: /", True),
    ("User-agent: *\nDisallow: /y\nUser-agent: b\nAllow: /\nUser-agent: *\nDisallow: /x", True),
    ("user agent *\ndisalow /x # private", True),
    ("\ufeffUser-agent: *\nDisallow: /x", True),
    ("User-agent: *\rDisallow: /x", True),
    ("User-agent: AlignSet/2.0 (+http://a.org)\nDisallow: /x", True),
    ("User-agent: alignset/2.0\nAllow: /\n\nUser-agent: *\nDisallow: /x", False),
    ("User-agent: align/2.0\nDisallow: /x", False),
)


def test_which_group_counts() -> None:
    for text, forbidden in GROUPS:
        robots = read_robots(text.encode(), None, "AlignSet")
        refusal = refusal_of(robots, "http://a.org/x")
        assert refusal == ("robots_txt" if forbidden else None), text


def test_a_byte_order_mark_may_be_cut() -> None:
    for mark in (b"\xef\xbb\xbf", b"\xef\xbb", b"\xef", b""):
        robots = read_robots(mark + b"User-agent: alignset\nDisallow: /x", None, "alignset")
        assert refusal_of(robots, "http://a.org/x") == "robots_txt"
    for mark in (b"\xbb\xbf", b"\xef\x11\xbf", b"\xef\xbb\xbf\xef"):
        robots = read_robots(mark + b"User-agent: alignset\nDisallow: /x", None, "alignset")
        assert refusal_of(robots, "http://a.org/x") is None
    path = read_robots(b"User-agent: alignset\nDisallow: /\xef\xbb\xbf", None, "alignset")
    assert refusal_of(path, "http://a.org/x") is None


def test_a_crawl_delay_among_names_is_of_those_before_it() -> None:
    text = b"User-agent: alignset\nCrawl-delay: 9\nUser-agent: b\nUser-agent: *\nDisallow: /x"
    for token, delay in (("alignset", 9.0), ("b", 0.0), ("c", 0.0)):
        robots = read_robots(text, None, token)
        assert robots.crawl_delay_s() == delay
        assert refusal_of(robots, "http://a.org/x") == "robots_txt"


def test_the_rules_of_others_are_not_kept() -> None:
    """Protego keeps a list of rules for each name: n names that share n rules took n * n."""
    names = "".join(f"User-agent: bot{number}\n" for number in range(20_000))
    rules = "".join(f"Disallow: /{number}\n" for number in range(13_000))
    mine = "User-agent: alignset\nUser-agent: *\nDisallow: /mine\nDisallow: /more\n"
    robots = read_robots((mine + names + rules).encode(), None, "alignset")
    assert robots.size == len("disallow: /mine" + "disallow: /more")
    robots = read_robots((names + "User-agent: alignset\n" + rules).encode(), None, "alignset")
    assert refusal_of(robots, "http://a.org/7") == "robots_txt"
    assert refusal_of(robots, "http://a.org/x") is None


def test_more_wildcards_than_can_be_looked_for() -> None:
    rule = "Allow: /*" + "a" * 90 + "b"
    robots = read_robots("\n".join(["User-agent: *", *[rule] * 2000]).encode(), None, "alignset")
    assert refusal_of(robots, "http://a.org/" + "a" * 100) is None
    assert refusal_of(robots, "http://a.org/" + "a" * 1000) == "robots_txt"


def test_of_500_kib_whole_lines_are_read() -> None:
    text = b"User-agent: *\nDisallow: /a\n" + b"#" * 512_000 + b"\nDisallow: /b\n"
    robots = read_robots(text, None, "alignset")
    assert refusal_of(robots, "http://a.org/a") == "robots_txt"
    assert refusal_of(robots, "http://a.org/b") is None
    text = b"User-agent: *\nDisallow: /a\n".ljust(512_000 - len("\nAllow: /a"), b"#")
    robots = read_robots(text + b"\nAllow: /a/b", None, "alignset")  # cut off behind "/a"
    assert refusal_of(robots, "http://a.org/a/c") == "robots_txt"


def test_rules_behind_redirects_that_images_may_not_take() -> None:
    with small_web() as web:
        web.files = {"/rules": RULES, "/private/a": b"x", "/a": b"x"}
        web.moved = {"/robots.txt": "/1", "/1": "/2", "/2": "/3", "/3": "/4", "/4": "/rules"}
        direct = dataclasses.replace(POLITE, max_redirects=0)
        assert details(web, "/private/a", "/a", how=direct) == ["robots_txt", None]


def test_a_cache_forgets_the_oldest_by_number_and_by_length() -> None:
    """20,000 of 500 KiB would take 400 GB, parsed; what is put again counts once."""
    cache = PolicyCache[Robots]()
    assert cache.get("http://a", "alignset") is None
    cache.put("http://a", "alignset", Robots(None))
    assert cache.get("http://a", "alignset") == Robots(None)
    assert cache.get("http://a", "other") is None  # who may be told something else
    for number in range(20_000):
        cache.put(f"http://{number}", "alignset", Robots(None))
    assert cache.get("http://a", "alignset") is None
    for number in [0] * 20 + [*range(20)]:
        cache.put(str(number), "alignset", Robots(None, size=512_000))
    kept = [number for number in range(20) if cache.get(str(number), "alignset")]
    assert kept == [*range(12, 20)]  # 4 Mi characters


USAGE = b"""User-Agent: *
Allow: /
Disallow: /never/
Content-Usage: train-ai=n
Content-Usage: /ai-ok/ train-ai=y
CONTENT-USAGE : /ai-ok/not/\ttrain-ai=n # for now
Content-Usage: /unknown/ search=n
Content-Usage: /both/ train-ai=y
Content-Usage: /both/ train-ai=n

User-Agent: other
Content-Usage: train-ai=y
"""


def test_content_usage_of_the_longest_path() -> None:
    refusals = {
        **{"/test": "content_usage", "/never/test": "robots_txt", "/ai-ok/test": None},
        **{"/ai-ok/not/test": "content_usage", "/unknown/test": None},
        **{"/both/test": "content_usage", "/x.gif": "content_usage"},
    }
    urls = {path: f"http://a.org{path}" for path in refusals}
    robots = read_robots(USAGE, None, "alignset", frozenset({"train-ai"}))
    assert {path: refusal_of(robots, url) for path, url in urls.items()} == refusals
    unread = read_robots(USAGE, None, "alignset")
    assert [path for path, url in urls.items() if refusal_of(unread, url)] == ["/never/test"]
    other = read_robots(USAGE, None, "other", frozenset({"train-ai"}))
    assert not any(refusal_of(other, url) for url in urls.values())


def test_a_content_usage_that_breaks_the_grammar_says_nothing() -> None:
    for rule in ("train-ai=n,", "Train-AI=n", "/x", "/x train-ai", "train-ai", "", "train-ai = n"):
        text = f"User-Agent: *\nContent-Usage: {rule}\n".encode()
        robots = read_robots(text, None, "alignset", frozenset({"train-ai"}))
        assert refusal_of(robots, "http://a.org/x") is None
