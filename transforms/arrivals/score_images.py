"""The unsafe scores of a shard's images, and what rules of users measure, beside the fetching."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import NamedTuple

from alignset.transforms.arrivals.images import Images
from alignset.transforms.images.decode import Pixels, rgb_pixels
from alignset.transforms.images.examine import Image
from alignset.transforms.rules.custom import UserRows, computed
from alignset.transforms.rules.given import UNDECODABLE
from alignset.transforms.rules.rule import Stage
from alignset.transforms.rules.rule_settings import RuleSettings
from alignset.transforms.safety.classifier import model_pixels, open_classifier, unsafe_scores
from alignset.transforms.safety.model_files import UnsafeModel
from alignset.transforms.workers.threads import THREADS, Jobs, SharedThreads
from alignset.transforms.workers.unexpected import tell_once

_BATCH = 16  # images that rules of users are asked of at once, where none is scored
_MOST_WAITING = 16  # batches, of 4 images of 150 KB on a CPU
MOST_SHOWN = 1 << 26  # bytes of images that rules of users see at once, or one image
_SCORING = SharedThreads()


class _Seen(NamedTuple):
    """The pixels of the first image with its bytes, for those who score it.

    Attributes:
      of_model: uint8[size, size, 3], where there is a model.
      of_rules: uint8[height, width, 3], RGB, where there are rules of users.
    """

    row: int
    of_model: Pixels | None
    of_rules: Pixels | None


class ImageScores:
    """Scores images in threads while others are still being fetched.

    Each file is scored once. The pixels for the model wait for their batch, 10 MB of them; where
    rules of users see the images, one batch a thread is under way.

    Args:
      images: of the shard; their scores are noted there, and what cannot be scored is dropped.
      count: called with the number of images that are done, once all have come.

    Attributes:
      are_wanted: whether there is a model, or a rule of users that sees images.
      waiting: how many files wait for their score.
    """

    def __init__(
        self,
        images: Images,
        rules: RuleSettings,
        model: UnsafeModel | None,
        count: Callable[[int], None],
    ) -> None:
        self._images, self._count, self._model = images, count, model
        self._rules = rules.computing(Stage.PIXELS)
        self.are_wanted = model is not None or bool(self._rules)
        self._jobs = Jobs(_SCORING, THREADS if self._rules else _MOST_WAITING)
        self._lock = Lock()
        self._rows: dict[str, list[int]] = {}  # by SHA-256; the first is scored
        self._batch: list[_Seen] = []
        self._batch_bytes = self.waiting = 0

    def cancel(self) -> None:
        self._jobs.cancel()

    def add(self, row: int, image: Image) -> None:
        """Has the image of a row scored, which was put aside. For all threads; waits where these
        are far ahead of the scores.

        Args:
          image: what `examine` said of it with `keep_picture`.
        """
        picture = image.picture
        assert picture
        with self._lock:
            rows = self._rows.setdefault(self._images["sha256"][row], [])
            rows.append(row)
            if len(rows) > 1:
                return
            self.waiting += 1
        try:
            of_model = model_pixels(picture, self._model.wanted) if self._model else None
            seen = _Seen(row, of_model, rgb_pixels(picture) if self._rules else None)
        except Exception as error:  # it was decoded: whatever this is, is new
            tell_once("preparing an image for its score", error)
            self._unscored(row)
            with self._lock:
                self.waiting -= 1
            return
        batch_size = open_classifier(self._model).batch if self._model else _BATCH
        with self._lock:
            self._batch.append(seen)
            self._batch_bytes += 0 if seen.of_rules is None else seen.of_rules.nbytes
            if len(self._batch) < batch_size and self._batch_bytes < MOST_SHOWN:
                return
            batch, self._batch, self._batch_bytes = self._batch, [], 0
        self._jobs.begin(self._score, batch)

    def _unscored(self, row: int) -> None:
        self._images.drop(row, UNDECODABLE, "unexpected")

    def _score(self, batch: Sequence[_Seen]) -> None:
        note = self._images.note
        for limit in self._rules:
            inputs = UserRows(pixels=[seen.of_rules for seen in batch])
            values, failures = computed(limit, inputs, len(batch))
            for seen, value, is_broken in zip(
                batch, values.tolist(), failures.tolist(), strict=True
            ):
                note(seen.row, **{limit.measure.column: value if value == value else None})
                if is_broken and not self._images["failed_rule"][seen.row]:
                    note(seen.row, failed_rule=limit.name)
        if self._model is not None:
            pictures = [seen.of_model for seen in batch if seen.of_model is not None]
            for seen, score in zip(batch, unsafe_scores(pictures, self._model), strict=True):
                note(seen.row, unsafe_score=score)
                if score is None:
                    self._unscored(seen.row)
        with self._lock:
            self.waiting -= len(batch)

    def finish(self) -> None:
        """Waits for the rest; notes the scores of images with equal bytes.

        Raises:
          InterruptedError: the work of this thread was stopped.
        """
        if self._batch:
            self._jobs.begin(self._score, self._batch)
        for _ in self._jobs.wait_until_done():
            self._count(len(self._images) - self.waiting)
        columns = {"unsafe_score", "failed_rule", *(of.measure.column for of in self._rules)}
        for first, *equal in self._rows.values():
            for row in equal:
                self._images.note(row, **{name: self._images[name][first] for name in columns})
                if self._images["reason"][first]:
                    self._unscored(row)
