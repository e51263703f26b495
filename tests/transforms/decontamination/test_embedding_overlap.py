from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from alignset.transforms.decontamination.embedding_model import (
    EmbeddingInput,
    EmbeddingModel,
    describe_embedding_model,
)
from alignset.transforms.decontamination.embedding_overlap import (
    BucketSearch,
    EmbeddingMeasure,
    buckets_of,
)
from alignset.transforms.decontamination.overlap_measure import Look
from alignset.transforms.images.examine import Image, examine
from tests.support.picture_files import encoded, photograph
from tests.transforms.decontamination.test_embedding_model import onnx_model

pytestmark = pytest.mark.numeric

WIDTH = 16
MADE = EmbeddingMeasure(EmbeddingModel("made.onnx", "0" * 64, EmbeddingInput(), WIDTH))
SEARCHES = ["exact", "buckets"]


def units(count: int, seed: int = 1) -> np.ndarray:
    print("seed", seed)
    made = np.random.default_rng(seed).normal(size=(count, WIDTH))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def near(embeddings: np.ndarray, off: float) -> np.ndarray:
    moved = embeddings + off * units(len(embeddings), 2)
    return (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)


def by_hand(queries: np.ndarray, embeddings: np.ndarray) -> list[tuple[int, float]]:
    distances = 1 - queries.astype(np.float64) @ embeddings.astype(np.float64).T
    return [(int(row.argmin()), float(row.min())) for row in distances]


@pytest.mark.parametrize("count", [1, 3, 9, 700])
@pytest.mark.parametrize("search", SEARCHES)
def test_near_images_are_found(tmp_path: Path, count: int, search: str) -> None:
    measure, embeddings = replace(MADE, search=search), units(count)
    measure.build([embeddings[:2], embeddings[2:]], count, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(measure.files)
    queries = near(embeddings, 0.1)
    found = measure.open(tmp_path).nearest(queries)
    for nearest, (row, distance) in zip(found, by_hand(queries, embeddings), strict=True):
        assert nearest is not None
        assert nearest.row == row
        assert nearest.distance == pytest.approx(distance, abs=0.51e-4)  # rounded to 4 decimals


@pytest.mark.parametrize("search", SEARCHES)
def test_no_image_depends_on_the_others_of_its_batch(tmp_path: Path, search: str) -> None:
    measure, embeddings = replace(MADE, search=search), units(500)
    measure.build([embeddings], 500, tmp_path)
    index, queries = measure.open(tmp_path), units(64, 3)
    together = list(index.nearest(queries))
    assert [index.nearest(queries[row : row + 1])[0] for row in range(64)] == together
    assert [*index.nearest(queries[:7]), *index.nearest(queries[7:])] == together


def test_the_same_images_give_the_same_files(tmp_path: Path) -> None:
    measure, embeddings = replace(MADE, search="buckets"), units(300)
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, split in zip(folders, (10, 200), strict=True):
        folder.mkdir()
        measure.build([embeddings[:split], embeddings[split:]], 300, folder)
    for name in measure.files:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


@pytest.mark.parametrize(("clusters", "buckets"), [(12, 120), (10, 120), (5, 10), (3, 1), (1, 1)])
def test_the_buckets_of_an_image_by_hand(clusters: int, buckets: int) -> None:
    embeddings, centres = units(20), units(clusters, 4)
    made = buckets_of(embeddings, centres)
    assert made.shape == (20, buckets)
    for embedding, row in zip(embeddings, made, strict=True):
        nearest = np.argsort(-(centres @ embedding), kind="stable")[:10]
        expected = set()
        for chosen in combinations(sorted(nearest.tolist()), min(3, clusters)):
            bucket = 0
            for cluster in chosen:
                bucket = bucket << 20 | cluster
            expected.add(bucket)
        assert set(row.tolist()) == expected


def test_images_without_a_bucket_in_common_are_not_compared() -> None:
    embeddings, centres = units(4), units(40, 5)
    buckets = buckets_of(embeddings[:1], centres)[0]
    index = BucketSearch(embeddings, centres, np.sort(buckets), np.zeros(len(buckets), np.int32))
    queries = units(200, 6)
    shared = [
        bool(set(row.tolist()) & set(buckets.tolist())) for row in buckets_of(queries, centres)
    ]
    assert [found is not None for found in index.nearest(queries)] == shared
    assert 0 < sum(shared) < 200
    assert index.candidates(embeddings[0]).tolist() == [0]


def test_features_of_pictures(tmp_path: Path) -> None:
    measure = EmbeddingMeasure(describe_embedding_model(onnx_model(tmp_path)))
    looks = []
    for kind in ("JPEG", "PNG", "WEBP"):
        body = encoded(photograph(4), kind)
        image = examine(body)
        assert isinstance(image, Image)
        looks.append(Look(body, image))
    made = measure.features(looks)
    assert (made.dtype, made.shape) == (np.float32, (3, 3))
    assert made.dtype == measure.row_type.base
    assert made[1] @ made[0] > 0.999
    assert measure.features([]).shape == (0, 3)
    broken = Look(b"", Image("png", 300, 300, 0, True))
    failed = measure.features([broken, looks[1]])
    assert (failed[0] == 0).all()
    assert (failed[1] == made[1]).all()
