"""Entries in the form in which they are looked up, and those that are refused."""

import numpy as np
import pyarrow as pa
import pytest

from alignset.transforms.blocklists.list_values import (
    digests,
    hashed,
    host_value,
    phrases,
    prefix_values,
    url_value,
)
from alignset.transforms.blocklists.read_list import Entries, Faults, ListError
from tests.support.made_batches import xxh


def made(kind: str, *values: str) -> Entries:
    return Entries(kind, pa.array(values, pa.string()), pa.array(range(1, len(values) + 1)))


def refused(kind: str, value: str) -> str:
    faults = Faults("list.txt")
    work = {"prefix": prefix_values, "text": phrases, "md5": digests, "key": digests}
    work.get(kind, hashed)(made(kind, "a.example" if kind != "x" else "", value), faults)
    with pytest.raises(ListError) as error:
        faults.check()
    return str(error.value)


@pytest.mark.parametrize(
    ("value", "host"),
    [
        ("a.example", "a.example"),
        ("A.Example.", "a.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("[::0:1]", "[::1]"),
        ("0x7f.1", "127.0.0.1"),
        ("localhost", "localhost"),
        ("http://a.example", None),
        ("a.example/x", None),
        ("a.example:80", None),
        ("a b", None),
        ("me@a.example", None),
        ("..", None),
        ("*.a.example", None),
        ("a.example\0", None),
    ],
)
def test_hosts(value: str, host: str | None) -> None:
    assert host_value(value) == host
    faults = Faults("list.txt")
    hashes = hashed(made("host", "x.example", value), faults)
    assert hashes.tolist() == [xxh("x.example")] + ([] if host is None else [xxh(host)])
    assert faults.count == (host is None)


@pytest.mark.parametrize("value", ["example.co.uk", "*.Example.co.uk", ".example.co.uk"])
def test_domains_with_what_is_below_them(value: str) -> None:
    faults = Faults("list.txt")
    assert hashed(made("domain", value), faults).tolist() == [xxh("example.co.uk")]
    faults.check()


@pytest.mark.parametrize("value", ["com", "co.uk", "localhost", "*.com"])
def test_a_domain_below_which_anybody_may_register_is_refused(value: str) -> None:
    assert "would block too much" in refused("domain", value)


def test_domains_of_one_owner_are_taken_though_others_have_names_there() -> None:
    faults = Faults("list.txt")
    assert len(hashed(made("domain", "github.io", "1.2.3.4"), faults)) == 2
    faults.check()


def test_urls_and_prefixes_with_and_without_a_scheme() -> None:
    assert url_value("https://A.example/x y#z") == url_value("a.example/x%20y") == "a.example/x%20y"
    faults = Faults("list.txt")
    assert prefix_values(made("prefix", "http://a.example", "a.example/x?"), faults) == [
        b"a.example/",
        b"a.example/x?",
    ]
    for value in ("ftp://a.example/", "http://", "/x", "*.a.example/x", "http://a\0.example/"):
        assert "is no http(s) URL" in refused("url", value)
        assert "is no http(s) URL" in refused("prefix", value)


def test_digests() -> None:
    faults = Faults("list.txt")
    rows = digests(made("md5", "00" * 15 + "Ff", "ab" * 16), faults)
    assert rows.shape == (2, 16)
    assert bytes(rows[0]) == bytes(15) + b"\xff"
    assert "must have 32 hex digits to be md5" in refused("md5", "00" * 15 + "0g")
    assert "must have 16 hex digits to be key" in refused("key", "0" * 15)


def test_phrases_have_words() -> None:
    faults = Faults("list.txt")
    hashes, longest = phrases(made("text", "Word", "two words"), faults)
    assert longest == 2
    assert hashes[0] == np.uint64(xxh("word".ljust(8, "\0")))
    assert "must have 1 to 32 words" in refused("text", "...")
    assert "must have 1 to 32 words" in refused("text", "a " * 33)
