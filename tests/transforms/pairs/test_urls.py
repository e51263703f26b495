from random import Random

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignset.demo import text_rules
from alignset.transforms.pairs.urls import url_hashes, url_identity
from tests.fuzz import urls as url_cases
from tests.support.made_batches import xxh
from tests.support.nasty_texts import urls

LONG = "http://a.example/" + "x" * 4075

some_urls = st.lists(st.one_of(urls, st.text(max_size=12).map("http://a".__add__)))


@pytest.mark.parametrize(
    ("url", "identity"),
    [
        ("http://a.example/B.jpg", "http://a.example/B.jpg"),
        ("HTTPS://A.Example/B.JPG?Q=R", "https://a.example/B.JPG?Q=R"),
        ("http://a.example", "http://a.example"),
        ("http://a.example#top", "http://a.example"),
        ("http://a.example/b#top#?", "http://a.example/b"),
        ("http://a.example?b#c", "http://a.example?b"),
        ("http://a.example:80/", "http://a.example/"),
        ("http://a.example:443/", "http://a.example:443/"),
        ("https://a.example:443/", "https://a.example/"),
        ("https://a.example:0443/", "https://a.example/"),
        ("https://a.example:80/", "https://a.example:80/"),
        ("http://a.example:/", "http://a.example/"),
        ("http://a.example:80", "http://a.example"),
        ("http://a.example:80?q", "http://a.example?q"),
        ("http://a.example:80#x#y", "http://a.example"),
        ("http://a.example:8", "http://a.example:8"),
        ("http://a.example:800/", "http://a.example:800/"),
        ("http://a.example:80x/", None),
        ("https://a.example:443", "https://a.example"),
        ("https://a.example:44", "https://a.example:44"),
        ("https://a.example:4430/", "https://a.example:4430/"),
        ("HTTPS://A.example:443/B#c", "https://a.example/B"),
        ("http://a.example/B:80#c", "http://a.example/B:80"),
        ("http://a.example/#", "http://a.example/"),
        ("http://[::1]#x", "http://[::1]"),
        ("http://a_b-c.example/Z", "http://a_b-c.example/Z"),
        ("http://a.example/\x7f", "http://a.example/\x7f"),
        ("http://a.example/a\x1c", "http://a.example/a"),
        ("http://a.example/é", "http://a.example/é"),
        ("http://a.example/\u00a0", "http://a.example/"),
        ("http://@a.example/", "http://@a.example/"),
        ("http://a.example@/", None),
        ("http://:80/", None),
        ("http", None),
        ("https://", None),
        ("https:/", None),
        ("http://a.example:65535/", "http://a.example:65535/"),
        ("http://a.example:65536/", None),
        ("http://a.example:" + "9" * 5000 + "/", None),
        ("http://a.example:" + "0" * 5000 + "80/", "http://a.example/"),
        ("http://a.example:٨٠/", None),
        ("http://a.example:8x/", None),
        ("http://Me:Pass@A.example/", "http://Me:Pass@a.example/"),
        ("http://[FE80::1]:80/", "http://[fe80::1]/"),
        ("http://[]/", None),
        ("http://[nonsense]/", None),
        ("http://É.fr/É", "http://é.fr/É"),
        ("http://a.example/a b\nc", "http://a.example/a b\nc"),
        (" http://a.example/\t", "http://a.example/"),
        ("http://a b/", None),
        ("http:///b.jpg", "http://b.jpg/"),
        ("http://", None),
        ("http:/a.example", "http://a.example/"),
        ("http:a.example", "http://a.example/"),
        ("HTTPS:/A.example:443/B c#d", "https://a.example/B%20c"),
        ("http:\\\\a.example\\b", "http://a.example/b"),
        ("http://a.ex\nample/b\nc", "http://a.example/bc"),
        ("https:/faẞ.de/ẞ", "https://xn--fa-hia.de/%E1%BA%9E"),
        ("http:/", None),
        ("http:", None),
        ("http:/1.2.3.256.5/", None),
        ("http://1.2.3.256.5/", None),
        ("http://1.2.3.256/", None),
        ("http://1.2.3.4.5", None),
        ("http://foo.0x4/", None),
        ("http://foo.0X4:80/", None),
        ("http://a.1", None),
        ("http://a.1.:8/", None),
        ("http://a.09", None),
        ("http://me@a.1/", None),
        ("http://a.１/", None),
        ("http://a.%31/", None),
        ("http://1.2.3.4/", "http://1.2.3.4/"),
        ("http://1.2.3.4:80/#x", "http://1.2.3.4/"),
        ("http://0x7f.1/", "http://0x7f.1/"),
        ("http://134744072/", "http://134744072/"),
        ("http://a.1b/", "http://a.1b/"),
        ("http://a.0xg/", "http://a.0xg/"),
        ("http://1.a/", "http://1.a/"),
        ("http://1.2.3.4../", "http://1.2.3.4../"),
        ("http://../", "http://../"),
        ("http://./", "http://./"),
        ("http://xn--a/", "http://xn--a/"),
        ("http://a%00/", None),
        ("http://a|b/", None),
        ("httpx://a.example/", None),
        ("httpſ://a.example:8/", None),
        ("ftp://a.example/", None),
        ("//a.example/b.jpg", None),
        ("data:image/png;base64,AAAA", None),
        ("b.jpg", None),
        ("", None),
        (LONG, LONG),
        (LONG + "#x", LONG),
    ],
)
def test_the_identity(url: str, identity: str | None) -> None:
    assert url_identity(url) == identity
    hashes, usable, _ = url_hashes(pa.array(["http://x/", url, "http://y/"]))
    assert usable.tolist() == [True, identity is not None, True]
    assert hashes.tolist() == [xxh("http://x/"), xxh(identity or ""), xxh("http://y/")]


@pytest.mark.parametrize(
    ("url", "behind"),
    [
        ("http://a.example", "/b"),
        ("http://a.example:8", "0/"),
        ("http://a.example:80", "80/"),
        ("http://a.example/b", "#c"),
        ("http://", "a.example/"),
        ("http:/", "/a.example/"),
    ],
)
def test_what_stands_in_the_next_row_is_no_part_of_a_url(url: str, behind: str) -> None:
    hashes, usable, _ = url_hashes(pa.array([url, behind, url]))
    identity = text_rules.url_identity(url)
    assert usable.tolist() == [identity is not None, False, identity is not None]
    assert hashes.tolist() == [xxh(identity or ""), xxh(""), xxh(identity or "")]


@given(some_urls)
def test_an_identity_is_its_own_identity(texts: list[str]) -> None:
    for identity in filter(None, map(url_identity, texts)):
        # A dropped fragment may leave white space at the end, which is then trimmed.
        assert url_identity(identity) == identity.strip()


def test_urls_as_pages_write_them_are_what_the_rules_and_a_browser_say() -> None:
    """Also targets of blocklists, what is sent, and robots.txt."""
    for seed in range(300):
        url_cases.check(Random(seed))
