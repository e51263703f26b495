"""Near-duplicates among images: cells, clusters and rounds, against plain versions."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest

from alignset.transforms.duplicates import find_near
from alignset.transforms.duplicates.find_near import (
    EDGE,
    LEAVES,
    NODE,
    STAYS,
    assign,
    cluster,
    compare,
    find_centres,
    leaving,
    nearest_cells,
    settle,
    sort_by_rank,
    staying,
)


def nodes(count: int, seed: int = 0) -> np.ndarray:
    """Pictures that are all different, and no graphics."""
    rng = np.random.default_rng(seed)
    made = np.zeros(count, NODE)
    for name in ("key", "hi", "lo", "text"):
        made[name] = rng.integers(1, 1 << 63, count)
    made["rank"], made["home"] = rng.permutation(count), True
    made["look"]["descriptor"] = rng.integers(-127, 128, (count, 64))
    made["look"]["trimmed_phash"] = rng.integers(0, 1 << 63, count)
    return made


def copies(of: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Other images that look like one."""
    made = nodes(count, seed)
    made["look"] = of["look"]
    return made


def test_each_condition_of_a_near_duplicate_counts():
    (picture,) = nodes(1)
    others = copies(picture, 9)
    look = others["look"]
    look["descriptor"][1, :24] = 0
    look["trimmed_phash"][2] ^= 0b111111
    look["trimmed_phash"][3] ^= 0b1111111
    look["chroma"][4] = 8
    look["chroma"][5, :] = 8
    look["chroma"][5, 0] = 9
    look["one_tone"][6] = 0.29
    look["one_tone"][7:] = 0.3
    others["text"][8] = picture["text"]
    found = compare(picture.reshape(1), others)
    assert dict(zip(found.columns.tolist(), found.leaves.tolist(), strict=True)) == {
        **dict.fromkeys((0, 2, 4, 6, 8), True),
        7: False,
    }
    flat = copies(picture, 2)
    flat["look"]["descriptor"] = 0
    assert not len(compare(flat[:1], flat[1:]).rows)
    flat["look"]["one_tone"], flat["text"] = 1, 0  # 0 is not a text that could be equal
    assert not len(compare(flat[:1], flat[1:]).rows)


def test_representatives_are_those_that_are_near_no_better_one(monkeypatch):
    monkeypatch.setattr(find_near, "AT_ONCE", 16)
    groups = [copies(one, 1 + n % 7, n) for n, one in enumerate(nodes(40, 99))]
    cell = np.concatenate(groups)
    cell["rank"] = np.random.default_rng(5).permutation(len(cell))
    cell["look"]["one_tone"][: len(groups[0]) + len(groups[1])] = 0.5
    graphics = len(groups[0]) + len(groups[1])
    cell = sort_by_rank(cell)
    clusters = cluster(cell)
    by_hand = {}
    for node in cell:
        group = node["look"]["descriptor"].tobytes()
        if node["look"]["one_tone"] == 0:
            by_hand.setdefault(group, node["key"])
    is_plain = clusters.representatives["look"]["one_tone"] == 0
    assert set(clusters.representatives["key"][is_plain].tolist()) == set(by_hand.values())
    assert (~is_plain).sum() == graphics
    assert clusters.graphics == len(groups[1]) - 1 + len(groups[0]) - 1
    of_item = dict(zip(cell["key"].tolist(), cell["look"]["descriptor"], strict=True))
    assert set(clusters.edges["item"].tolist()) == set(cell["key"].tolist()) - set(
        clusters.representatives["key"].tolist()
    )
    for edge in clusters.edges:
        assert by_hand[of_item[int(edge["item"])].tobytes()] == edge["representative"]
    assert clusters.distances.sum() == len(cell)
    assert clusters.distances[0] == sum(len(group) for group in groups if len(group) > 1)
    # What cannot lead since the cell is too full is compared with those that do.
    best, rest = cell[: len(cell) // 2], cell[len(cell) // 2 :]
    some = cluster(best)
    of_best = {
        n["look"]["descriptor"].tobytes() for n in some.representatives if not n["look"]["one_tone"]
    }
    wanted = {int(n["key"]) for n in rest if n["look"]["descriptor"].tobytes() in of_best}
    assert set(assign(rest, some.representatives)["item"].tolist()) == wanted


def rounds(edges: np.ndarray, count: int) -> dict[int, int]:
    rows = np.concatenate([edges, edges])
    rows["at_representative"][: len(edges)] = True
    for number in range(count):
        ends = (
            np.where(rows["at_representative"], rows["representative"], rows["item"]) % 3
        )  # buckets
        parts = [rows[ends == bucket] for bucket in range(3)]
        if number + 1 == count:
            left = np.concatenate([leaving(part) for part in parts])
            return dict(zip(left["item"].tolist(), left["representative"].tolist(), strict=True))
        rows = np.concatenate([settle(part) for part in parts])
    raise AssertionError


def test_rounds_settle_who_stays_as_one_pass_by_rank_does():
    rng = np.random.default_rng(2)
    pairs = {tuple(sorted(pair)) for pair in rng.integers(0, 60, (80, 2)).tolist()}
    edges = np.zeros(len(pairs), EDGE)
    for row, (better, worse) in enumerate(sorted(pairs - {(n, n) for n in range(60)})):
        edges[row] = (worse, 0, 0, better, better, 0, False)
    edges = edges[edges["item"] != edges["representative"]]
    expected: dict[int, int] = {}
    for item in range(60):
        stay = [
            e["representative"]
            for e in edges
            if e["item"] == item and e["representative"] not in expected
        ]
        if stay:
            expected[item] = min(stay)
    assert rounds(edges, 12) == expected
    # Before the last round some are not known, and stay; nothing leaves for what leaves.
    early = rounds(edges, 3)
    assert early.items() <= expected.items()
    assert 0 < len(early) < len(expected)
    assert (STAYS, LEAVES) == (1, 2)


def test_pictures_with_their_texts_stand_once_and_crowded_ones_not_at_all():
    here = np.repeat(nodes(3), 2)
    here["key"] = [8, 2, 3, 4, 9, 6]
    texts = {0: [11, 11], 1: [21, 22], 2: [31, 32, 33]}
    rows = [(here["hi"][2 * n], here["lo"][2 * n], t) for n, of in texts.items() for t in of]
    rows.append((5, 5, 5))  # held out alone
    columns = zip(*rows, strict=True)
    contents = pa.table(
        [pa.array(column, pa.uint64()) for column in columns], names=["hi", "lo", "text"]
    )
    found = staying(contents, here, 2)
    assert dict(zip(found["key"].tolist(), found["text"].tolist(), strict=True)) == {2: 11, 3: 0}


@pytest.mark.numeric
def test_every_machine_finds_the_same_cells_and_clusters():
    vectors = np.random.default_rng(3).integers(-127, 128, (3000, 64)).astype(np.int8)
    centres = find_centres(vectors[:640], 20)
    some = nodes(600)
    some["look"]["descriptor"] = vectors[:600] // 4 + vectors[0] // 2
    clusters = cluster(sort_by_rank(some))
    found = [
        centres,
        nearest_cells(vectors, centres, 2).astype("<i8"),
        clusters.distances.astype("<i8"),
    ]
    digest = hashlib.sha256(b"".join(part.tobytes() for part in found)).hexdigest()
    assert digest[:16] == "84585728d1487e45"
