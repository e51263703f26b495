"""What --shards can name, and how sets are weighed."""

import re
import sys
from pathlib import Path

import pytest

from alignset.train.data.find_shards import ShardSet, find_sets, find_shards
from alignset.train.errors import SettingsError
from tests.support.train_shards import colour_shards


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return colour_shards(tmp_path_factory.mktemp("a"), shards=3, each=1)


def test_folders_files_globs_and_numbers(folder: Path):
    expected = [f"{folder}/0000{i}.tar" for i in range(3)]
    assert find_shards(str(folder)) == expected
    assert find_shards(f"{folder}/*1.tar, {expected[0]}") == [expected[1], expected[0]]
    assert find_shards(f"{folder}/{{00000..00002}}.tar") == expected
    assert find_shards(f"{folder}/{{00002,00000}}.tar,{expected[1]}") == [
        *(expected[2], expected[0]),
        expected[1],
    ]


def test_urls_and_commands():
    assert find_shards("https://a.example/{08..10}.tar?k=1") == [
        f"https://a.example/{n}.tar?k=1" for n in ("08", "09", "10")
    ]
    command = "pipe:get --range=1,2 x{0..1}.tar | tr a, b"
    assert find_shards(f"https://a.example/0.tar,{command}") == [
        "https://a.example/0.tar",
        *(command.replace("{0..1}", n) for n in "01"),
    ]


def test_nothing_there_is_one_line(folder: Path, tmp_path: Path, monkeypatch):
    none = f"{folder}/{{00000..00003}}.tar"
    for nothing in ("", ",", str(tmp_path), f"{tmp_path}/none", f"{folder},{tmp_path}", none):
        with pytest.raises(SettingsError, match="no shards"):
            find_shards(nothing)
    with pytest.raises(SettingsError, match=r"00003\.tar"):
        find_shards(none)
    with pytest.raises(SettingsError, match="braces do not match"):
        find_shards(f"{folder}/{{0.tar")
    for url in ("https://a.example/*.tar", "http://a.example/shards/", "https://a.example"):
        with pytest.raises(SettingsError, match=r"lists nothing: .* as \{00000\.\.00099\}\.tar"):
            find_shards(url)
    with pytest.raises(SettingsError, match="hdfs:// cannot be read here; name a path of this"):
        find_shards("hdfs://there/0.tar")
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(SettingsError, match=r"s3:// needs boto3: pip install 'alignset\[aws\]'"):
        find_shards("s3://there/0.tar")


def test_sets_and_their_weights(folder: Path):
    zero, one, two = (f"{folder}/0000{i}.tar" for i in range(3))
    assert find_sets(f"{zero},{one}") == [ShardSet((zero, one))]
    assert find_sets(f"{zero}::2,{folder}/*[12].tar::0.5") == [
        ShardSet((zero,), 2.0),
        ShardSet((one, two), 0.5),
    ]
    assert find_sets("pipe:cat a.tar::3") == [ShardSet(("pipe:cat a.tar",), 3.0)]
    for wrong, says in (
        (f"{zero}::2,{one}", "every part of --shards a weight (A::2,B::1) or none"),
        (f"{zero}::0", "a number larger than 0"),
        (f"{zero}::many", "a number larger than 0"),
        (f"{zero}::nan", "a number larger than 0"),
        (f"{zero}::inf", "a number larger than 0"),
        (f"{zero}::", "a number larger than 0"),
        (f"{folder},{two}", "00002.tar is named twice"),
        (f"{folder}::1,{two}::2", "00002.tar is named twice"),
    ):
        with pytest.raises(SettingsError, match=re.escape(says)):
            find_sets(wrong)
