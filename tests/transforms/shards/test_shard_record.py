"""What a shard records: whether an image passes another threshold follows from its bin."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from alignset.transforms.columns.records import host_of
from alignset.transforms.decontamination.evaluation_overlap import evaluation_reasons
from alignset.transforms.images.image_size import size_reasons
from alignset.transforms.safety.unsafe_score import unsafe_reasons
from alignset.transforms.shards.measure_images import ImageRules
from alignset.transforms.shards.shard_record import image_axes, image_bins, word_counts

RULES = ImageRules(min_side=213, max_aspect=2.7, min_evaluation_distance=1.0, max_unsafe_score=0.45)
AXES = image_axes(RULES)


def around(edges: list[float]) -> np.ndarray:
    """Each edge, and what is next to it on either side."""
    values = np.array(edges)
    return np.concatenate([values, np.nextafter(values, -1), np.nextafter(values, 99)])


def test_the_runs_own_thresholds_are_edges():
    own = {"side": 213.0, "aspect": 2.7, "unsafe": 0.45, "distance": 1.0}
    assert all(own[axis.name] in axis.edges for axis in AXES)
    assert all(axis.edges == sorted(set(axis.edges)) for axis in AXES)


def bins_of(shorter: np.ndarray, longer: np.ndarray, unsafe: np.ndarray, distance: np.ndarray):
    return image_bins(AXES, shorter, longer, unsafe, distance)


@pytest.mark.parametrize("place", range(len(AXES[0].edges)))
def test_sides(place: int):
    edge = int(AXES[0].edges[place])
    sides = np.arange(max(1, edge - 2), edge + 3)
    bins = bins_of(sides.astype(float), sides + 1.0, *2 * [np.full(len(sides), np.nan)])[0]
    column = pa.array(sides, pa.int32())
    reasons = size_reasons(column, column, min_side=edge, max_aspect=3)
    assert (bins > place).tolist() == reasons.is_null().to_pylist()


@pytest.mark.parametrize("place", range(len(AXES[1].edges)))
def test_aspects(place: int):
    edge = AXES[1].edges[place]
    shorter = np.arange(100, 400)
    longer = np.concatenate([np.floor(shorter * edge) + add for add in (-1, 0, 1)]).clip(100)
    shorter = np.tile(shorter, 3)
    bins = bins_of(shorter.astype(float), longer, *2 * [np.full(len(shorter), np.nan)])[1]
    columns = pa.array(shorter, pa.int32()), pa.array(longer.astype(int), pa.int32())
    reasons = size_reasons(*columns, min_side=0, max_aspect=edge)
    assert (bins <= place).tolist() == reasons.is_null().to_pylist()


def test_scores_and_distances():
    scores, distances = around(AXES[2].edges), around(AXES[3].edges)
    sides = np.full(len(scores), 300.0)
    bins = bins_of(sides, sides, scores, np.full(len(scores), np.nan))[2]
    for place, edge in enumerate(AXES[2].edges):
        reasons = unsafe_reasons(pa.array(scores), max_score=edge)
        assert (bins <= place).tolist() == reasons.is_null().to_pylist()
    sides = np.full(len(distances), 300.0)
    bins = bins_of(sides, sides, np.full(len(distances), np.nan), distances)[3]
    for place, edge in enumerate(AXES[3].edges):
        reasons = evaluation_reasons(pa.array(distances), min_distance=edge)
        assert (bins > place).tolist() == pc.is_null(reasons).to_pylist()


def test_what_was_not_scored_has_a_bin_of_its_own():
    one = np.array([300.0])
    bins = bins_of(one, one, np.array([np.nan]), np.array([np.nan]))
    assert [b.tolist() for b in bins[2:]] == [[AXES[2].no_value], [AXES[3].no_value]]


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
