"""The images of a shard, as they arrive: looked at, measured, put aside, judged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Semaphore
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.blocklists.blocklists import NO_LISTS, Blocklists
from alignset.transforms.columns.opt_outs import OPT_OUTS
from alignset.transforms.decontamination.evaluation_overlap import overlap_columns
from alignset.transforms.fetching.body_memory import TakenBytes
from alignset.transforms.fetching.fetch import Fetched
from alignset.transforms.images.examine import Image, Unusable, examine
from alignset.transforms.images.file_look import FileLook
from alignset.transforms.images.resize import plain_form
from alignset.transforms.images.thumbnail import thumbnail
from alignset.transforms.rules import given
from alignset.transforms.rules.catalogue import RunRules, limits
from alignset.transforms.rules.overlap import MIN_EVALUATION_DISTANCE
from alignset.transforms.rules.rule import Rows, Stage
from alignset.transforms.rules.verdicts import faults, first_of, numbers_of, size_rows
from alignset.transforms.shards.blocked_images import blocked_by
from alignset.transforms.shards.evaluation_search import EvaluationSearch
from alignset.transforms.shards.score_images import FAILED_RULE as FAILED_RULE
from alignset.transforms.shards.score_images import ImageScores
from alignset.transforms.shards.shard_files import Spool
from alignset.transforms.shards.stated_wishes import StatedWishes
from alignset.transforms.storage.broken_files import broken_file
from alignset.transforms.storage.files import open_to_read
from alignset.transforms.workers.threads import THREADS
from alignset.transforms.workers.unexpected import tell_once

# Given to a thread together: to hand over costs 50 us. Large ones go alone, for the memory.
IMAGES_AT_ONCE, BYTES_AT_ONCE = 8, 1 << 20
# Of all shards that are under way: their threads, each THREADS, would hold as many pictures more.
_TURNS = Semaphore(THREADS)


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


EMPTY: Mapping[str, pa.Array] = {}


class Measured(NamedTuple):
    """The images of one shard, as columns in the order of its pairs."""

    columns: dict[str, list[Any]]
    places: list[tuple[int, int]]  # in the spool
    bytes_fetched: int


class _Looks:
    """Images looked at by a few threads, each put into its row. No order is kept: one that takes a
    second must not hold up what else arrives."""

    def __init__(
        self,
        columns: dict[str, list[Any]],
        size: int,
        spool: Spool,
        scores: ImageScores,
        search: EvaluationSearch,
        wishes: StatedWishes,
        blocklists: Blocklists,
    ) -> None:
        self._wishes = wishes
        self._blocklists = blocklists
        self.columns, self.places = columns, [(0, 0)] * size
        self._spool, self._scores, self._search = spool, scores, search
        self._pool = ThreadPoolExecutor(THREADS)
        self._room = Semaphore(2 * THREADS)
        self._taken = TakenBytes()
        self._errors: list[BaseException] = []

    def __enter__(self) -> _Looks:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._taken.__exit__()

    def take(self, group: list[Fetched]) -> None:
        """Has them looked at; waits where the threads are far behind."""
        size = sum(len(fetched.body or b"") for fetched in group)
        # Not before: an unfinished group must not keep the fetcher from what would finish it.
        self._taken.add(size)
        self._room.acquire()
        self._raise()
        self._pool.submit(self._look_at, group, size)

    def finish(self) -> None:
        self._pool.shutdown()
        self._raise()
        self._search.finish()

    def _raise(self) -> None:
        if self._errors:
            raise self._errors[0]

    def _look_at(self, group: list[Fetched], size: int) -> None:
        with _TURNS:
            self._look_in_turn(group)
        self._taken.add(-size)

    def _look_in_turn(self, group: list[Fetched]) -> None:
        try:
            examined: dict[int, tuple[bytes, Image | Unusable]] = {}
            for fetched in group:
                look = FileLook(fetched.body or b"")
                if self._is_wanted(fetched, look):
                    examined[fetched.index] = look.body, self._examined(fetched, look)
            self._scores.add(list(examined), self.columns, self.places)
            kept = [row for row in examined if self.columns["reason"][row] is None]
            bodies, images = [examined[row][0] for row in kept], [examined[row][1] for row in kept]
            self._search.add(kept, bodies, images)
        except BaseException as error:  # a full disk; raised again where it is seen
            self._errors.append(error)
        finally:
            self._room.release()

    def _is_wanted(self, fetched: Fetched, look: FileLook) -> bool:
        """Whether nothing is known of an owner who does not want this image used."""
        opt_out = self._wishes.note(fetched, look)
        if opt_out:
            self.columns["reason"][fetched.index] = given.OPTED_OUT
            self.columns["detail"][fetched.index] = opt_out
        return not opt_out

    def _examined(self, fetched: Fetched, look: FileLook) -> Image | Unusable:
        """Examines an image, and puts it into its row and aside."""
        image: Image | Unusable
        if fetched.detail:
            image = Unusable(given.UNDECODABLE, fetched.detail)
        else:
            keep_grey, keep_shown = self._search.index is not None, self._spool.only_plain
            image = examine(look, keep_grey=keep_grey, keep_shown=keep_shown)
        self._put(fetched.index, look, image)
        # Before the next one is decoded.
        return replace(image, shown=None) if isinstance(image, Image) else image

    def _put(self, row: int, look: FileLook, image: Image | Unusable) -> None:
        columns = self.columns
        sha256 = hashlib.sha256(look.body)
        columns["sha256"][row] = sha256.hexdigest()
        if isinstance(image, Unusable):
            columns["reason"][row], columns["detail"][row] = image.reason, image.detail
            return
        columns["width"][row], columns["height"][row] = image.width, image.height
        columns["phash"][row] = image.phash
        if blocked := blocked_by(self._blocklists, look, sha256.digest(), image):
            columns["reason"][row], columns["detail"][row] = given.BLOCKED, blocked
            return
        body, columns["image"][row] = plain_form(look.body, image)
        self.places[row] = self._spool.put(body)


def measure_images(
    bodies: Iterable[Fetched],
    spool: Spool,
    count: Callable[[int], None],
    scores: ImageScores,
    search: EvaluationSearch,
    wishes: StatedWishes,
    blocklists: Blocklists = NO_LISTS,
) -> Measured:
    """Looks at each image as it arrives and puts its bytes aside.

    Args:
      count: told with each how many are done, or have failed.
      scores: what scores those that came, while others still come.
      search: what looks for evaluation images near to them.
      wishes: of so many images; what their owners state is noted there.
      blocklists: an image on one of them is `blocked`, and neither scored nor compared.
    """
    names = ("width", "height", "phash", "sha256", "reason", "detail", "image")
    size = wishes.size
    columns: dict[str, list[Any]] = {name: [None] * size for name in names}
    bytes_fetched = bytes_held = 0
    with _Looks(columns, size, spool, scores, search, wishes, blocklists) as looks:
        group: list[Fetched] = []
        for done, fetched in enumerate(bodies, 1):
            count(done - scores.waiting)
            if fetched.body is None:
                columns["reason"][fetched.index] = _why_missing(fetched)
                columns["detail"][fetched.index] = fetched.listed or fetched.detail
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


def _why_missing(fetched: Fetched) -> str:
    if fetched.listed:
        return given.BLOCKED
    return given.OPTED_OUT if fetched.detail in OPT_OUTS else given.FETCH_FAILED


class Judged(NamedTuple):
    """Why each image of a shard is dropped, or null; and what was measured of it, by column."""

    reasons: pa.StringArray
    measures: dict[str, pa.Array]


def judge_images(
    measured: Measured,
    rules: RunRules,
    search: EvaluationSearch,
    spool: Spool,
    unsafe_scores: pa.DoubleArray,
    custom: Mapping[str, pa.Array] = EMPTY,
) -> Judged:
    """Judges the images of one shard; what is near an evaluation image is judged by the whole
    picture.

    Args:
      search: which has ended. unsafe_scores: float64[n], null where there is none.
      custom: what rules of users measured, by column.
    """
    columns = measured.columns
    _look_again(measured, rules, search, spool)
    measures = {"unsafe_score": unsafe_scores} | overlap_columns(search.nearest, search.index)
    measures |= custom
    own = [limit for limit in limits(rules.images) if limit.stage < Stage.PAIR]
    rows = image_rows(measured, measures, rules.columns)
    found = faults(own, rows, rules.numbers)
    reasons = pc.coalesce(pa.array(columns["reason"], pa.string()), first_of(found))
    copies = np.flatnonzero(pc.equal(reasons, MIN_EVALUATION_DISTANCE.reason).fill_null(False))
    if len(copies):
        measures["thumbnail"] = _thumbnails(measured, copies.tolist(), spool)
    return Judged(reasons, measures)


def image_rows(
    measured: Measured, measures: Mapping[str, pa.Array], columns: Sequence[str] = ()
) -> Rows:
    """What the rules of images ask of the images of a shard; columns: of rules of users."""
    rows = size_rows(measured.columns["width"], measured.columns["height"])
    for name in ("unsafe_score", "evaluation_distance", *columns):
        column = measures.get(name)
        rows[name] = np.full(len(rows["shorter"]), np.nan) if column is None else numbers_of(column)
    return rows


def _thumbnails(measured: Measured, rows: list[int], spool: Spool) -> pa.BinaryArray:
    """binary[n], JPEGs of the images in these rows; null elsewhere."""
    made: list[bytes | None] = [None] * len(measured.places)
    for row in rows:
        try:
            made[row] = thumbnail(spool.get(measured.places[row]), measured.columns["image"][row])
        except Exception as error:  # it is dropped all the same
            tell_once("making a thumbnail", error)
    return pa.array(made, pa.binary())


def _look_again(
    measured: Measured, rules: RunRules, search: EvaluationSearch, spool: Spool
) -> None:
    """Searches once more for the JPEGs that are near, by their whole pictures. Their stored hash
    stays: a shard must not depend on evaluation images in that."""
    if search.index is None or not search.index.measure.quick_error:
        return
    least = rules.numbers[MIN_EVALUATION_DISTANCE.name] + search.index.measure.quick_error
    near = pc.less(search.distances, least)
    for row in np.flatnonzero(pc.fill_null(near, False).to_numpy(zero_copy_only=False)):
        if measured.columns["image"][row].format == "jpeg":  # others were looked at whole
            body = spool.get(measured.places[row])
            image = examine(body, in_full=True, keep_grey=True)
            search.add([int(row)], [body], [image], in_full=True)
    search.finish()
