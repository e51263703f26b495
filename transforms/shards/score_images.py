"""The unsafe scores of a shard's images, and what rules of users measure, beside the fetching."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, NamedTuple

import pyarrow as pa

from alignset.transforms.images.displayed_picture import Pixels, rgb_pixels
from alignset.transforms.images.examine import Image
from alignset.transforms.rules.custom import computed
from alignset.transforms.rules.given import UNDECODABLE
from alignset.transforms.rules.rule import Rows, Stage
from alignset.transforms.safety.classifier import open_classifier
from alignset.transforms.safety.unsafe_score import model_pixels, unsafe_scores
from alignset.transforms.shards.shard_images import ShardImages
from alignset.transforms.workers.threads import THREADS, Jobs, SharedThreads
from alignset.transforms.workers.unexpected import tell_once

FAILED_RULE = "failed_rule"  # a column of shards under way, of no file
_BATCH = 16  # images that rules of users are asked of at once, where none is scored
_MOST_WAITING = 16  # batches, of 4 images of 150 KB on a CPU
MOST_SHOWN = 1 << 26  # bytes of images that rules of users see at once, or one image
_SCORING = SharedThreads()


class _Seen(NamedTuple):
    """The pixels of one image, for those who score it.

    Attributes:
      sha256: of its file.
      of_model: uint8[size, size, 3], where there is a model.
      of_rules: uint8[height, width, 3], RGB, where there are rules of users.
    """

    sha256: str
    of_model: Pixels | None
    of_rules: Pixels | None


class ImageScores:
    """Scores images in threads while others are still being fetched.

    Each file is scored once. The pixels for the model wait for their batch, 10 MB of them; where
    rules of users see the images, one batch a thread is under way.

    Args:
      images: of the shard; what cannot be scored is dropped there.
      count: told how many images are done, once all have come.

    Attributes:
      are_wanted: whether there is a model, or a rule of users that sees images.
    """

    def __init__(self, images: ShardImages, count: Callable[[int], None]) -> None:
        self._images, self._count = images, count
        self._model, rules = images.settings.unsafe_model, images.settings.rules
        self._own, self._columns = rules.computing(Stage.PIXELS), rules.computed_columns
        self.are_wanted = self._model is not None or bool(self._own)
        self._jobs = Jobs(_SCORING, THREADS if self._own else _MOST_WAITING)
        self._lock = Lock()
        self._rows: dict[str, list[int]] = {}  # by SHA-256
        self._batch: list[_Seen] = []
        self._batch_bytes = 0
        self._scores: dict[str, float | None] = {}
        self._values: dict[str, dict[str, float]] = {}  # by SHA-256, then by column
        self._failed_rules: dict[str, str] = {}  # of users, by SHA-256
        self._unprepared = set[str]()  # SHA-256 of images that nobody can be shown

    def cancel(self) -> None:
        self._jobs.cancel()

    @property
    def waiting(self) -> int:
        """How many files wait for their score."""
        return len(self._rows) - len(self._scores)

    def add(self, row: int, image: Image) -> None:
        """Has the image of a row scored, which was put aside. For all threads; waits where these
        are far ahead of the scores.

        Args:
          image: what `examine` said of it with `keep_picture`.
        """
        sha256, picture = self._images.sha256[row], image.picture
        assert sha256
        assert picture
        with self._lock:
            rows = self._rows.setdefault(sha256, [])
            rows.append(row)
            if len(rows) > 1:
                return
        try:
            of_model = model_pixels(picture, self._model.wanted) if self._model else None
            seen = _Seen(sha256, of_model, rgb_pixels(picture) if self._own else None)
        except Exception as error:  # it was decoded: whatever this is, is new
            tell_once("preparing an image for its score", error)
            self._unprepared.add(sha256)
            self._scores[sha256] = None
            return
        most = open_classifier(self._model).batch if self._model else _BATCH
        with self._lock:
            self._batch.append(seen)
            self._batch_bytes += 0 if seen.of_rules is None else seen.of_rules.nbytes
            if len(self._batch) < most and self._batch_bytes < MOST_SHOWN:
                return
            batch, self._batch, self._batch_bytes = self._batch, [], 0
        self._jobs.begin(self._score, batch)

    def _score(self, batch: Sequence[_Seen]) -> None:
        for limit in self._own:
            inputs = Rows(pixels=[of.of_rules for of in batch])
            values, failures = computed(limit, inputs, len(batch))
            for of, value, is_broken in zip(batch, values.tolist(), failures.tolist(), strict=True):
                self._values.setdefault(of.sha256, {})[limit.measure.column] = value
                if is_broken:
                    self._failed_rules.setdefault(of.sha256, limit.name)
        scores: list[float | None] = [None] * len(batch)
        if self._model is not None:
            pictures = [of.of_model for of in batch if of.of_model is not None]
            scores = unsafe_scores(pictures, self._model)
        self._scores |= {of.sha256: score for of, score in zip(batch, scores, strict=True)}

    def finish(self) -> None:
        """Waits for the rest, and drops the images that could not be scored.

        Raises:
          InterruptedError: the work of this thread was stopped.
        """
        if self._batch:
            self._jobs.begin(self._score, self._batch)
        for _ in self._jobs.until_done():
            self._count(len(self._images) - self.waiting)
        for sha256, rows in self._rows.items():
            if sha256 in self._unprepared or (self._model and self._scores[sha256] is None):
                for row in rows:
                    self._images.drop(row, UNDECODABLE, "unexpected")

    def columns(self) -> dict[str, pa.Array]:
        """The score of each image of the shard, float64[n], null where there is none; and where
        there are rules of users, what they measured, by column, and which of them failed."""
        size = len(self._images)
        names = ["unsafe_score", *dict.fromkeys(limit.measure.column for limit in self._own)]
        columns: dict[str, list[Any]] = {name: [None] * size for name in (*names, FAILED_RULE)}
        for sha256, rows in self._rows.items():
            values = {"unsafe_score": self._scores[sha256], **self._values.get(sha256, {})}
            for row in rows:
                for name, value in values.items():
                    columns[name][row] = value if value == value else None
                columns[FAILED_RULE][row] = self._failed_rules.get(sha256)
        arrays = {name: pa.array(columns[name], pa.float64()) for name in names}
        return arrays | (
            {FAILED_RULE: pa.array(columns[FAILED_RULE], pa.string())} if self._columns else {}
        )
