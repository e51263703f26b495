"""The images of a shard, as they arrive: looked at, measured, put aside, judged."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms import reasons as r
from transforms.evaluation import evaluation_distances, evaluation_reasons
from transforms.fetch import Fetched
from transforms.files import open_to_read
from transforms.hashing import UInt64s
from transforms.image_size import size_reasons
from transforms.images import Image, Unusable, examine
from transforms.shard_files import Spool
from transforms.threads import in_threads

LOG = logging.getLogger("alignset")
SECONDS_BETWEEN_LINES = 10.0
# bits: a JPEG's quick hash is rarely farther than this from that of its whole picture
QUICK_HASH_ERROR = 6


@dataclass(frozen=True)
class ImageRules:
    """The numbers by which images are judged."""

    min_side: int
    max_aspect: float
    min_evaluation_distance: int


class _Looked(NamedTuple):
    """One fetched URL, looked at."""

    fetched: Fetched
    image: Image | Unusable | None  # None where the fetch failed
    sha256: str | None


def _look(fetched: Fetched) -> _Looked:
    if fetched.body is None:
        return _Looked(fetched, None, None)
    return _Looked(fetched, examine(fetched.body), hashlib.sha256(fetched.body).hexdigest())


def stored_bodies(pairs: pa.Table) -> Iterator[Fetched]:
    """The images of pairs that come from shards, read from where they are.

    Args:
      pairs: columns source_path (string), source_at and source_size (int64: place in the file).
    """
    rows = pairs.select(["source_path", "source_at", "source_size"])
    order = pc.sort_indices(rows, [("source_path", "ascending"), ("source_at", "ascending")])
    path, source = None, None
    try:
        for index in order.to_pylist():
            row = rows.slice(index, 1).to_pylist()[0]
            if source is None or row["source_path"] != path:
                if source is not None:
                    source.close()
                path, source = row["source_path"], open_to_read(row["source_path"])
            source.seek(row["source_at"])
            yield Fetched(index, source.read(row["source_size"]), None)
    finally:
        if source is not None:
            source.close()


class Measured(NamedTuple):
    """The images of one shard, as columns in the order of its pairs."""

    columns: dict[str, list[Any]]
    places: list[tuple[int, int]]  # in the spool
    bytes_fetched: int


def measure_images(bodies: Iterable[Fetched], size: int, spool: Spool) -> Measured:
    """Looks at each image as it arrives and puts its bytes aside."""
    names = ("width", "height", "phash", "sha256", "reason", "detail", "image")
    columns: dict[str, list[Any]] = {name: [None] * size for name in names}
    places = [(0, 0)] * size
    bytes_fetched = 0
    begun = told = time.monotonic()
    for done, (fetched, image, sha256) in enumerate(in_threads(_look, bodies, chunk=8)):
        now = time.monotonic()
        if now - told > SECONDS_BETWEEN_LINES:
            LOG.info("%d of %d images, %.0f a second", done, size, done / (now - begun))
            told = now
        row = fetched.index
        columns["sha256"][row] = sha256
        if image is None:
            columns["reason"][row], columns["detail"][row] = r.FETCH_FAILED, fetched.detail
        elif isinstance(image, Unusable):
            columns["reason"][row], columns["detail"][row] = image.reason, image.detail
        else:
            columns["width"][row], columns["height"][row] = image.width, image.height
            columns["phash"][row] = image.phash
            columns["image"][row] = image
            places[row] = spool.put(fetched.body or b"")
        bytes_fetched += len(fetched.body or b"")
    return Measured(columns, places, bytes_fetched)


class Judged(NamedTuple):
    """Why each image of a shard is dropped, or null; and how near it is to evaluation images."""

    reasons: pa.StringArray
    distances: pa.Array  # int32[n], bits; null where there is no image or nothing to be near to


def judge_images(
    measured: Measured, rules: ImageRules, evaluation: UInt64s, spool: Spool
) -> Judged:
    """Judges the images of one shard; those near to an evaluation image are hashed in full."""
    columns, phashes = measured.columns, list(measured.columns["phash"])
    distances = _distances(phashes, evaluation)
    near = pc.less(distances, rules.min_evaluation_distance + QUICK_HASH_ERROR)
    for row in np.flatnonzero(pc.fill_null(near, False).to_numpy(zero_copy_only=False)):
        image = examine(spool.get(measured.places[row]), in_full=True)
        if isinstance(image, Image):
            phashes[row] = image.phash  # not stored: a shard must not depend on these images
    distances = _distances(phashes, evaluation)
    width = pa.array(columns["width"], pa.int32())
    height = pa.array(columns["height"], pa.int32())
    reasons = pc.coalesce(
        pa.array(columns["reason"], pa.string()),
        size_reasons(width, height, min_side=rules.min_side, max_aspect=rules.max_aspect),
        evaluation_reasons(distances, min_distance=rules.min_evaluation_distance),
    )
    return Judged(reasons, distances)


def _distances(phashes: list[int | None], evaluation: UInt64s) -> pa.Int32Array:
    """int32[n], bits to the nearest evaluation image; null where there is no image, or none."""
    unknown = np.array([phash is None or not len(evaluation) for phash in phashes], np.bool_)
    hashes = np.array([phash or 0 for phash in phashes], np.uint64)
    return pa.array(evaluation_distances(hashes, evaluation), mask=unknown)
