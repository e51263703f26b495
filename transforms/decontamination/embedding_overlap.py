"""Overlap by embeddings of an image model, an ONNX file: the paper's way.

The paper has 4,000 clusters of all training images of its embedding model. An image is in the
buckets that are made of three of its ten nearest clusters, and images that share a bucket are
compared: those that share three of these clusters. `write_clusters` makes the clusters of a model;
without them each image is compared with all.

Source: ALIGN (Jia et al., 2021), section 3 and appendix A.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

import faiss
import numpy as np
import numpy.typing as npt

from alignset.transforms.decontamination.overlap_measure import Features, Nearest, Shown, joined
from alignset.transforms.decontamination.overlap_settings import MIN_DISTANCES
from alignset.transforms.images.network_files import check_sides, file_of_run, file_sha256
from alignset.transforms.images.onnx_networks import Network
from alignset.transforms.images.small_pixels import small_pixels
from alignset.transforms.storage.documents import find_document
from alignset.transforms.storage.files import exists, is_local
from alignset.transforms.workers.unexpected import tell_once

VECTORS, CLUSTERS = "embeddings.f32", ".clusters.npy"  # of an index; behind a model's name
MOST_CLUSTERS, NEAREST_CLUSTERS, CLUSTERS_OF_A_BUCKET = 4000, 10, 3


@dataclass(frozen=True)
class EmbeddingInput:
    """Input format of a model: the JSON beside its file; without one, ImageNet's.

    An image is squashed to `resize` px a side and its middle of `size` px a side is cut out; each
    sample, 0 to 1, becomes (sample - mean) / std.
    """

    size: int = 224
    resize: int = 0
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    layout: Literal["NCHW", "NHWC"] = "NCHW"

    def __post_init__(self) -> None:
        object.__setattr__(self, "resize", self.resize or self.size)
        check_sides(self.size, self.resize)
        if min(self.std) <= 0:
            raise ValueError(f"std must be above 0; got {self.std}")


@dataclass(frozen=True)
class EmbeddingMeasure:
    """1 less the cosine of two embeddings.

    Args:
      path: of the model. width: of its embeddings.
      settings: the model's input, and the SHA-256 of its file and of its clusters, or "none".
    """

    path: str
    form: EmbeddingInput
    width: int
    settings: dict[str, str] = field(hash=False)
    name: str = "embedding"
    min_distance: float = MIN_DISTANCES["embedding"]
    quick_error: float = 0.0  # it sees no quick thumbnail
    files: tuple[str, ...] = (VECTORS,)

    @property
    def row_type(self) -> np.dtype[Any]:
        return np.dtype((np.float32, (self.width,)))

    def features(self, pictures: Sequence[Shown]) -> Features:
        """float32[n, width], of length 1; zeros, which are near to nothing, where an image fails
        or the model has no number for it. No embedding depends on the others."""
        embeddings = np.zeros((len(pictures), self.width), np.float32)
        network = _opened(self.path, self.settings["model"], self.form)
        for row, shown in enumerate(pictures):
            try:
                pixels = small_pixels(shown.body, shown.image, self.form.resize, self.form.size)
            except Exception as error:  # it was decoded once: whatever this is, is new
                tell_once("decoding an image for its embedding", error)
                continue
            embeddings[row] = _embedding(network, pixels)
        embeddings[~np.isfinite(embeddings).all(axis=1)] = 0  # half floats may run over
        return embeddings

    def build(self, features: Iterable[Features], count: int, folder: Path) -> None:
        joined(features, self.row_type).tofile(folder / VECTORS)

    def open(self, folder: Path) -> EmbeddingIndex:
        embeddings = np.memmap(folder / VECTORS, np.float32, "r").view(np.ndarray)
        centres = None
        if self.settings["clusters"] != "none":
            file = file_of_run(self.path + CLUSTERS, self.settings["clusters"])
            centres = np.load(io.BytesIO(file))
        return EmbeddingIndex(embeddings.reshape(-1, self.width), centres)


class EmbeddingIndex:
    """The embeddings of evaluation images.

    Args:
      embeddings: float32[m, width], one or more.
      centres: float32[k, width], of clusters; None compares each image with all.
    """

    def __init__(self, embeddings: Features, centres: Features | None) -> None:
        self._embeddings, self._search = embeddings, cast(Any, None)
        if centres is not None:
            self._search = faiss.IndexFlatIP(centres.shape[1])
            self._search.add(centres)
            clusters = np.concatenate([self._nearest_clusters(one) for one in embeddings])
            order = np.argsort(clusters, kind="stable")
            self._rows = order // (len(clusters) // len(embeddings))  # of the images, by cluster
            self._ends = np.searchsorted(clusters[order], np.arange(len(centres) + 1))

    def nearest(self, features: Features) -> list[Nearest | None]:
        """As `OverlapIndex` has it; None where no evaluation image shares a bucket."""
        return [self._nearest(embedding) for embedding in features]

    def sharing_a_bucket(self, embedding: Features) -> npt.NDArray[np.int64]:
        """The rows of the evaluation images that share a bucket with an image, ascending."""
        clusters = self._nearest_clusters(embedding)
        rows = np.concatenate([self._rows[self._ends[c] : self._ends[c + 1]] for c in clusters])
        rows, shared = np.unique(rows, return_counts=True)
        return rows[shared >= min(CLUSTERS_OF_A_BUCKET, len(clusters))]

    def _nearest_clusters(self, embedding: Features) -> npt.NDArray[np.int64]:
        # One image at a time: with several, faiss takes other ways, whose last bits differ.
        count = min(NEAREST_CLUSTERS, self._search.ntotal)
        return np.asarray(self._search.search(embedding[np.newaxis], count)[1][0])

    def _nearest(self, embedding: Features) -> Nearest | None:
        rows: Any = self.sharing_a_bucket(embedding) if self._search else slice(None)
        distances = 1 - np.round(self._embeddings[rows] @ embedding, 4).astype(np.float64)
        if not len(distances):
            return None
        best = int(distances.argmin())  # the first of equally near ones
        row = int(rows[best]) if self._search else best
        return Nearest(row, max(0.0, round(float(distances[best]), 4)), {})


@lru_cache(maxsize=2)
def embedding_measure(path: str) -> EmbeddingMeasure:
    """Opens a model once, to see that it can be used and what it gives.

    Raises:
      ValueError: it is not there, or is not such a model; one line says what to do.
    """
    if not path.endswith(".onnx"):
        raise ValueError(
            f"overlap_model must be FILE.onnx; got {path!r}; a model of torch or timm becomes one "
            "by torch.onnx.export(model.eval(), (torch.zeros(1, 3, 224, 224),), 'FILE.onnx')"
        )
    path = os.path.abspath(path) if is_local(path) else path  # workers may run in another folder
    settings, centres = {"clusters": "none"}, None
    try:
        settings["model"] = file_sha256(path)
        if exists(path + CLUSTERS):
            settings["clusters"] = file_sha256(path + CLUSTERS)
            centres = np.load(io.BytesIO(file_of_run(path + CLUSTERS, settings["clusters"])))
        form = find_document(f"{path.removesuffix('.onnx')}.json", EmbeddingInput)
        form = form or EmbeddingInput()
        noise = np.random.default_rng(0).integers(0, 256, (form.size, form.size, 3), np.uint8)
        embedding = _embedding(_opened(path, settings["model"], form), noise)
        if not np.isfinite(embedding).all():
            raise ValueError("it gives NaN or infinity for a test image")
        if centres is not None and centres.shape[1:] != embedding.shape:
            raise ValueError(f"{CLUSTERS} beside it has clusters of another model")
    except Exception as error:  # onnxruntime has a class for each kind of fault
        reason = " ".join(str(error).split())
        raise ValueError(f"overlap_model: {path} cannot be used: {reason}") from error
    return EmbeddingMeasure(path, form, len(embedding), settings | {"input": str(form)})


def write_clusters(measure: EmbeddingMeasure, pictures: Iterable[Shown]) -> None:
    """Clusters images of a model's training set by k-means; some 100,000 are enough."""
    embeddings = joined((measure.features([shown]) for shown in pictures), measure.row_type)
    count = min(MOST_CLUSTERS, len(embeddings))
    clusters = faiss.Kmeans(measure.width, count, spherical=True, min_points_per_centroid=1)
    clusters.train(embeddings)
    np.save(measure.path + CLUSTERS, np.asarray(clusters.centroids))


@lru_cache(maxsize=2)
def _opened(path: str, sha256: str, form: EmbeddingInput) -> Network:
    mean, scale = [255 * m for m in form.mean], [1 / (255 * s) for s in form.std]
    return Network(file_of_run(path, sha256), form.size, form.layout, mean, scale)


def _embedding(network: Network, pixels: npt.NDArray[np.uint8]) -> Features:
    """float32[width], of length 1."""
    output = network.outputs([pixels]).ravel().astype(np.float64)
    return (output / max(float(np.linalg.norm(output)), 1e-12)).astype(np.float32)
