"""The images of a shard, as they arrive: looked at, measured, put aside, judged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Semaphore
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.columns import reasons as r
from transforms.decontamination.evaluation_index import EvaluationIndex
from transforms.decontamination.evaluation_overlap import evaluation_reasons, overlap_columns
from transforms.decontamination.overlap_measure import Look
from transforms.fetching.fetch import Fetched
from transforms.images.examine import Image, Unusable, examine, examine_all
from transforms.images.image_size import size_reasons
from transforms.shards.evaluation_search import EvaluationSearch
from transforms.shards.shard_files import Spool
from transforms.storage.broken_files import broken_file
from transforms.storage.files import open_to_read
from transforms.workers.threads import THREADS

# Given to a thread together: to hand over costs 50 us. Large ones go alone, for the memory.
IMAGES_AT_ONCE, BYTES_AT_ONCE = 8, 1 << 20
# Of all shards that are under way: their threads, each THREADS, would hold as many pictures more.
_TURNS = Semaphore(THREADS)


@dataclass(frozen=True)
class ImageRules:
    """The numbers by which images are judged."""

    min_side: int
    max_aspect: float
    min_evaluation_distance: float


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
    search: EvaluationSearch


class _Looks:
    """Images looked at by a few threads, each put into its row. No order is kept: one that takes a
    second must not hold up what else arrives."""

    def __init__(
        self,
        columns: dict[str, list[Any]],
        size: int,
        spool: Spool,
        rules: ImageRules,
        index: EvaluationIndex | None,
    ) -> None:
        self.columns, self.places = columns, [(0, 0)] * size
        self.search = EvaluationSearch(index, size)
        self._spool, self._rules, self._keep_grey = spool, rules, index is not None
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
        self.search.finish()

    def _raise(self) -> None:
        if self._errors:
            raise self._errors[0]

    def _look_at(self, group: list[Fetched]) -> None:
        with _TURNS:
            self._look_in_turn(group)

    def _look_in_turn(self, group: list[Fetched]) -> None:
        try:
            bodies = [fetched.body or b"" for fetched in group]
            images = examine_all(bodies, keep_grey=self._keep_grey)
            rows = [fetched.index for fetched in group]
            for row, body, image in zip(rows, bodies, images, strict=True):
                self._put(row, body, image)
            if self._keep_grey:
                self._search_for(rows, bodies, images)
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
        columns["phash"][row] = image.phash
        columns["image"][row] = replace(image, grey=None)  # 10,000 of them were 80 MB
        self.places[row] = self._spool.put(body)

    def _search_for(
        self, rows: list[int], bodies: list[bytes], images: list[Image | Unusable]
    ) -> None:
        """Searches for those that are large enough to be kept."""
        looks = [
            (row, Look(body, image))
            for row, body, image in zip(rows, bodies, images, strict=True)
            if isinstance(image, Image)
        ]
        width = pa.array([look.image.width for _, look in looks], pa.int32())
        height = pa.array([look.image.height for _, look in looks], pa.int32())
        small = size_reasons(
            width, height, min_side=self._rules.min_side, max_aspect=self._rules.max_aspect
        )
        wanted = [look for look, why in zip(looks, small.to_pylist(), strict=True) if why is None]
        self.search.put([row for row, _ in wanted], [look for _, look in wanted])


def measure_images(
    bodies: Iterable[Fetched],
    size: int,
    spool: Spool,
    count: Callable[[int], None],
    rules: ImageRules,
    index: EvaluationIndex | None = None,
) -> Measured:
    """Looks at each image as it arrives and puts its bytes aside.

    Args:
      size: how many there are. count: told with each how many have come, or have failed.
      index: of evaluation images. An image that is dropped for its size is not searched for.
    """
    names = ("width", "height", "phash", "sha256", "reason", "detail", "image")
    columns: dict[str, list[Any]] = {name: [None] * size for name in names}
    bytes_fetched = bytes_held = 0
    with _Looks(columns, size, spool, rules, index) as looks:
        group: list[Fetched] = []
        for done, fetched in enumerate(bodies, 1):
            count(done)
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
    return Measured(columns, looks.places, bytes_fetched + bytes_held, looks.search)


class Judged(NamedTuple):
    """Why each image of a shard is dropped, or null; and what was measured of it, by column."""

    reasons: pa.StringArray
    measures: dict[str, pa.Array]


def judge_images(
    measured: Measured, rules: ImageRules, index: EvaluationIndex | None, spool: Spool
) -> Judged:
    """Judges the images of one shard; what is near an evaluation image is judged by the whole
    picture."""
    columns = measured.columns
    if index is not None:
        _look_again(measured, rules, index, spool)
    width = pa.array(columns["width"], pa.int32())
    height = pa.array(columns["height"], pa.int32())
    reasons = pc.coalesce(
        pa.array(columns["reason"], pa.string()),
        size_reasons(width, height, min_side=rules.min_side, max_aspect=rules.max_aspect),
        evaluation_reasons(measured.search.distances, min_distance=rules.min_evaluation_distance),
    )
    return Judged(reasons, overlap_columns(measured.search.nearest, index))


def _look_again(
    measured: Measured, rules: ImageRules, index: EvaluationIndex, spool: Spool
) -> None:
    """Searches once more for the JPEGs that are near, by their whole pictures. Their stored hash
    stays: a shard must not depend on these images in that."""
    search = measured.search
    near = pc.less(search.distances, rules.min_evaluation_distance + index.measure.quick_error)
    for row in np.flatnonzero(pc.fill_null(near, False).to_numpy(zero_copy_only=False)):
        if measured.columns["image"][row].format != "jpeg":
            continue  # it was looked at whole
        body = spool.get(measured.places[row])
        image = examine(body, in_full=True, keep_grey=True)
        if isinstance(image, Image):
            search.put([int(row)], [Look(body, image)])
    search.finish()
