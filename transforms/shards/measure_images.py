"""The images of a shard, as they arrive: looked at, measured, put aside, judged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Semaphore
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.columns import reasons as r
from transforms.columns.hashing import UInt64s
from transforms.decontamination.evaluation_images import evaluation_distances, evaluation_reasons
from transforms.fetching.fetch import Fetched
from transforms.images.examine import Image, Unusable, examine, examine_all
from transforms.images.image_size import size_reasons
from transforms.safety.unsafe_score import unsafe_reasons
from transforms.shards.score_images import ImageScores
from transforms.shards.shard_files import Spool
from transforms.storage.broken_files import broken_file
from transforms.storage.files import open_to_read
from transforms.workers.threads import THREADS

# Given to a thread together: to hand over costs 50 us. Large ones go alone, for the memory.
IMAGES_AT_ONCE, BYTES_AT_ONCE = 8, 1 << 20
# bits: a JPEG's quick hash is rarely farther than this from that of its whole picture
QUICK_HASH_ERROR = 6


@dataclass(frozen=True)
class ImageRules:
    """The numbers by which images are judged."""

    min_side: int
    max_aspect: float
    min_evaluation_distance: int
    max_unsafe_score: float = 1.0


def stored_bodies(pairs: pa.Table, max_bytes: int) -> Iterator[Fetched]:
    """The images of pairs that come from shards, read from where they are.

    Args:
      pairs: columns source_path (string), source_at and source_size (int64: place in the file).
      max_bytes: what is longer is not read, and is `too_large`. What is there no more is
        `input_gone`.
    """
    rows = pairs.select(["source_path", "source_at", "source_size"])
    order = pc.sort_indices(rows, [("source_path", "ascending"), ("source_at", "ascending")])
    path, source = None, None
    try:
        for index in order.to_pylist():
            row = rows.slice(index, 1).to_pylist()[0]
            if row["source_size"] > max_bytes:
                yield Fetched(index, None, "too_large")
                continue
            try:
                if source is None or row["source_path"] != path:
                    if source is not None:
                        source.close()
                    path, source = row["source_path"], open_to_read(row["source_path"])
                source.seek(row["source_at"])
                body = source.read(row["source_size"])
            except Exception as error:
                if broken_file(row["source_path"], error) is None:
                    raise
                body = b""
            whole = len(body) == row["source_size"]
            yield Fetched(index, body, None) if whole else Fetched(index, None, "input_gone")
    finally:
        if source is not None:
            source.close()


class Measured(NamedTuple):
    """The images of one shard, as columns in the order of its pairs."""

    columns: dict[str, list[Any]]
    places: list[tuple[int, int]]  # in the spool
    bytes_fetched: int


class _Looks:
    """Images looked at by a few threads, each put into its row. No order is kept: one that takes a
    second must not hold up what else arrives."""

    def __init__(
        self, columns: dict[str, list[Any]], size: int, spool: Spool, scores: ImageScores
    ) -> None:
        self.columns, self.places = columns, [(0, 0)] * size
        self._spool, self._scores = spool, scores
        self._pool = ThreadPoolExecutor(THREADS)
        self._room = Semaphore(2 * THREADS)
        self._errors: list[BaseException] = []

    def __enter__(self) -> _Looks:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def take(self, group: list[Fetched]) -> None:
        """Has them looked at; waits where the threads are far behind."""
        self._room.acquire()
        self._raise()
        self._pool.submit(self._look_at, group)

    def finish(self) -> None:
        self._pool.shutdown()
        self._raise()

    def _raise(self) -> None:
        if self._errors:
            raise self._errors[0]

    def _look_at(self, group: list[Fetched]) -> None:
        try:
            bodies = [fetched.body or b"" for fetched in group]
            for fetched, body, image in zip(group, bodies, examine_all(bodies), strict=True):
                self._put(fetched.index, body, image)
            self._scores.add([fetched.index for fetched in group], self.columns, self.places)
        except BaseException as error:  # a full disk; raised again where it is seen
            self._errors.append(error)
        finally:
            self._room.release()

    def _put(self, row: int, body: bytes, image: Image | Unusable) -> None:
        columns = self.columns
        columns["sha256"][row] = hashlib.sha256(body).hexdigest()
        if isinstance(image, Unusable):
            columns["reason"][row], columns["detail"][row] = image.reason, image.detail
            return
        columns["width"][row], columns["height"][row] = image.width, image.height
        columns["phash"][row], columns["image"][row] = image.phash, image
        self.places[row] = self._spool.put(body)


def measure_images(
    bodies: Iterable[Fetched],
    size: int,
    spool: Spool,
    count: Callable[[int], None],
    scores: ImageScores,
) -> Measured:
    """Looks at each image as it arrives and puts its bytes aside.

    Args:
      size: how many there are. count: told with each how many are done, or have failed.
      scores: what scores those that came, while others still come.
    """
    names = ("width", "height", "phash", "sha256", "reason", "detail", "image")
    columns: dict[str, list[Any]] = {name: [None] * size for name in names}
    bytes_fetched = bytes_held = 0
    with _Looks(columns, size, spool, scores) as looks:
        group: list[Fetched] = []
        for done, fetched in enumerate(bodies, 1):
            count(done - scores.waiting)
            if fetched.body is None:
                columns["reason"][fetched.index] = r.FETCH_FAILED
                columns["detail"][fetched.index] = fetched.detail
                continue
            group.append(fetched)
            bytes_held += len(fetched.body)
            if len(group) == IMAGES_AT_ONCE or bytes_held > BYTES_AT_ONCE:
                looks.take(group)
                bytes_fetched, bytes_held, group = bytes_fetched + bytes_held, 0, []
        if group:
            looks.take(group)
        looks.finish()
    return Measured(columns, looks.places, bytes_fetched + bytes_held)


class Judged(NamedTuple):
    """Why each image of a shard is dropped, or null; and how near it is to evaluation images."""

    reasons: pa.StringArray
    distances: pa.Array  # int32[n], bits; null where there is no image or nothing to be near to
    unsafe_scores: pa.DoubleArray  # float64[n], null where none was made


def judge_images(
    measured: Measured,
    rules: ImageRules,
    evaluation: UInt64s,
    spool: Spool,
    unsafe_scores: pa.DoubleArray,
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
        unsafe_reasons(unsafe_scores, max_score=rules.max_unsafe_score),
        evaluation_reasons(distances, min_distance=rules.min_evaluation_distance),
    )
    return Judged(reasons, distances, unsafe_scores)


def _distances(phashes: list[int | None], evaluation: UInt64s) -> pa.Int32Array:
    """int32[n], bits to the nearest evaluation image; null where there is no image, or none."""
    unknown = np.array([phash is None or not len(evaluation) for phash in phashes], np.bool_)
    hashes = np.array([phash or 0 for phash in phashes], np.uint64)
    return pa.array(evaluation_distances(hashes, evaluation), mask=unknown)
