import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import reference
from tests.made_batches import in_the_middle, xxh
from tests.nasty_texts import urls
from transforms.urls import url_hashes, url_identity

LONG = "http://a.example/" + "x" * 4075  # 4092 bytes; the kernel's room is 4096

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
        ("http:///b.jpg", None),
        ("http://", None),
        ("http:/a.example", None),
        ("http:a.example", None),
        ("httpx://a.example/", None),
        ("httpſ://a.example:8/", None),
        ("ftp://a.example/", None),
        ("//a.example/b.jpg", None),
        ("data:image/png;base64,AAAA", None),
        ("b.jpg", None),
        ("", None),
        (LONG + "yyy", LONG + "yyy"),
        (LONG + "yyyy", LONG + "yyyy"),
        (LONG + "yyyyy", LONG + "yyyyy"),
    ],
)
def test_the_identity(url: str, identity: str | None) -> None:
    assert url_identity(url) == identity
    hashes, usable = url_hashes(pa.array(["http://x/", url, "http://y/"]))
    assert usable.tolist() == [True, identity is not None, True]
    assert hashes.tolist() == [xxh("http://x/"), xxh(identity or ""), xxh("http://y/")]


@given(some_urls)
def test_columns_are_what_the_rules_say_row_by_row(texts: list[str]) -> None:
    identities = [reference.url_identity(text) for text in texts]
    column = pa.array(texts, pa.string())
    for one in (column, in_the_middle(column)):
        hashes, usable = url_hashes(one)
        assert usable.tolist() == [identity is not None for identity in identities]
        assert hashes.tolist() == [xxh(identity or "") for identity in identities]


@given(some_urls)
def test_an_identity_is_its_own_identity(texts: list[str]) -> None:
    for identity in filter(None, map(url_identity, texts)):
        # A dropped fragment may leave white space at the end, which is then trimmed.
        assert url_identity(identity) == identity.strip()
