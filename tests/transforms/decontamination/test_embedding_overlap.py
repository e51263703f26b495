import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alignset.transforms.decontamination.embedding_overlap import (
    CLUSTERS,
    EmbeddingIndex,
    EmbeddingInput,
    EmbeddingMeasure,
    embedding_measure,
    write_clusters,
)
from alignset.transforms.decontamination.overlap_measure import Shown
from alignset.transforms.images.examine import Image, examine
from tests.support.closeness import close
from tests.support.onnx_files import mean_colour
from tests.support.picture_files import encoded, photograph

pytestmark = pytest.mark.numeric

WIDTH = 16
MADE = EmbeddingMeasure("made.onnx", EmbeddingInput(), WIDTH, {"clusters": "none"})


def onnx_model(folder: Path, model: bytes | None = None, **described: Any) -> str:
    path = folder / "model.onnx"
    path.write_bytes(mean_colour() if model is None else model)
    given = {"size": 8, "layout": "NHWC", "mean": [0, 0, 0], "std": [1, 1, 1]} | described
    path.with_suffix(".json").write_text(json.dumps(given))
    embedding_measure.cache_clear()
    return str(path)


def shown(picture: Any, kind: str = "PNG") -> Shown:
    body = encoded(picture, kind)
    image = examine(body)
    assert isinstance(image, Image)
    return Shown(body, image)


def units(count: int, seed: int = 1) -> np.ndarray:
    print("seed", seed)
    made = np.random.default_rng(seed).normal(size=(count, WIDTH))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def test_an_onnx_file_embeds_each_picture_by_itself(tmp_path: Path) -> None:
    measure = embedding_measure(onnx_model(tmp_path))
    assert (measure.width, measure.form.size, measure.form.resize) == (3, 8, 8)
    pictures = [shown(photograph(seed, 8, 8)) for seed in range(5)]
    made = measure.features(pictures)
    means = np.array([np.asarray(photograph(n, 8, 8)).mean(axis=(0, 1)) for n in range(5)]) / 255
    expected = means / np.linalg.norm(means, axis=1, keepdims=True)
    assert close(made, expected, terms=8 * 8 + 3)  # the mean of 8x8 pixels, and a length
    assert (np.concatenate([measure.features([one]) for one in pictures]) == made).all()
    assert (made.dtype, made.shape[1:]) == (measure.row_type.base, measure.row_type.shape)
    assert measure.features([]).shape == (0, 3)
    broken = Shown(b"", Image("png", 300, 300, 0, True))
    assert measure.features([broken, pictures[1]]).tolist() == [[0, 0, 0], made[1].tolist()]


def by_hand(queries: np.ndarray, embeddings: np.ndarray) -> list[tuple[int, float]]:
    distances = 1 - queries.astype(np.float64) @ embeddings.astype(np.float64).T
    return [(int(row.argmin()), float(row.min())) for row in distances]


@pytest.mark.parametrize("clusters", [0, 1, 2, 40])
@pytest.mark.parametrize("count", [1, 9, 700])
def test_near_images_are_found_in_any_batch(tmp_path: Path, count: int, clusters: int) -> None:
    embeddings, queries = units(count), units(count) + 0.1 * units(count, 2)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    MADE.build([embeddings[:2], embeddings[2:]], count, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(MADE.files)
    index = MADE.open(tmp_path)
    if clusters:
        index = EmbeddingIndex(embeddings, units(clusters, 5))
    found = index.nearest(queries)
    for nearest, (row, distance) in zip(found, by_hand(queries, embeddings), strict=True):
        assert nearest is not None
        assert nearest.row == row
        assert nearest.distance == pytest.approx(distance, abs=0.51e-4)  # rounded to 4 decimals
    assert [index.nearest(query[np.newaxis])[0] for query in queries] == found


@pytest.mark.parametrize("clusters", [40, 12, 10, 5, 2, 1])
def test_images_are_compared_where_they_share_a_bucket(clusters: int) -> None:
    """A bucket is made of three of an image's ten nearest clusters, as the paper has it."""
    embeddings, centres, queries = units(50), units(clusters, 4), units(60, 6)

    def buckets(embedding: np.ndarray) -> set[tuple[int, ...]]:
        nearest = np.argsort(-(centres @ embedding), kind="stable")[:10]
        return {*combinations(sorted(nearest.tolist()), min(3, len(nearest)))}

    index, compared = EmbeddingIndex(embeddings, centres), 0
    for query, found in zip(queries, index.nearest(queries), strict=True):
        rows = [row for row, of in enumerate(embeddings) if buckets(of) & buckets(query)]
        assert index.sharing_a_bucket(query).tolist() == rows
        assert (found is None) == (not rows)
        compared += len(rows)
    assert (0 < compared < 3000) == (clusters > 13)


def test_clusters_of_training_images_are_used_and_part_of_the_index(tmp_path: Path) -> None:
    plain = embedding_measure(onnx_model(tmp_path))
    pictures = [shown(photograph(seed)) for seed in range(30)]
    write_clusters(plain, pictures)
    assert np.load(plain.path + CLUSTERS).shape == (30, 3)
    measure = embedding_measure(onnx_model(tmp_path))
    assert measure.settings["clusters"] != plain.settings["clusters"] == "none"
    features = measure.features(pictures[:3])
    measure.build([features], 3, tmp_path)
    index = measure.open(tmp_path)
    assert [found and found.row for found in index.nearest(features)] == [0, 1, 2]
    assert index.sharing_a_bucket(features[0])[0] == 0
    Path(plain.path + CLUSTERS).write_bytes(b"others")
    with pytest.raises(ValueError, match="give each worker the same file"):
        measure.open(tmp_path)
    np.save(plain.path + CLUSTERS, np.zeros((4, 5), np.float32))
    embedding_measure.cache_clear()
    with pytest.raises(ValueError, match="has clusters of another model"):
        embedding_measure(plain.path)


@pytest.mark.parametrize(
    ("model", "described", "says"),
    [
        (mean_colour(), {"size": 9, "resize": 8}, "size must be from 1"),
        (mean_colour(), {"std": [1, 0, 1]}, "std must be above 0"),
        (mean_colour(), {"layout": "CHWN"}, "layout"),
        (mean_colour(), {"size": 16}, "Got: 16 Expected: 8"),
        (mean_colour()[:-9], {}, "[Pp]rotobuf|[Ff]ail"),
        (mean_colour(kind=11), {}, "tensor"),
    ],
)
def test_a_model_that_does_not_fit_is_one_line(
    tmp_path: Path, model: bytes, described: dict[str, Any], says: str
) -> None:
    path = onnx_model(tmp_path, model, **described)
    with pytest.raises(ValueError, match=rf"model\.onnx cannot be used: .*({says})") as error:
        embedding_measure(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["model.pt", "timm:resnet50", "efficientnet-lite0"])
def test_how_a_model_of_torch_becomes_one(name: str) -> None:
    with pytest.raises(ValueError, match=r"must be FILE\.onnx; got .* by torch\.onnx\.export"):
        embedding_measure(name)


def test_a_worker_with_another_file_or_none_stops(tmp_path: Path) -> None:
    measure = embedding_measure(onnx_model(tmp_path))
    path = tmp_path / "other" / "model.onnx"
    path.parent.mkdir()
    elsewhere = EmbeddingMeasure(str(path), measure.form, 3, measure.settings)
    with pytest.raises(FileNotFoundError):
        elsewhere.features([])
    path.write_bytes(mean_colour(("m", 8, 8, 3)))
    with pytest.raises(ValueError, match="give each worker the same file"):
        elsewhere.features([])
