"""The lines of a takedown's list, and what they block."""

import hashlib
from pathlib import Path
from random import Random

import pytest

from alignset.train.errors import SettingsError
from alignset.train.search.blocklist import (
    parse_blocklist,
    read_blocklist,
    store_blocklist,
    stored_blocklist,
)

SHA256 = hashlib.sha256(b"a").hexdigest()
MD5 = hashlib.md5(b"a").hexdigest()
SHA1 = hashlib.sha1(b"a").hexdigest()
URL = "https://img.a.example/x/1.jpg"


def row(**fields: object) -> dict[str, object]:
    digests = {kind: hashlib.new(kind, b"a").digest() for kind in ("md5", "sha1", "sha256")}
    return {"key": "k1", "url": URL, "host": "img.a.example", **digests} | fields


@pytest.mark.parametrize(
    ("line", "blocked"),
    [
        ("key:k1", True),
        ("key:K1", False),
        (f"url:{URL}", True),
        (URL, True),
        ("url:https://img.a.example/x/", False),
        ("prefix:https://img.a.example/x/", True),
        ("prefix:https://img.a.example/y", False),
        ("host:IMG.a.example", True),
        ("img.a.example", True),
        ("img.a.example:8080", True),
        ("host:a.example", False),
        ("domain:a.example", True),
        ("domain:img.a.example", True),
        ("domain:ample", False),
        (f"sha256:{SHA256.upper()}", True),
        (f"sha256:{'0' * 64}", False),
        (f"md5:{MD5}", True),
        (f"sha1: {SHA1}", True),
        ("phash:0123", False),
    ],
)
def test_each_kind_blocks_what_it_says(line: str, blocked: bool) -> None:
    blocklist = parse_blocklist([f"  {line}\n", "\n", "# a note\n"], "list")
    assert sorted(blocklist.lines_of(row())) == (blocklist.lines() if blocked else [])


@pytest.mark.parametrize(
    "line", ["sha256:12", "md5:xyz", "key:", "colour:red", "host:", "domain:a b", "a b", "host:a/b"]
)
def test_a_line_that_is_none_is_told_with_its_number(line: str) -> None:
    with pytest.raises(SettingsError, match="list, line 2: "):
        parse_blocklist(["key:k", line], "list")


def test_a_list_is_kept_with_the_index(tmp_path: Path) -> None:
    assert len(stored_blocklist(tmp_path)) == 0
    first, second = (parse_blocklist([line], "list") for line in ("key:k", "host:a.example"))
    store_blocklist(tmp_path, first.joined(second))
    assert stored_blocklist(tmp_path).lines() == ["host:a.example", "key:k"]


def test_prefixes_are_looked_up_as_startswith_has_them() -> None:
    seed = 3
    print("seed", seed)
    random = Random(seed)
    for _ in range(200):
        prefixes = ["".join(random.choices("ab/", k=random.randint(1, 4))) for _ in range(5)]
        blocklist = parse_blocklist([f"prefix: {prefix}" for prefix in prefixes], "list")
        for _ in range(20):
            url = "".join(random.choices("ab/", k=random.randint(0, 6)))
            blocked = bool(blocklist.lines_of(row(url=url)))
            assert blocked is url.startswith(tuple(prefixes)), (prefixes, url)


def test_a_mark_of_the_byte_order_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("key:k1\n", encoding="utf-8-sig")
    assert read_blocklist(tmp_path / "list").lines() == ["key:k1"]


def test_a_list_that_says_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("# nothing\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name, text in (("empty", "has no line"), ("binary", "cannot be read")):
        with pytest.raises(SettingsError, match=text):
            read_blocklist(tmp_path / name)
