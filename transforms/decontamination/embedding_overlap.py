"""Overlap by embeddings of an image model: the paper's own way, and the same by exact search.

The paper puts each image into the buckets that are made of three of its ten nearest clusters, and
compares two images where they share one. It has 4000 clusters of its whole corpus; here they are of
the evaluation images, and fewer where these are few.

Source: ALIGN (Jia et al., 2021), section 3 and appendix A.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from alignset.transforms.decontamination.embedding_model import (
    EmbeddingModel,
    Embeddings,
    embed_each,
)
from alignset.transforms.decontamination.overlap_measure import Features, Look, Nearest, joined
from alignset.transforms.decontamination.overlap_settings import MIN_DISTANCES
from alignset.transforms.images.small_pixels import small_pixels
from alignset.transforms.workers.unexpected import tell_once

VECTORS = "embeddings.f32"
CENTRES, BUCKETS, MEMBERS = "centres.f32", "buckets.u64", "members.i4"
CLUSTERS, NEAREST_CLUSTERS, CLUSTERS_OF_A_BUCKET = 4000, 10, 3
_LEAST_OF_A_CLUSTER = 25  # images, on average; fewer images make fewer clusters
_ROUNDS, _SAMPLES_A_CLUSTER, _SEED = 10, 64, 0
_SEARCHED_EXACTLY = 8  # evaluation images whose cosines are computed anew, for the last bits
_ROWS_AT_ONCE = 1 << 14

UInt64s = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class EmbeddingMeasure:
    """1 less the cosine of two embeddings.

    Args:
      search: "buckets", as in the paper, or "exact".
    """

    model: EmbeddingModel
    search: str = "exact"
    name: str = "embedding"
    min_distance: float = MIN_DISTANCES["embedding"]
    quick_error: float = 0.0  # it looks at no quick plane

    @property
    def settings(self) -> dict[str, str]:
        return {"model": self.model.sha256, "input": str(self.model.wanted), "search": self.search}

    @property
    def row_type(self) -> np.dtype[Any]:
        return np.dtype((np.float32, (self.model.width,)))

    @property
    def files(self) -> tuple[str, ...]:
        return (VECTORS,) if self.search == "exact" else (VECTORS, CENTRES, BUCKETS, MEMBERS)

    def features(self, looks: Sequence[Look]) -> Features:
        """float32[n, width]; zeros, which are near to nothing, where a picture fails or the
        model has no number for it."""
        made = np.zeros((len(looks), self.model.width), np.float32)
        pixels = {row: self._pixels(look) for row, look in enumerate(looks)}
        seen = {row: picture for row, picture in pixels.items() if picture is not None}
        if seen:
            made[[*seen]] = embed_each([*seen.values()], self.model)
        made[~np.isfinite(made).all(axis=1)] = 0  # of half floats, say, that ran over
        return made

    def _pixels(self, look: Look) -> npt.NDArray[np.uint8] | None:
        wanted = self.model.wanted
        try:
            return small_pixels(look.body, look.image, wanted.resize, wanted.size)
        except (
            Exception
        ) as error:  # it was decoded once, in grey or whole: whatever this is, is new
            tell_once("decoding an image for its embedding", error)
            return None

    def build(self, features: Iterable[Features], count: int, folder: Path) -> None:
        embeddings = joined(features, self.row_type)
        embeddings.tofile(folder / VECTORS)
        if self.search == "buckets":
            _write_buckets(embeddings, folder)

    def open(self, folder: Path) -> ExactSearch | BucketSearch:
        embeddings = np.memmap(folder / VECTORS, np.float32, "r").view(np.ndarray)
        embeddings = embeddings.reshape(-1, self.model.width)
        if self.search == "exact":
            return ExactSearch(embeddings)
        centres = np.fromfile(folder / CENTRES, np.float32).reshape(-1, self.model.width)
        buckets = np.memmap(folder / BUCKETS, "<u8", "r").view(np.ndarray)
        members = np.memmap(folder / MEMBERS, "<i4", "r").view(np.ndarray)
        return BucketSearch(embeddings, centres, buckets, members)


def _nearest(embedding: Embeddings, rows: Any, embeddings: Embeddings) -> Nearest:
    """The nearest of some evaluation images, of equally near ones the first."""
    rows = np.sort(rows)
    cosines = embeddings[rows].astype(np.float64) @ embedding.astype(np.float64)
    distances = np.round(1 - cosines, 4)
    best = int(distances.argmin())
    return Nearest(int(rows[best]), max(0.0, float(distances[best])), {})


class ExactSearch:
    """Compares each image with all evaluation images.

    Args:
      embeddings: float32[m, width], one or more.
    """

    def __init__(self, embeddings: Embeddings) -> None:
        self._embeddings = embeddings

    def nearest(self, features: Embeddings) -> list[Nearest]:
        """As `OverlapIndex` has it."""
        faiss.omp_set_num_threads(1)
        wanted = min(_SEARCHED_EXACTLY, len(self._embeddings))
        # By products of matrices, whose last bits depend on the batch: a choice of candidates.
        _, found = faiss.knn(features, self._embeddings, wanted, metric=faiss.METRIC_INNER_PRODUCT)
        return [
            _nearest(embedding, rows, self._embeddings)
            for embedding, rows in zip(features, found, strict=True)
        ]


class BucketSearch:
    """Compares each image with the evaluation images that are in one of its buckets.

    Args:
      embeddings: float32[m, width]. centres: float32[k, width], of clusters.
      buckets: uint64[b], ascending. members: int32[b], the evaluation image that is in each.
    """

    def __init__(
        self,
        embeddings: Embeddings,
        centres: Embeddings,
        buckets: UInt64s,
        members: npt.NDArray[np.int32],
    ) -> None:
        self._embeddings, self._centres = embeddings, centres
        self._buckets, self._members = buckets, members

    def nearest(self, features: Embeddings) -> list[Nearest | None]:
        """As `OverlapIndex` has it; None where no evaluation image shares a bucket."""
        return [self._nearest(embedding) for embedding in features]

    def candidates(self, embedding: Embeddings) -> npt.NDArray[np.int32]:
        """The rows of the evaluation images that share a bucket with an image, ascending."""
        buckets = buckets_of(embedding[np.newaxis], self._centres)[0]
        first = np.searchsorted(self._buckets, buckets, "left")
        last = np.searchsorted(self._buckets, buckets, "right")
        pieces = [self._members[a:b] for a, b in zip(first, last, strict=True) if a < b]
        return np.unique(np.concatenate(pieces)) if pieces else np.zeros(0, np.int32)

    def _nearest(self, embedding: Embeddings) -> Nearest | None:
        rows = self.candidates(embedding)
        return _nearest(embedding, rows, self._embeddings) if len(rows) else None


def buckets_of(embeddings: Embeddings, centres: Embeddings) -> UInt64s:
    """The buckets of each image: every three of its ten nearest clusters, in their order.

    Args:
      embeddings: float32[n, width]. centres: float32[k, width].

    Returns:
      uint64[n, 120], or fewer where there are fewer than ten clusters.
    """
    faiss.omp_set_num_threads(1)
    near = min(NEAREST_CLUSTERS, len(centres))
    # One at a time: with several, faiss takes other ways, whose last bits differ.
    found = [
        faiss.knn(one[np.newaxis], centres, near, metric=faiss.METRIC_INNER_PRODUCT)[1][0]
        for one in embeddings
    ]
    clusters = np.sort(np.array(found, np.uint64).reshape(len(embeddings), near), axis=1)
    chosen = [*combinations(range(near), min(CLUSTERS_OF_A_BUCKET, near))]
    buckets = np.zeros((len(embeddings), len(chosen)), np.uint64)
    for at, places in enumerate(chosen):
        for place in places:
            buckets[:, at] = buckets[:, at] * np.uint64(1 << 20) + clusters[:, place]
    return buckets


def _write_buckets(embeddings: Embeddings, folder: Path) -> None:
    count = min(CLUSTERS, max(NEAREST_CLUSTERS, len(embeddings) // _LEAST_OF_A_CLUSTER))
    count = min(count, len(embeddings))
    faiss.omp_set_num_threads(1)  # sums of several threads differ in their last bits
    clusters = faiss.Kmeans(
        embeddings.shape[1],
        count,
        niter=_ROUNDS,
        spherical=True,
        seed=_SEED,
        max_points_per_centroid=_SAMPLES_A_CLUSTER,
        min_points_per_centroid=1,
    )
    clusters.train(embeddings)
    centres = np.ascontiguousarray(clusters.centroids, np.float32)
    centres.tofile(folder / CENTRES)
    pieces = [
        buckets_of(embeddings[first : first + _ROWS_AT_ONCE], centres)
        for first in range(0, len(embeddings), _ROWS_AT_ONCE)
    ]
    buckets = np.concatenate(pieces)
    members = np.repeat(np.arange(len(embeddings), dtype=np.int32), buckets.shape[1])
    order = np.argsort(buckets, axis=None, kind="stable")
    buckets.ravel()[order].astype("<u8").tofile(folder / BUCKETS)
    members[order].astype("<i4").tofile(folder / MEMBERS)
