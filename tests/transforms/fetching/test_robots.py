"""robots.txt: what it means, and that the fetcher asks and obeys."""

import dataclasses
import json
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from urllib.parse import quote

import pytest

from alignset.transforms.fetching import curl_transfers, routes
from alignset.transforms.fetching.curl_transfers import EndedTransfer
from alignset.transforms.fetching.fetch_settings import FetchSettings
from alignset.transforms.fetching.fetcher import fetch_all
from alignset.transforms.fetching.host_files import FILES, ROBOTS, PolicyCache
from alignset.transforms.fetching.orders import (
    Fetched,
    FindListed,
    HostAnswer,
    Order,
    listed_nowhere,
)
from alignset.transforms.fetching.robots import Robots, read_robots
from alignset.transforms.opt_outs.host_statements import record_page
from tests.support.bad_web import BODY, BadWeb, bad_web
from tests.support.host_files import forget_host_files
from tests.support.small_web import POLICIES, SmallWeb, small_web

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
def fresh() -> None:
    forget_host_files()


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
        **dict.fromkeys(("host_refuses", "challenge", "deadline", "bad_answer"), "no_robots_txt"),
        **{detail: detail for detail in ("dns", "refused", "timeout", "tls", "forbidden_address")},
    }
    for file in FILES.values():
        passing = {detail: file.read(None, detail, "", POLITE).passing for detail in refusals}
        assert passing == {detail: why is not None for detail, why in refusals.items()}
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
    cache, answer = PolicyCache[Robots](), HostAnswer("robots.txt", "", 404, "http_404", 0.0, None)
    assert cache.get("http://a", "alignset") is None
    cache.put("http://a", "alignset", Robots(None), answer)
    assert cache.get("http://a", "alignset") == (Robots(None), answer)
    assert cache.get("http://a", "other") is None  # who may be told something else
    for number in range(20_000):
        cache.put(f"http://{number}", "alignset", Robots(None), answer)
    assert cache.get("http://a", "alignset") is None
    large = answer._replace(packed=bytes(50 * 512_000))
    for size, of in ((512_000, answer), (0, large)):  # of rules, or of what nobody parses
        for number in [0] * 20 + [*range(20)]:
            cache.put(str(number), "alignset", Robots(None, size=size), of)
        kept = [number for number in range(20) if cache.get(str(number), "alignset")]
        assert kept == [*range(12, 20)]  # 4 Mi characters, or 200 MiB


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


# Opt-outs of hosts, from real servers: robots.txt, tdmrep.json and the headers of responses.

HOW = FetchSettings(allow_private_addresses=True, retries=0, timeout_s=5.0)
REPORT = replace(HOW, opt_outs="report")
TDMREP = replace(HOW, tdmrep_json=True)
WISHES = POLICIES
PATHS = b"User-agent: *\nDisallow: /private/\nContent-Usage: /art/ train-ai=n\n"
RESERVED = json.dumps([{"location": "/r/", "tdm-reservation": 1}]).encode()


@pytest.fixture(scope="module")
def bad() -> Iterator[BadWeb]:
    with bad_web() as server:
        yield server


@pytest.fixture
def web() -> Iterator[SmallWeb]:
    with small_web() as server:
        server.files = {"/robots.txt": PATHS, "/.well-known/tdmrep.json": RESERVED}
        server.files |= dict.fromkeys(("/a", "/private/a", "/art/a", "/r/a", "/r/free"), b"x")
        server.headers = {"/r/free": {"TDM-Reservation": "0"}}
        yield server


def fetched(urls: list[str], how: FetchSettings = HOW) -> list[Fetched]:
    return sorted(fetch_all(urls, how), key=lambda one: one.index)


def known_ends(
    urls: list[str],
    how: FetchSettings,
    known: Mapping[int, str | None],
    listed: FindListed = listed_nowhere,
) -> list[Fetched]:
    """Ends of URLs; some are known."""
    ends = fetch_all(urls, how, find_listed=listed, known=known)
    return sorted(ends, key=lambda one: one.index)


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
    "content-signal=search%3Dyes%2Cai-train%3Dno": "content_signal",
    "Content-Signal=ai-input%3Dno": None,
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
    off = replace(off, content_signal="")
    assert {one.detail for one in fetched(urls, off)} == {None}


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


def test_of_known_images_the_hosts_alone_are_asked(web: SmallWeb) -> None:
    with small_web() as other:
        other.files = {"/robots.txt": RULES, "/a": b"x", "/private/a": b"x"}
        web.moved = {"/to/a": f"{other.url}/a", "/to/private": f"{other.url}/private/a"}
        paths = ["/a", "/private/a", "/art/a", "/to/a", "/to/private", "/gone", "/r/a", "/r/free"]
        urls = [web.url + path for path in paths]
        come_from = {number: web.moved.get(path, urls[number]) for number, path in enumerate(paths)}
        known = come_from | {paths.index("/gone"): None}
        ends = known_ends(urls, HOW, known)
        # The same as of a new request, but that it failed is known, too.
        scratch = [one.detail if "http" not in str(one.detail) else None for one in fetched(urls)]
        assert [one.detail for one in ends] == scratch
        assert scratch[1:5] == ["robots_txt", "content_usage", None, "robots_txt"]
        assert [one.is_known for one in ends] == [detail is None for detail in scratch]
        web.requests.clear()
        web.policies_asked.clear()
        forget_host_files()
        other.policies_asked.clear()
        other.requests.clear()

        # What tdmrep.json reserves is asked for, where its own header counts.
        ends = known_ends(urls, TDMREP, known)
        assert [(one.detail, one.body) for one in ends[-2:]] == [
            ("tdm_reservation", None),
            (None, b"x"),
        ]
        assert sorted(web.requests) == ["/r/a", "/r/free"]
        assert known_ends(urls[-2:], TDMREP, {0: None, 1: None})[0].is_known
        assert [one.policies_asked for one in (web, other)] == [[*WISHES]] * 2
        ends = known_ends(urls, REPORT, known)
        assert all(one.is_known for one in ends)
        assert [one.opted_out for one in ends[1:5]] == [
            ("robots_txt",),
            ("content_usage",),
            (),
            ("robots_txt",),
        ]
        assert (len(web.requests), other.requests) == (2, [])


def test_that_the_host_of_a_known_image_cannot_be_asked_is_no_opt_out() -> None:
    with small_web() as web, socket.socket() as silent, socket.socket() as nobody:
        web.files = {"/robots.txt": RULES}
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        nobody.bind(("127.0.0.1", 0))  # and nothing listens there
        came_from = {1: None, 2: f"{web.url}/listed", 3: f"{web.url}/private/a"}
        listed = lambda url: "list:url" if url.endswith("/listed") else None  # noqa: E731

        def outcomes(host: socket.socket, how: FetchSettings) -> list[str | bool]:
            url = f"http://127.0.0.1:{host.getsockname()[1]}"
            urls = [f"{url}/{name}" for name in ("new", "a", "listed", "moved")]
            ends = known_ends(urls, how, came_from, listed)
            return [one.detail or one.blocklist or one.is_known for one in ends]

        assert outcomes(nobody, POLITE) == ["refused", True, "list:url", "robots_txt"]
        how = replace(POLITE, shard_timeout_s=0.5, timeout_s=600.0, idle_timeout_s=600.0)
        assert outcomes(silent, how) == ["deadline", True, "list:url", True]
        assert web.requests == []


def test_known_images_wait_for_no_crawl_delay() -> None:
    with small_web() as web:
        web.files = {"/robots.txt": b"User-agent: *\nCrawl-delay: 99999", "/a": b"x"}
        urls = [f"{web.url}/a?{number}" for number in range(50)]
        assert all(one.is_known for one in known_ends(urls, POLITE, dict.fromkeys(range(50))))
        assert (web.requests, web.policies_asked) == ([], ["/robots.txt"])


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
    assert job.url.endswith(ROBOTS.path)
    ways.note_end(EndedTransfer(job, detail="timeout", silent=True, was_asked=True))
    assert ways.queue.due_s() > 0
    assert job.attempts == 2


def test_the_answer_of_an_image_is_that_behind_early_hints(bad: BadWeb) -> None:
    [one] = fetched([f"{bad.url}/hinted"])
    assert one.answer is not None
    assert (one.answer.status, one.answer.etag) == (200, "late")


def test_files_of_opt_outs_that_never_end_are_read_as_far_as_they_count() -> None:
    rules = {"/robots.txt": PATHS, "/.well-known/tdmrep.json": b"[" + b" " * 9}
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

    with bad_web() as inside, small_web() as web:
        web.files = {"/a": b"x"}
        web.moved = {path: f"http://127.0.0.2:{inside.server_address[1]}/ok" for path in WISHES}
        monkeypatch.setattr(curl_transfers, "is_public_address", "127.0.0.1".__eq__)
        guarded = replace(TDMREP, allow_private_addresses=False)
        assert [one.detail for one in fetched([f"{web.url}/a"], guarded)] == ["no_robots_txt"]
        unasked = replace(guarded, robots_txt=False)
        assert [one.detail for one in fetched([f"{web.url}/a"], unasked)] == [None]
        assert inside.heads == []


# Licence files that robots.txt and responses name.

REFUSES = b'<rsl xmlns="https://rslstandard.org/rsl"><content url="/art/"><license>'
REFUSES += b'<prohibits type="usage">ai-train</prohibits></license></content></rsl>'


def linked(url: str) -> dict[str, str]:
    return {"Link": f'<{url}>; rel="license"; type="application/rsl+xml"'}


def test_a_licence_file_is_requested_once_whoever_names_it() -> None:
    with small_web() as web, small_web() as other:
        web.files = {f"/{name}": b"x" for name in ("a", "art/a", "art/b", "linked/a")}
        web.files |= {"/robots.txt": f"License: {other.url}/license.xml".encode()}
        web.headers = {path: linked("/license/all") for path in ("/linked/a", "/linked/b")}
        web.files |= {"/license/all": REFUSES.replace(b"/art/", b""), "/linked/b": b"y" * 9}
        other.files = {"/license.xml": REFUSES, "/robots.txt": b"License: /license.xml"}
        other.files |= {"/art/a": b"x", "/a": b"x"}
        paths = ["/a", "/art/a", "/art/b", "/linked/a", "/linked/b", "/linked/none"]
        urls = [web.url + path for path in paths] + [f"{other.url}/art/a", f"{other.url}/a"]
        wanted = [None, "rsl", "rsl", "rsl", "rsl", "http_404", "rsl", None]
        for _ in range(2):  # and on another shard
            assert [one.detail for one in fetched(urls)] == wanted
        assert web.policies_asked == ["/robots.txt", "/license/all"]
        assert sorted(other.policies_asked) == ["/license.xml", "/robots.txt"]
        assert web.requests.count("/art/a") == other.requests.count("/art/a") == 0
        assert [web.requests.count(path) for path in ("/linked/a", "/linked/b")] == [2, 2]
        reported = fetched(urls, REPORT)
        assert [one.opted_out for one in reported] == [
            ("rsl",) if detail == "rsl" else () for detail in wanted
        ]
        assert reported[4].body == b"y" * 9
        assert {one.detail for one in fetched(urls, replace(HOW, rsl=False))} == {None, "http_404"}
        known = known_ends(urls, HOW, dict.fromkeys(range(len(urls))))
        assert [one.detail for one in known] == [None, "rsl", "rsl", None, None, None, "rsl", None]


def test_a_licence_file_that_cannot_be_had(bad: BadWeb) -> None:
    for kind, detail in (
        *(("", None), ("status/503", "no_license"), ("endless", None), ("loop", None)),
        *(("gzip/50000000", None), ("drip", "no_license")),
    ):
        with small_web() as web:
            web.files = {"/a": b"x", "/b": b"x"}
            web.moved = {"/license": f"{bad.url}/{kind}"} if kind else {}
            web.moved["/license/loop"] = "/license/loop"
            name = "/license/loop" if kind == "loop" else "/license"
            web.files["/robots.txt"] = f"License: {name}".encode()
            how = replace(HOW, timeout_s=1.0)
            assert [one.detail for one in fetched([f"{web.url}/a"], how)] == [detail], kind
            web.files["/robots.txt"], web.headers = b"", {"/b": linked(name)}
            forget_host_files()
            assert [one.detail for one in fetched([f"{web.url}/b"], how)] == [detail], kind
            assert known_ends([f"{web.url}/b"], how, {0: None})[0].is_known


@pytest.mark.parametrize(("count", "by_pages"), [(20, False), (20, True), (40, True)])
def test_a_host_that_names_many_licence_files(
    count: int, by_pages: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "_MOST_LINKED", 8)
    with small_web() as web:
        paths = [f"/{number}" for number in range(count)]
        web.files = dict.fromkeys(paths, b"x")
        web.headers = {} if by_pages else {path: linked(f"/license{path}") for path in paths}
        page = f"http://page{count}.example/"  # which has named none before
        lines = [record_page(f"{web.url}/license{path}", page) for path in paths]
        records = dict(enumerate(lines)) if by_pages else {}
        ends = fetch_all([web.url + path for path in paths], HOW, records=records)
        assert Counter(one.detail for one in ends) == {None: 8, "rsl": count - 8}
        assert len(web.policies_asked) == 1 + 8
        assert len(web.requests) == (8 if by_pages else count)


def test_images_that_wait_for_a_licence_file_take_bounded_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(routes, "_MOST_HELD", 1)
    with small_web() as web:
        paths = [f"/{number}" for number in range(6)]
        web.files = dict.fromkeys(paths, b"x")
        web.headers = dict.fromkeys(paths, linked("/license"))
        ends = fetched([web.url + path for path in paths])
        assert [(one.detail, one.body) for one in ends] == [(None, b"x")] * 6
        assert web.policies_asked == ["/robots.txt", "/license"]


def test_what_is_said_to_another_crawler_is_told_with_its_name() -> None:
    with small_web() as web:
        web.files = {"/a": b"x", "/robots.txt": b"User-agent: CCBot\nDisallow: /"}
        assert [one.detail for one in fetched([f"{web.url}/a"])] == ["robots_txt:CCBot"]
        assert fetched([f"{web.url}/a"], REPORT)[0].opted_out == ("robots_txt:CCBot",)
        assert fetched([f"{web.url}/a"], replace(HOW, also_obey=""))[0].body == b"x"
