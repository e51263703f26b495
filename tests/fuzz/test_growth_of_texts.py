"""Sixteen times a text, a URL or a robots.txt takes about sixteen times as long."""

import html.entities
from collections.abc import Callable
from functools import partial

import numpy as np
import pyarrow as pa
import pytest

from alignset.transforms.fetching.fetch_target import request_url
from alignset.transforms.fetching.robots import read_robots
from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings
from alignset.transforms.opt_outs.response_headers import header_opt_outs
from alignset.transforms.pairs.language_votes import found_languages
from alignset.transforms.pairs.texts import kept_text, measure_texts
from alignset.transforms.pairs.urls import url_identity
from tests.fuzz.growth import LARGE, superlinear
from tests.fuzz.texts import OTHER_TOKENS
from tests.fuzz.urls import PIECES, TOKENS_OF_URLS
from tests.support.made_batches import language_rule

ENTITIES = [f"&{name}" for name in ("amp;", "not", "CounterClockwiseContourIntegral;", "#0;", "#")]
MARKS = ["\u0f73", "\u0f75", "\u0f81", "\u0344", "\u0315\u0334", "\u1f82", "\u0345", "\u034f"]
LINES = [
    *("User-agent: alignset\n", "User-agent: *\n", "user-agent:x\n", "Disallow: /x\n", "a:b\n"),
    *("Disallow: /*a*a*a*a*b\n", "Allow: /*" + "a" * 90 + "b\n", "Allow: /$\n", "*", "a", "\n"),
    *("Allow: /a/index.html\n", "Crawl-delay: 1\n", "Sitemap:/\n", "#", ":", " ", "%61", "\x85"),
]
RULES = {"language": language_rule("en"), "langdetect": language_rule("de", "langdetect")}


def _languages(name: str, text: str) -> object:
    return found_languages(pa.array([text], pa.string()), RULES[name])


def _words(text: str) -> object:
    return measure_texts(pa.array([text], pa.string()), np.ones(1, np.bool_))


def _behind_a_scheme(url: str) -> object:
    return request_url(f"http://{url}")


def _host(url: str) -> object:
    return url_identity(f"http://{url}"), request_url(f"http://a.example/{url}")


def _robots(text: str) -> object:
    robots = read_robots(f"User-agent: *\n{text}".encode(), None, "alignset")
    return [robots.opt_outs(f"http://a.example/{'a' * size}") for size in (10, 1000)]


def _header(value: str) -> object:
    line = f"X-Robots-Tag: {value}".encode()
    return header_opt_outs([line, line], OptOutSettings(), {"noai"})


WHOLE: dict[str, tuple[Callable[[str], object], list[str]]] = {
    "kept text": (kept_text, [*OTHER_TOKENS, *ENTITIES, *MARKS, *html.entities.html5][:80]),
    "words": (_words, [*"ก่้ำのカ的犬ខ្កཀ་ ကာက\u200b\u200d-a1 ", *MARKS]),
    **{name: (partial(_languages, name), [*OTHER_TOKENS, *MARKS, "the dog "]) for name in RULES},
    "identity of a URL": (url_identity, [*TOKENS_OF_URLS, *PIECES]),
    "URL that is sent": (request_url, [*TOKENS_OF_URLS, *PIECES]),
    "host that is sent": (_behind_a_scheme, [*PIECES, *MARKS]),
    "path that is sent": (_host, [*PIECES, *MARKS]),
    "robots.txt": (_robots, LINES),
    "X-Robots-Tag": (_header, [",", ":", "noai", "alignset:", " ", "unavailable_after: 1"]),
}


@pytest.mark.parametrize("name", WHOLE)
def test_the_time_grows_with_the_size(name: str) -> None:
    function, tokens = WHOLE[name]
    encoded = [token.encode("utf-8", "replace") for token in tokens]
    # ICU and the detectors take long: fewer patterns, of half the size, tell as much.
    count, size = (20, LARGE // 2) if name in ("words", *RULES) else (60, LARGE)
    whole = superlinear(
        lambda body: function(body.decode("utf-8", "replace")), encoded, count, size
    )
    assert whole == []
