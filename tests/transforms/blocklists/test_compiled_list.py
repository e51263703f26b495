"""A list as arrays."""

import gzip
import hashlib
import random
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from alignset.demo import text_rules
from alignset.transforms.blocklists.compiled_list import (
    Entries,
    compile_list,
    digests,
    format_of_list,
    hashed,
    host_value,
    phrases,
    read_entries,
    url_value,
)
from alignset.transforms.blocklists.kinds import ListError
from alignset.transforms.blocklists.targets import has_any_phrase, phrase_hashes, target_of, targets
from alignset.transforms.columns.hashing import HashSet
from alignset.transforms.pairs.texts import measure_texts
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


# Files of entries: text, CSV, TSV and Parquet, as they come from others.


def entries(path: Path) -> dict[str, list[tuple[str, int]]]:
    made = defaultdict(list)
    for part in read_entries(str(path), str(path)):
        made[part.kind] += zip(part.values.to_pylist(), part.places.to_pylist(), strict=True)
    return dict(made)


TEXT = """\ufeff# whom to keep out\r
host:a.example\r
\r
  URL: http://b.example/x\t
sha256:ab
host:c"""
EXPECTED = {
    "host": [("a.example", 2), ("c", 6)],
    "url": [("http://b.example/x", 4)],
    "sha256": [("ab", 5)],
}


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_lines_with_their_kind(tmp_path: Path, ending: str) -> None:
    body, path = TEXT.encode(), tmp_path / f"list.txt{ending}"
    packed = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}
    path.write_bytes(packed.get(ending, bytes)(body))
    assert entries(path) == EXPECTED


@pytest.mark.parametrize(("ending", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_columns_by_their_names(tmp_path: Path, ending: str, delimiter: str) -> None:
    rows = [["added", " Host", "url "], ["2024", "a.example", ""], ["x", "", '"http://b/,\tx"']]
    path = tmp_path / f"list{ending}"
    path.write_text("\n".join(delimiter.join(row) for row in rows) + "\n")
    assert entries(path) == {"host": [("a.example", 1)], "url": [("http://b/,\tx", 2)]}


def test_parquet_of_strings_bytes_numbers_and_nulls(tmp_path: Path) -> None:
    columns = {
        "md5": pa.array([b"\x01" * 16, None], pa.binary()),
        "sha1": pa.array([None, b"\x02" * 20], pa.binary(20)),
        "sha256": pa.array([None, b"\x03" * 32], pa.large_binary()),
        "phash": pa.array([1, None], pa.uint64()),
        "host": pa.array(["a.example", "a.example"]).dictionary_encode(),
        "notes": [{"x": 1}, None],
    }
    pq.write_table(pa.table(columns), tmp_path / "list.parquet")
    assert entries(tmp_path / "list.parquet") == {
        "md5": [("01" * 16, 1)],
        "sha1": [("02" * 20, 2)],
        "sha256": [("03" * 32, 2)],
        "phash": [(f"{1:016x}", 1)],
        "host": [("a.example", 1), ("a.example", 2)],
    }


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"host:a\nexample.com\n" + b"x\n" * 999_999, "line 2: 'example.com' does not begin with"),
        (b"host:a\nhost:\n", "line 2: '' has nothing behind host:"),
        (b"host:\xff\xfe\n", "line 1: 'host:\ufffd\ufffd' is not UTF-8"),
        (b"host:" + b"a" * 70_000, "begins a line of more than 65,536 bytes"),
        (b"host:a\nurl:b/" + b"a" * 70_000, "line 2: 'url:b/"),
        (bytes(200_000), "begins a line of more than"),
        (b"url:b/" + b"a" * 70_000 + b"\nhost:c\n", "is longer than 65,536 bytes"),
    ],
)
def test_lines_that_are_no_entries(tmp_path: Path, body: bytes, said: str) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(body)
    with pytest.raises(ListError) as error:
        entries(path)
    assert said in str(error.value)
    assert len(str(error.value)) < 500
    if body.count(b"\n") > 9:
        assert "more are wrong, too)" in str(error.value)


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("a.csv", b"site,why\na,b\n", "has no column that is named host, domain"),
        ("a.csv", b"", "has no column"),
        ("a.csv", b"host,x\na\n", "cannot be read as csv"),
        ("a.parquet", b"host:a\n", "cannot be read as parquet"),
        ("a.csv", b"a" * 70_000, "no column .*; got 'a{80}'$"),
        ("a.txt.gz", b"\x1f\x8b\x08nothing", "cannot be read as text"),
    ],
)
def test_files_that_are_no_lists(tmp_path: Path, name: str, body: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(body)
    with pytest.raises(ListError, match=said):
        entries(tmp_path / name)


@pytest.mark.parametrize("kind", ["host", "text", "sha256"])
def test_parquet_of_strings_that_are_no_utf8(tmp_path: Path, kind: str) -> None:
    strings = pa.array([b"a.example", b"a\xffb"]).view(pa.string())
    pq.write_table(pa.table({kind: strings}), tmp_path / "list.parquet")
    with pytest.raises(ListError, match="cannot be read as parquet: Invalid UTF8 sequence"):
        entries(tmp_path / "list.parquet")


def test_formats_by_names() -> None:
    names = {
        "a": "text",
        "A.CSV.gz": "csv",
        "b.tsv": "tsv",
        "c.parquet": "parquet",
        "d.lst": "text",
    }
    assert {name: format_of_list(f"s3://b/{name}") for name in names} == names


# What URLs ask for, in one form whatever way they are written.


def one_by_one(urls: list[str]) -> list[tuple[str, str]]:
    """Host and rest of each, as `targets` has them."""
    made = targets(pa.array(urls, pa.string()))
    data = made.data.tobytes()
    spans = zip(made.starts, made.host_ends, made.stops, strict=True)
    return [(data[a:b].decode(), data[b:c].decode()) for a, b, c in spans]


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://a.example/b.jpg", ("a.example", "/b.jpg")),
        ("HTTP://A.Example:80/B.jpg#part", ("a.example", "/B.jpg")),
        ("http://a.example:443/", ("a.example", ":443/")),
        ("https://a.example:00080/", ("a.example", ":80/")),
        ("http://me:secret@a.example./b", ("a.example", "/b")),
        ("http://a.example?q", ("a.example", "/?q")),
        ("http://a%2eexample/x/../%62/./c", ("a.example", "/b/c")),
        ("http://a.example/%7euser%2fx%C3%a9", ("a.example", "/~user%2Fx%C3%A9")),
        ("http://a.example/a b'é", ("a.example", "/a%20b'%C3%A9")),
        ("http://ａ.EXAMPLE\\b", ("a.example", "/b")),
        ("http://bücher.example/", ("xn--bcher-kva.example", "/")),
        ("http://0x1.02.3.4:80/", ("1.2.3.4", "/")),
        ("http://[::0:1]:8080/", ("[::1]", ":8080/")),
        ("http://[::0:1]:0/", ("[::1]", "/")),  # which cannot be asked for, and yet is a pair's URL
        ("http://[.]/x", None),
        ("http:/A.example/x", ("a.example", "/x")),
        ("ftp://a.example/", None),
        ("http:///x", ("x", "/")),  # as browsers have it
        ("http://", None),
        ("http://a.example:99999/", None),
    ],
)
def test_target_of_a_url(url: str, target: tuple[str, str] | None) -> None:
    assert target_of(url) == target
    assert one_by_one(["http://x.example/", url, "http://y.example/"])[1] == (target or ("", ""))


def test_a_target_of_what_is_no_text() -> None:
    assert target_of("http://a.example/\ud800") == ("a.example", "/?")


def test_hosts_that_no_resolver_takes_have_no_end() -> None:
    long = "a" * 300 + ".example"
    for url in (f"http://{long}/x", "http://" + "a" * 1_000_000, "http://" + "1." * 500_000 + "/"):
        target_of(url)
        one_by_one([url])


def test_no_urls_and_a_slice() -> None:
    assert one_by_one([]) == []
    column = pa.array(["http://a/", "http://b:8/", "http://c/"]).slice(1)
    made = targets(column)
    assert made.data[made.starts[1] : made.stops[1]].tobytes() == b"c/"


# Words and phrases of a list in alt-texts, against a scan of the words.


def marked(texts: list[str], phrases: list[str]) -> list[bool]:
    hashes, words = phrase_hashes(pa.array(phrases, pa.string()))
    measured = measure_texts(pa.array(texts, pa.string()), np.ones(len(texts), np.bool_))
    return has_any_phrase(measured, HashSet(np.unique(hashes)), int(words.max())).tolist()


def words_of(text: str) -> list[str]:
    return text_rules.words(text_rules.text_identity(text_rules.kept_text(text)))


def test_phrases_are_found_wherever_they_stand() -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    draw = random.Random(seed)
    words = ["a", "b", "c", "Ö", "d,", "STRASSE", "straße", "&quot;B"]
    lines = [" ".join(draw.choices(words, k=draw.randrange(1, 9))) for _ in range(600)]
    phrases = [" ".join(draw.choices(words, k=draw.randrange(2, 5))) for _ in range(25)]
    sought = [words_of(phrase) for phrase in phrases]
    expected = []
    for line in lines:
        of_line = words_of(line)
        expected.append(
            any(
                of_line[at : at + len(phrase)] == phrase
                for phrase in sought
                for at in range(len(of_line))
            )
        )
    assert marked(lines, phrases) == expected
    assert any(expected)
    assert not all(expected)
