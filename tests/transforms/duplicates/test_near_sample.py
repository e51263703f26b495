"""How many contents share a perceptual hash, by a scalar version; and which pairs are named."""

import random
from collections import defaultdict

import pyarrow as pa

from alignset.transforms.duplicates.near_sample import hashes_of, sample_near
from alignset.transforms.shards.shard_stats import MOST_PAIRS, add_copies


def sidecar(rows: list[tuple[int, int, int]]) -> pa.Table:
    """Of keys, contents and perceptual hashes."""
    columns = {
        "key": [f"{key:016x}" for key, _, _ in rows],
        "sha256": [f"{content:064x}"[::-1] for _, content, _ in rows],
        "phash": [f"{phash:016x}" for _, _, phash in rows],
    }
    return pa.table({name: pa.array(column, pa.string()) for name, column in columns.items()})


def test_contents_with_one_hash_are_counted_once_each_however_the_work_is_cut():
    rng = random.Random(3)
    content_phash = {content: rng.randrange(200) for content in range(1, 301)}
    rows = [
        (key, content, content_phash[content])
        for key, content in enumerate((rng.randrange(1, 301) for _ in range(900)), 1)
    ]
    by_hash = defaultdict(set)
    for _, content, phash in rows:
        by_hash[phash].add(content)
    shared = [contents for contents in by_hash.values() if len(contents) > 1]
    for shards in (1, 3):
        parts = [hashes_of(n, sidecar(rows[n::shards])) for n in range(shards)]
        found = sample_near(pa.Table.from_batches(parts[::-1]))
        assert found.near == sum(map(len, shared))
        assert len(found.near_pairs) == MOST_PAIRS < len(shared)
        contents = {f"{key:016x}": content for key, content, _ in rows}
        for pair in found.near_pairs:
            ours, theirs = (contents[key] for _, key in (pair.first, pair.second))
            assert ours != theirs
            assert content_phash[ours] == content_phash[theirs]
    one = sample_near(pa.Table.from_batches([hashes_of(0, sidecar(rows))]))
    assert add_copies([one]).near_pairs == sorted(one.near_pairs)


def test_nothing_is_near_where_there_is_nothing():
    empty = sidecar([]).slice(0, 0)
    assert sample_near(pa.Table.from_batches([hashes_of(0, empty)])).near == 0
    nulls = pa.table({name: pa.nulls(2, pa.string()) for name in ("key", "sha256", "phash")})
    assert len(hashes_of(0, nulls)) == 0
