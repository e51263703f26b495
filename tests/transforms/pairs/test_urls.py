from random import Random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignset.demo import text_rules
from alignset.transforms.pairs.measure_pairs import measure, recalled, remembered
from alignset.transforms.pairs.urls import url_hashes, url_identity
from alignset.transforms.shards.plan_shards import held_out, held_out_share
from tests.fuzz import texts
from tests.fuzz import urls as url_cases
from tests.support.made_batches import pair_batch, xxh
from tests.support.nasty_texts import urls

LONG = "http://a.example/" + "x" * 4075

some_urls = st.lists(st.one_of(urls, st.text(max_size=12).map("http://a".__add__)))


@pytest.mark.parametrize(
    ("url", "identity"),
    [  # the contract; tests/fuzz/urls.py compares far more with the rules in plain Python
        ("HTTPS://A.Example/B.JPG?Q=R", "https://a.example/B.JPG?Q=R"),
        ("http://a.example", "http://a.example"),
        ("http://a.example/b#top#?", "http://a.example/b"),
        ("http://a.example:80#x#y", "http://a.example"),
        ("http://a.example:443/", "http://a.example:443/"),
        ("https://a.example:0443/", "https://a.example/"),
        ("http://a.example:/", "http://a.example/"),
        ("http://a.example:800/", "http://a.example:800/"),
        ("http://a.example:80x/", None),
        ("http://a.example/B:80#c", "http://a.example/B:80"),
        ("http://a.example/a\x1c", "http://a.example/a"),
        ("http://a.example/\u00a0", "http://a.example/"),
        ("http://@a.example/", "http://@a.example/"),
        ("http://a.example@/", None),
        ("http://a.example:65535/", "http://a.example:65535/"),
        ("http://a.example:65536/", None),
        ("http://a.example:" + "9" * 5000 + "/", None),
        ("http://a.example:" + "0" * 5000 + "80/", "http://a.example/"),
        ("http://a.example:٨٠/", None),
        ("http://Me:Pass@A.example/", "http://Me:Pass@a.example/"),
        ("http://[FE80::1]:80/", "http://[fe80::1]/"),
        ("http://[nonsense]/", None),
        ("http://É.fr/É", "http://é.fr/É"),
        ("http://a.example/a b\nc", "http://a.example/a b\nc"),
        ("http://a b/", None),
        ("http:///b.jpg", "http://b.jpg/"),
        ("HTTPS:/A.example:443/B c#d", "https://a.example/B%20c"),
        ("https:/faẞ.de/ẞ", "https://xn--fa-hia.de/%E1%BA%9E"),
        ("http://1.2.3.256/", None),
        ("http://foo.0X4:80/", None),
        ("http://me@a.1/", None),
        ("http://a.%31/", None),
        ("http://0x7f.1/", "http://0x7f.1/"),
        ("http://a.0xg/", "http://a.0xg/"),
        ("http://a%00/", None),
        ("httpſ://a.example:8/", None),
        ("//a.example/b.jpg", None),
        ("", None),
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


# Which pairs are held out: the same for all texts of an image, whatever else is in the dataset.

URLS = pa.array([f"https://h{n % 7}.org/{n}.jpg" for n in range(20_000)])


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.5, 1.0])
def test_the_share_of_images_however_urls_are_written_and_whatever_is_beside_them(share: float):
    held = held_out(URLS, share)
    spread = np.sqrt(len(URLS) * share * (1 - share))
    assert abs(held.sum() - len(URLS) * share) <= 4 * spread
    written = pa.array([url.replace("https://h", "HTTPS://H") + "#x" for url in URLS.to_pylist()])
    assert (held_out(written, share) == held).all()
    assert (held_out(URLS.slice(500, 9), share) == held[500:509]).all()
    assert held_out(URLS, min(1.0, 5 * share))[held].all()  # a larger share holds them too
    assert len(held_out(URLS.slice(0, 0), share)) == 0


@pytest.mark.parametrize(
    ("holdout", "kept", "share"),
    [(0.01, 5, 0.01), (1, 100, 0.01), (500, 1000, 0.5), (500, 100, 1.0), (500, 0, 1.0)],
)
def test_a_number_of_pairs_is_a_share_of_them(holdout: float, kept: int, share: float):
    assert held_out_share(holdout, kept) == share


URL = "http://a.example/b.jpg"


def test_every_column_is_what_the_rules_say_however_rows_are_placed_and_later_too() -> None:
    """Also languages, rare n-grams, and what is remembered, of nasty texts."""
    for seed in range(150):
        texts.check(Random(seed))


def test_pages_and_where_a_row_is_stored_are_remembered() -> None:
    batch = pair_batch([(URL, "a dog"), (None, "a cat")])
    columns = {"page_url": ["http://a.example/", None], "source_path": ["a.tar", None]}
    more = pa.record_batch([*batch.columns, *columns.values()], [*batch.schema.names, *columns])
    kept = remembered(measure(more), more)
    page = recalled(kept).page
    assert page is not None
    assert page.to_pylist() == columns["page_url"]
    assert kept["source_path"].to_pylist() == columns["source_path"]
    assert recalled(remembered(measure(batch), batch)).page is None


def test_nulls_that_lie_over_bytes_are_empty() -> None:
    whole = pair_batch([(URL, "a dog"), (URL, "a cat")])
    hidden = [
        pa.BinaryArray.from_buffers(pa.binary(), 2, [pa.py_buffer(b"\x01"), *c.buffers()[1:]])
        for c in whole.columns
    ]
    pairs = measure(pa.record_batch(hidden, names=["url", "caption"]))
    assert pairs.malformed.to_pylist() == [None, "no_url"]
    assert pairs.text.to_pylist() == ["a dog", ""]
