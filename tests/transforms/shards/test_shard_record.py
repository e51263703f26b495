"""What a shard records of its texts and hosts."""

import pyarrow as pa

from alignset.transforms.columns.records import host_of
from alignset.transforms.shards.shard_record import word_counts


def test_hosts():
    hosts = {
        "https://User:pw@A.Example:8080/x?y=http://b/": "a.example:8080",
        "http://a.example?x": "a.example",
        "http://a.example#x/y": "a.example",
        "no url": "",
    }
    assert {url: host_of(url) for url in hosts} == hosts
    assert len(host_of(f"http://{'a' * 9000}/")) == 120


def test_words():
    texts = pa.array(["a dog", "", "one, two – three", "x" * 9000], pa.string())
    assert word_counts(texts).tolist() == [2, 0, 3, 1]
