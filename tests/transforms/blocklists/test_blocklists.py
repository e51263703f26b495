"""Lists that are asked: of pairs, of files, of images."""

import hashlib
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from alignset.transforms.blocklists.blocklists import NO_LISTS, Blocklists, least_distance
from alignset.transforms.blocklists.compiled_list import compile_list

FIRST = """
host:bad.example
domain:evil.co.uk
url:http://h.example/a b.jpg
prefix:https://p.example/private/
prefix:q.example/ab
prefix:q.example/abc
text:two words
key:00000000000000ff
"""
SECOND = f"""
host:bad.example
host:other.example
md5:{hashlib.md5(b"m").hexdigest()}
sha1:{hashlib.sha1(b"s").hexdigest()}
sha256:{hashlib.sha256(b"x").hexdigest()}
sha256:{"00" * 32}
phash:ffff0000ffff0000
pdq:{"f0" * 32}
"""


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Blocklists:
    folder, compiled = tmp_path_factory.mktemp("lists"), []
    for name, body in (("first.txt", FIRST), ("second.txt", SECOND)):
        (folder / name).write_text(body)
        own_list = compile_list(str(folder / name), str(folder / "arrays"))
        compiled.append(replace(own_list, name=name))
    return Blocklists(tuple(compiled)).moved(str(folder / "work"))


@pytest.mark.parametrize(
    ("url", "detail"),
    [
        ("http://bad.example/x", "first.txt:host"),  # of both the first
        ("https://BAD.example.:8443/x", "first.txt:host"),
        ("http://www.bad.example/x", None),
        ("http://a.b.evil.co.uk/x", "first.txt:domain"),
        ("http://notevil.co.uk/", None),
        ("https://h.example/a%20b.jpg", "first.txt:url"),
        ("http://h.example/a b.jpg?x", None),
        ("http://p.example/private/a/b?c", "first.txt:prefix"),
        ("http://p.example/x/../private/", "first.txt:prefix"),
        ("http://p.example/privates", None),
        ("http://q.example/ab", "first.txt:prefix"),  # anywhere, and by one of several sizes
        ("http://q.example/a", None),
        ("", None),
    ],
)
def test_urls(lists: Blocklists, url: str, detail: str | None) -> None:
    urls = pa.array(["http://good.example/", url])
    details = lists.match_pairs(urls, pa.array(["", "a text"]), np.zeros(2, np.uint64))
    assert details.to_pylist() == [None, detail]


def test_texts_and_keys(lists: Blocklists) -> None:
    urls = pa.array(["http://good.example/"] * 4)
    texts = pa.array(["some Two, words here", "two other words", "x", "x"])
    keys = np.array([1, 2, 255, 256], np.uint64)
    expected = ["first.txt:text", None, "first.txt:key", None]
    assert lists.match_pairs(urls, texts, keys).to_pylist() == expected
    words = np.array([4, 3, 1, 1], np.int32)
    assert lists.match_pairs(urls, texts, keys, words).to_pylist() == expected
    words[0] = 0  # of a malformed pair, whose text is not looked at
    assert lists.match_pairs(urls, texts, keys, words).to_pylist() == [None, *expected[1:]]
    assert lists.match_pairs(urls.slice(4), texts.slice(4), keys[4:]).to_pylist() == []


def test_files(lists: Blocklists) -> None:
    def asked(body: bytes) -> str | None:
        return lists.match_file(hashlib.sha256(body).digest(), body)

    assert [asked(body) for body in (b"m", b"s", b"x", b"y")] == [
        *("second.txt:md5", "second.txt:sha1", "second.txt:sha256"),
        None,
    ]
    assert lists.match_file(hashlib.sha256(b"m").digest()) is None  # whose bytes are not there
    assert lists.match_file(bytes(32)) == "second.txt:sha256"
    assert lists.match_file(bytes(31) + b"\1") is None
    # A list with the digest of nothing but zeros does not take what has no digest.
    assert lists.match_file(None, b"y") is None
    assert lists.match_file(b"", b"y") is None


def word_of(phash: int) -> np.ndarray:
    return np.array([phash], np.uint64)


def test_pictures(lists: Blocklists) -> None:
    near, far = word_of(0xFFFF0000FFFF001F), word_of(0xFFFF0000FFFF003F)
    assert lists.find_nearest("phash", near) == "second.txt:phash"
    again = replace(lists.lists[1], name="another.txt")
    assert Blocklists((*lists.lists, again)).find_nearest("phash", near) == "second.txt:phash"
    assert lists.find_nearest("phash", far) is None
    pdq = np.array([0xF0F0F0F0F0F0F0F0] * 4, np.uint64)
    assert lists.find_nearest("pdq", pdq ^ np.uint64(0x7F)) == "second.txt:pdq"
    assert lists.find_nearest("pdq", pdq ^ np.uint64(0xFF)) is None


def test_the_nearest_of_more_hashes_than_are_compared_at_once() -> None:
    members = np.random.default_rng(7).integers(0, 2**63, (4, 70_000)).astype(np.uint64)
    for words in (members[:, 69_999] ^ np.uint64(5), ~members[:, 3]):
        bits = np.bitwise_count(members ^ words[:, None]).sum(axis=0)
        assert least_distance(members, words) == bits.min()


def test_nothing_is_near_at_the_distance_zero(lists: Blocklists) -> None:
    none = Blocklists(lists.lists, min_phash_distance=0)
    assert none.find_nearest("phash", word_of(0xFFFF0000FFFF0000)) is None


def test_they_cross_to_workers_and_none_blocks_nothing(lists: Blocklists) -> None:
    assert pickle.loads(pickle.dumps(lists)) == lists
    urls = pa.array(["http://bad.example/"])
    assert NO_LISTS.match_pairs(urls, urls, np.zeros(1, np.uint64)).to_pylist() == [None]
    assert NO_LISTS.match_file(bytes(32), b"") is None
    assert NO_LISTS.find_nearest("phash", word_of(1)) is None


def test_arrays_are_where_all_workers_see_them(lists: Blocklists) -> None:
    assert {Path(compiled.stem).parent.name for compiled in lists.lists} == {"work"}
