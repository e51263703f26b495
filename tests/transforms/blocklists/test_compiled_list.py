"""A list as arrays."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from alignset.transforms.blocklists.compiled_list import (
    compile_list,
    digests,
    hashed,
    host_value,
    phrases,
    url_value,
)
from alignset.transforms.blocklists.read_list import Entries, ListError
from tests.support.made_batches import xxh
from tests.support.memory_files import FILES

LINES = """host:b.example
host:a.example
host:B.example
prefix:a.example/x
prefix:a.example/x/y
md5:00000000000000000000000000000001
md5:ff0000000000000000000000000000ff
phash:0000000000000007
pdq:{pdq}
text:two words
""".format(pdq="0f" * 32)


@pytest.mark.parametrize("stored", [False, True])
def test_arrays_are_sorted_and_without_repeats(tmp_path: Path, stored: bool) -> None:
    path = "mem://bucket/take.txt" if stored else str(tmp_path / "take.txt")
    if stored:
        FILES["mem://bucket/take.txt"] = LINES.encode()
    else:
        Path(path).write_text(LINES)
    compiled = compile_list(path, str(tmp_path / "arrays"))
    assert compiled.name == f"list-{compiled.sha256[:8]}"
    assert compiled.sha256 == hashlib.sha256(LINES.encode()).hexdigest()
    counts = {"host": 3, "prefix": 2, "text": 1, "md5": 2, "phash": 1, "pdq": 1}
    assert compiled.entries == counts
    assert compiled.longest_phrase == 2
    hosts = compiled.array("host")
    assert len(hosts) == 2
    assert hosts[0] < hosts[1]
    assert compiled.prefix_sizes == (11, 13)
    assert compiled.array("md5").tolist() == [1, 255]
    assert compiled.array("phash").tolist() == [[7]]
    assert compiled.array("pdq").tolist() == [[0x0F0F0F0F0F0F0F0F]] * 4
    with pytest.raises(ValueError, match="read-only"):
        hosts[0] = 1


@pytest.mark.parametrize("body", ["", "# nothing yet\n\n"])
def test_a_list_without_entries_is_refused(tmp_path: Path, body: str) -> None:
    (tmp_path / "l").write_text(body)
    with pytest.raises(ListError, match="has no entry"):
        compile_list(str(tmp_path / "l"), str(tmp_path))


WORK = {"text": phrases, "md5": digests, "key": digests}


def made(kind: str, *values: str) -> Entries:
    places = pa.array(range(1, len(values) + 1))
    return Entries(kind, pa.array(values, pa.string()), places, "list.txt, line")


def refused(kind: str, value: str) -> str:
    with pytest.raises(ListError, match=r"^list\.txt, line 1: ") as error:
        WORK.get(kind, hashed)(made(kind, value))
    return str(error.value)


@pytest.mark.parametrize(
    ("value", "host"),
    [
        ("a.example", "a.example"),
        ("A.Example.", "a.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("[::0:1]", "[::1]"),
        ("localhost", "localhost"),
        ("a.example/x", None),
        ("a.example:80", None),
        ("me@a.example", None),
        ("*.a.example", None),
        ("a.example\0", None),
    ],
)
def test_hosts(value: str, host: str | None) -> None:
    assert host_value(value) == host
    if host is None:
        assert "is not a host" in refused("host", value)
    else:
        assert hashed(made("host", "x.example", value)).tolist() == [xxh("x.example"), xxh(host)]


def test_domains_with_what_is_below_them_and_not_what_anybody_may_register() -> None:
    for value in ("example.co.uk", "*.Example.co.uk", ".example.co.uk"):
        assert hashed(made("domain", value)).tolist() == [xxh("example.co.uk")]
    for value in ("com", "co.uk", "localhost", "*.com"):
        assert "would block too much" in refused("domain", value)
    assert len(hashed(made("domain", "github.io", "1.2.3.4"))) == 2  # one owner's


def test_urls_and_prefixes_with_and_without_a_scheme() -> None:
    assert url_value("https://A.example/x y#z") == url_value("a.example/x%20y") == "a.example/x%20y"
    prefixes = hashed(made("prefix", "http://a.example", "a.example/x?"))
    assert prefixes.tolist() == [xxh("a.example/"), xxh("a.example/x?")]
    for value in ("ftp://a.example/", "http://", "/x", "*.a.example/x", "http://a\0.example/"):
        assert "is not an http(s) URL" in refused("url", value)
        assert "is not an http(s) URL" in refused("prefix", value)


def test_digests() -> None:
    words = digests(made("md5", "00" * 15 + "Ff", "ab" * 16))
    assert words.tolist() == [[255], [0xABABABABABABABAB]]
    assert digests(made("sha1", "01" * 12 + "00" * 7 + "02")).tolist() == [[2]]
    assert "must have 32 hex digits to be md5" in refused("md5", "00" * 15 + "0g")
    assert "must have 16 hex digits to be key" in refused("key", "0" * 15)


def test_phrases_have_words() -> None:
    hashes, longest = phrases(made("text", "Word", "two words"))
    assert longest == 2
    assert hashes[0] == np.uint64(xxh("word".ljust(8, "\0")))
    assert "must have 1 to 32 words" in refused("text", "...")
    assert "must have 1 to 32 words" in refused("text", "a " * 33)
