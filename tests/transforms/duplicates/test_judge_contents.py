"""Which pairs leave since their image is in the dataset twice, against a scalar version."""

import hashlib
import random
from collections import defaultdict
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from alignset.transforms.duplicates.contents import (
    OF_TRAINING,
    CopyRules,
    contents_of,
    digests_of,
    near_contents,
)
from alignset.transforms.duplicates.judge_contents import judge_contents, leaving_pairs
from alignset.transforms.shards.shard_places import HOLDOUT


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


Fates = dict[int, tuple[str, str | None]]  # by key: reason and detail


def found(rows: list[Row], rules: CopyRules) -> Fates:
    shards = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.key):
        shards[row.shard].append(row)
    parts = [contents_of(n, sidecar(of), rules.texts_of_shard) for n, of in shards.items()]
    random.Random(1).shuffle(parts)
    verdicts = judge_contents(pa.Table.from_batches(parts), rules)
    fates: Fates = {}
    for number, of in shards.items():
        mine = verdicts.filter(pa.compute.equal(verdicts["shard"], number))
        for row in leaving_pairs(sidecar(of), mine).to_pylist():
            fates[row["key"]] = row["reason"], row["detail"]
    return fates


def by_hand(rows: list[Row], rules: CopyRules) -> Fates:
    fates: Fates = {}
    for content in {row.content for row in rows}:
        of = sorted((row for row in rows if row.content == content), key=lambda row: row.key)
        if len({row.caption.casefold() for row in of}) > rules.max_texts:
            fates |= {row.key: ("image_with_too_many_texts", None) for row in of}
            continue
        sides = {held: [r for r in of if (r.shard >= HOLDOUT) == held] for held in (False, True)}
        if sides[True] and sides[False] and rules.clean_holdout:
            kept = f"{sides[False][0].key:016x}"
            fates |= {row.key: ("duplicate_of_training", kept) for row in sides.pop(True)}
        for first, *others in filter(None, sides.values()):
            for row in others if rules.once else ():
                if row.url != first.url:
                    fates[row.key] = "duplicate_image", f"{first.key:016x}"
    return fates


@pytest.mark.parametrize("max_texts", [2, 3, 1000])
@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize("clean", [False, True])
def test_what_leaves_is_what_a_scalar_version_says(max_texts: int, once: bool, clean: bool):
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
    fates = found(rows, rules)
    assert fates == by_hand(rows, rules)
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
        verdicts = judge_contents(pa.Table.from_batches([rows]), CopyRules(1000))
        assert len(verdicts) == 1
        assert len(leaving_pairs(sidecar(other), verdicts)) == count
        rows = contents_of(3, sidecar(same), 1000)
        verdicts = judge_contents(pa.Table.from_batches([rows]), CopyRules(1000, once=True))
        assert len(verdicts) == 1
        left = leaving_pairs(sidecar(same), verdicts)
        assert left["reason"].to_pylist() == ["duplicate_image"] * (count - 1)


def test_of_more_alt_texts_than_may_be_a_content_without_limit_is_named_once():
    rows = [Row(0, n + 1, f"http://host.example/{n}", f"text {n}", "gone") for n in range(50)]
    for once in (False, True):
        opened = CopyRules(1_000_000_000, once=once)
        assert len(contents_of(0, sidecar(rows), opened.texts_of_shard)) == 2
        assert len(found(rows, opened)) == 49 * once


def test_what_is_held_out_leaves_for_a_near_duplicate_where_no_equal_one_is_in_training():
    held = [Row(HOLDOUT, n, f"http://host.example/{n}", "text", f"content {n}") for n in (7, 8, 9)]
    other = Row(0, (1 << 63) + 1, "http://host.example/0", "text", "content 8")
    parts = [contents_of(HOLDOUT, sidecar(held), 9), contents_of(0, sidecar([other]), 9)]
    near = [[2**63 + 5, 2**63 + 3, 4], [7, 7, 8]]  # training keys, and of which content
    hi, lo = digests_of(sidecar([held[n - 7] for n in near[1]])["sha256"])
    parts.append(near_contents(hi, lo, np.array(near[0], np.uint64), OF_TRAINING))
    for clean in (True, False):
        rules = CopyRules(9, clean_holdout=clean)
        verdicts = judge_contents(pa.Table.from_batches(parts), rules)
        verdicts = verdicts.filter(pa.compute.equal(verdicts["shard"], HOLDOUT))
        left = leaving_pairs(sidecar(held), verdicts).to_pylist()
        kept = {row["key"]: int(row["detail"], 16) for row in left}
        assert kept == ({7: 2**63 + 3, 8: 2**63 + 1} if clean else {})  # to the last bit
