"""Which pairs leave or move since their image is in the dataset twice, against a scalar version."""

import hashlib
import random
from collections import defaultdict
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from alignset.transforms.duplicates.contents import (
    NOWHERE,
    CopyRules,
    contents_of,
    digests_of,
    near_contents,
)
from alignset.transforms.duplicates.judge_contents import (
    REASONS,
    count_shared,
    judge_contents,
    leaving_pairs,
)
from alignset.transforms.shards.shard_places import HOLDOUT
from alignset.transforms.shards.shard_stats import SharedContents


class Row(NamedTuple):
    """A kept pair of a shard; `content` names the bytes of its image."""

    shard: int
    key: int
    url: str
    caption: str
    content: str


def sidecar(rows: list[Row]) -> pa.Table:
    digests = [hashlib.sha256(row.content.encode()).hexdigest() for row in rows]
    columns = {
        "key": [f"{row.key:016x}" for row in rows],
        "url": [row.url for row in rows],
        "caption": [row.caption for row in rows],
        "sha256": digests,
    }
    return pa.table({name: pa.array(column, pa.string()) for name, column in columns.items()})


Fates = dict[int, tuple[str | None, int, int]]  # by key: reason, kept key, target


def found(rows: list[Row], rules: CopyRules) -> tuple[Fates, SharedContents]:
    shards = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.key):
        shards[row.shard].append(row)
    parts = [contents_of(n, sidecar(of), rules.texts_of_shard) for n, of in shards.items()]
    random.Random(1).shuffle(parts)
    judged = judge_contents(pa.Table.from_batches(parts), rules)
    fates: Fates = {}
    for number, of in shards.items():
        mine = judged.verdicts.filter(pa.compute.equal(judged.verdicts["shard"], number))
        for row in leaving_pairs(sidecar(of), mine).to_pylist():
            fates[row["key"]] = REASONS[row["reason"]], row["kept"], row["target"]
    return fates, judged.shared


def by_hand(rows: list[Row], rules: CopyRules) -> tuple[Fates, SharedContents]:
    fates: Fates = {}
    images = contents = 0
    for content in {row.content for row in rows}:
        of = sorted((row for row in rows if row.content == content), key=lambda row: row.key)
        if len({row.caption.casefold() for row in of}) > rules.max_texts:
            fates |= {row.key: ("image_with_too_many_texts", 0, NOWHERE) for row in of}
            continue
        sides = {held: [r for r in of if (r.shard >= HOLDOUT) == held] for held in (False, True)}
        if sides[True] and sides[False] and rules.clean_holdout:
            kept = sides[False][0].key
            fates |= {r.key: ("duplicate_of_training", kept, NOWHERE) for r in sides[True]}
            sides[True] = []
        left = 0
        for side in filter(None, sides.values()):
            first = side[0]
            stay: dict[str, Row] = {}
            for row in sorted(side, key=lambda row: (row.url != first.url, row.key)):
                stay.setdefault(row.caption.casefold(), row)
            is_double = len(side) > sum(row.url == first.url for row in stay.values())
            left += 1 if rules.once and is_double else len({row.url for row in side})
            for row in side if rules.once and is_double else ():
                if stay[row.caption.casefold()] is not row:
                    fates[row.key] = "duplicate_image", first.key, NOWHERE
                elif row.url != first.url:
                    fates[row.key] = None, first.key, first.shard
        if left > 1:
            images, contents = images + left, contents + 1
    return fates, SharedContents(images, contents)


@pytest.mark.parametrize("max_texts", [2, 3, 1000])
@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize("clean", [False, True])
def test_what_leaves_and_moves_is_what_a_scalar_version_says(
    max_texts: int, once: bool, clean: bool
):
    rng = random.Random(7)
    keys = iter(rng.sample(range(1, 1 << 62), 600))
    rows, seen = [], set()
    for _ in range(600):
        image, text = rng.randrange(120), f"Text {rng.randrange(6)}"
        if (image, text) not in seen:
            seen.add((image, text))
            # An image's shard and side follow from its URL; most contents have one image.
            shard = image % 5 + HOLDOUT * (image % 9 == 0)
            text = text.upper() if rng.random() < 0.2 else text
            url, content = f"http://host.example/{image}", f"content {image % 70}"
            rows.append(Row(shard, next(keys), url, text, content))
    rules = CopyRules(max_texts, once, clean)
    fates, shared = found(rows, rules)
    assert (fates, shared) == by_hand(rows, rules)
    assert bool(fates) == (once or clean or max_texts < 6)


def test_a_placeholder_is_a_few_rows_of_each_shard_however_many_urls_it_has():
    for count in (50_000, 100_000):
        urls = [f"http://host.example/{n}" for n in range(count)]
        same = [Row(3, n + 1, url, f"text {n % 900}", "gone") for n, url in enumerate(urls)]
        rows = contents_of(3, sidecar(same), 1000)
        assert len(rows) == 900
        assert rows.slice(0, 1).to_pylist()[0]["images"] == count
        other = [row._replace(caption=f"text {row.key}") for row in same]
        rows = contents_of(3, sidecar(other), 1000)
        assert len(rows) == 1001
        verdicts = judge_contents(pa.Table.from_batches([rows]), CopyRules(1000)).verdicts
        assert len(verdicts) == 1
        assert len(leaving_pairs(sidecar(other), verdicts)) == count
        rows = contents_of(3, sidecar(same), 1000)
        judged = judge_contents(pa.Table.from_batches([rows]), CopyRules(1000, once=True))
        assert len(judged.verdicts) == 901
        left = leaving_pairs(sidecar(same), judged.verdicts)
        reasons = [REASONS[code] for code in left["reason"].to_pylist()]
        assert (reasons.count("duplicate_image"), reasons.count(None)) == (count - 900, 899)


def test_of_more_alt_texts_than_may_be_a_content_without_limit_is_named_once():
    rows = [Row(0, n + 1, f"http://host.example/{n}", f"text {n}", "gone") for n in range(50)]
    opened = CopyRules(1_000_000_000)
    assert len(contents_of(0, sidecar(rows), opened.texts_of_shard)) == 2
    assert found(rows, opened) == ({}, SharedContents(50, 1))


def test_an_image_without_a_hash_has_no_copy():
    rows = [Row(0, n + 1, f"http://host.example/{n}", "text", "gone") for n in range(3)]
    table = sidecar(rows).set_column(3, "sha256", pa.array([None, None, "0" * 64]))
    assert len(contents_of(0, table, 1000)) == 1
    assert len(contents_of(0, table.slice(0, 0), 1000)) == 0


def test_what_is_held_out_leaves_for_a_near_duplicate_where_no_equal_one_is_in_training():
    held = [Row(HOLDOUT, n, f"http://host.example/{n}", "text", f"content {n}") for n in (7, 8, 9)]
    other = Row(0, (1 << 63) + 1, "http://host.example/0", "text", "content 8")
    parts = [contents_of(HOLDOUT, sidecar(held), 9), contents_of(0, sidecar([other]), 9)]
    near = [[2**63 + 5, 2**63 + 3, 4], [7, 7, 8]]  # training keys, and of which content
    hi, lo = digests_of(sidecar([held[n - 7] for n in near[1]])["sha256"])
    parts.append(near_contents(hi, lo, np.array(near[0], np.uint64)))
    for clean in (True, False):
        rules = CopyRules(9, clean_holdout=clean)
        judged = judge_contents(pa.Table.from_batches(parts), rules)
        left = leaving_pairs(sidecar(held), judged.verdicts).to_pylist()
        kept = {row["key"]: row["kept"] for row in left}
        assert kept == ({7: 2**63 + 3, 8: 2**63 + 1} if clean else {})  # to the last bit


def test_counting_those_that_share_a_content():
    contents = np.array([5, 5, 5, 6, 7, 7], np.uint64)
    urls = np.array([1, 2, 2, 3, 4, 4], np.uint64)
    assert count_shared(contents, urls) == SharedContents(2, 1)
    assert count_shared(contents[:0], urls[:0]) == SharedContents()
