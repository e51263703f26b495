"""URLs as pages write them and as nobody should, and what robots.txt says of them: our hashes and
targets against the rules in plain Python, hosts against a browser's parser, rules of robots.txt
against Protego."""

from __future__ import annotations

import re
from random import Random
from urllib.parse import urlsplit

import can_ada
import pyarrow as pa
from protego import Protego

from alignset.demo import text_rules
from alignset.transforms.blocklists.compiled_list import host_value, url_value
from alignset.transforms.blocklists.targets import target_of, targets
from alignset.transforms.columns.pair_columns import ROBOTS_TXT, X_ROBOTS_TAG
from alignset.transforms.columns.web_urls import is_public_address, request_url
from alignset.transforms.fetching.robots import field_and_value, read_robots
from alignset.transforms.opt_outs.host_statements import header_opt_outs
from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings
from alignset.transforms.pairs.measure_pairs import measure
from alignset.transforms.pairs.urls import url_hashes
from tests.support.made_batches import in_the_middle, xxh

SCHEMES = ["http://", "https://", "HTTP://", "hTTpS://", "http:\\\\", "http:/\\/", "http:", "//"]
PIECES = [
    *("a.example", "B.org", "x_y", "a", "é.fr", "ß", "ſ", "日本", "🐕", "א", "１", "。", "．", "ⓐ"),
    *("xn--", "xn--a", "xn--bcher-kva", "\u00ad", "\u200b", "\u200d", "\u0301", "\u0f73", "ﬀ", "℀"),
    *("user:p@", "@", "%40", "%2F", "%3A", "%5C", "%00", "%E0%A5", "%2e", "%41", "／", "：", "＠"),
    *(":80", ":443", ":0443", ":", ":65536", ":99999999999", ":٨٠", "[::1]", "[1.2.3.4]", "[", "]"),
    *(
        *("127.0.0.1", "0x7f.1", "256", "08", "0", "1", "1.2.3.256.5", ".0x4", ".1b", ".", ".."),
        *("-", "_", "/", "\\", "?q=1", "#f"),
    ),
    *("/p", "/../", "/./", "/.%2E/", "//", " ", "\t", "\n", "\r", "\x00", "\x1f", "\x7f", "\u00a0"),
    *("%", "\u3000", "\u2028", "\ufeff", "\ud800", "|", '"', "^", "`", "{", "'", "*", "A" * 70),
]
SENT = re.compile(r"https?://([a-z0-9._-]{1,253}|\[[0-9a-fA-F:.]+\])(:[0-9]+)?/[!-~]*")
TOKENS = ["alignset", "AlignSet/1.0 (x)", "my bot"]
AGENTS = ["*", "alignset", "align", "set", "ALIGNSET*", "**", "al*", "bot", "my bot", ""]
FIELDS = [
    *("User-agent", "user agent", "useragent", "Disallow", "disalow", "Allow", "Crawl-delay"),
    *("Sitemap", "Host", "Request-rate", "visit time", "foo", "", "#", "Noindex"),
]
RULES = [
    *("/", "/a", "/a*", "/*a$", "/a$", "$", "*", "/%61", "/index.html", "/b/index.html", "/é", ""),
    *("3", "1e3", "nan", "-1", "http://a.example/", "x y", "foo: bar", "/*a*b*c", "/p", "//"),
]


def url_of(random: Random) -> str:
    url = random.choice([*SCHEMES, "http://", "http://a.example/", "https://b.org", ""])
    url += "".join(random.choices(PIECES, k=random.choice([0, 1, 2, 4, 8])))
    if random.random() < 0.1:
        at = random.randrange(len(url) + 1)
        url = url[:at] + chr(random.choice([random.randrange(128), 0x300, 0x2044])) + url[at + 1 :]
    return url


def _check_hashes(urls: list[str]) -> None:
    column = pa.array([url.encode("utf-8", "replace").decode() for url in urls], pa.string())
    identities = [text_rules.url_identity(url) for url in column.to_pylist()]
    for placed in (column, in_the_middle(column), column.slice(0, len(urls))):
        hashes, usable, own = url_hashes(placed)
        assert usable.tolist() == [identity is not None for identity in identities]
        assert hashes.tolist() == [xxh(identity or "") for identity in identities]
        assert all(url == identities[row] for row, url in enumerate(placed.to_pylist()) if own[row])
    measured = measure(pa.record_batch([column, column], names=["url", "caption"]))
    assert measured.usable().tolist() == [identity is not None for identity in identities]


def _check_targets(urls: list[str]) -> None:
    column = pa.array([url.encode("utf-8", "replace").decode() for url in urls], pa.string())
    made = targets(column)
    data = made.data.tobytes()
    spans = zip(made.starts.tolist(), made.host_ends.tolist(), made.stops.tolist(), strict=True)
    for url, (start, host_end, stop) in zip(urls, spans, strict=True):
        target = target_of(url)
        assert (data[start:host_end].decode(), data[host_end:stop].decode()) == (target or ("", ""))
        assert target is None or target[1].startswith(("/", ":"))
        host, of_list = host_value(url), url_value(url)
        assert host is None or target_of(f"http://{host}/") == (host, "/")
        assert of_list is None or of_list.count("/") > 0


def _parsed(url: str) -> can_ada.URL | None:
    try:
        return can_ada.parse(url)
    except ValueError:
        return None


def _check_request(url: str) -> None:
    sent = request_url(url)
    if sent is None:
        return
    assert SENT.fullmatch(sent)
    assert request_url(sent) == sent
    there, browser = _parsed(sent), _parsed(re.sub("[\ud800-\udfff]", "\ufffd", url))
    if browser is not None:
        assert there is not None
        assert (there.protocol, there.host) == (browser.protocol, browser.host)
    if there is not None:  # what robots.txt is asked about is what goes out
        assert there.pathname == urlsplit(sent).path


def robots_of(random: Random) -> str:
    """Makes a robots.txt that Protego reads as RFC 9309 does: it would end the names of a group
    at any field but a sitemap."""
    lines: list[str] = []
    in_names = False
    for _ in range(random.randrange(14)):
        field = random.choice([*FIELDS, "User-agent", "User-agent", "Disallow", "Disallow"])
        agent = "agent" in field and random.random() < 0.9
        colons = [":", ": ", " :", " ", "", *[": : "] * (not agent)]  # ours reads ": name", too
        line = random.choice(["", " "]) + field + random.choice(colons)
        line += random.choice(AGENTS if agent else RULES) + random.choice(["", " # c"])
        said, _ = field_and_value(line) or ("sitemap", "")
        names, rule = "agent" in said, said.endswith("allow") or said == "disalow"
        if names or rule or said in ("sitemap", "host") or not in_names:
            lines.append(line)
            in_names = names or (in_names and not rule)
    return random.choice(["\n", "\r\n", "\n\n"]).join(lines)


def _check_robots(random: Random, urls: list[str]) -> None:
    text, token = robots_of(random), random.choice(TOKENS)
    whole = Protego.parse(text)
    robots = read_robots(text.encode(), None, token)
    assert robots.crawl_delay_s() == float(whole.crawl_delay(token) or 0.0)
    for url in [*filter(None, map(request_url, urls)), "http://a.example/a", "http://a.example/b/"]:
        assert robots.opt_outs(url) == (() if whole.can_fetch(url, token) else (ROBOTS_TXT,))


def check(random: Random) -> None:
    urls = [url_of(random) for _ in range(random.choice([1, 3]))]
    _check_hashes(urls)
    _check_targets([*urls, random.choice(PIECES), "http://[" + random.choice(PIECES)])
    for url in urls:
        _check_request(url)
        assert is_public_address(url) in (True, False)
    _check_robots(random, urls)
    header = f"X-Robots-Tag: {random.choice(urls)}, {random.choice(RULES)}".encode(
        "utf-8", "replace"
    )
    assert header_opt_outs([header], OptOutSettings(), {"noai"}) in ((), (X_ROBOTS_TAG,))


TOKENS_OF_URLS = [
    *("http://a", "https://A.b/", "@", ":", ":80", "/", "?", "#", "a", "É", "[", " ", ".", "A")
]
