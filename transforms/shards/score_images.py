"""The unsafe scores of a shard's images, and what rules of users measure, beside the fetching."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import compress
from threading import Lock
from typing import Any

import pyarrow as pa

from alignset.transforms.images.displayed_picture import Pixels
from alignset.transforms.images.examine import Image
from alignset.transforms.images.small_pixels import MOST_SHOWN, shown_in_groups
from alignset.transforms.rules.custom import computed
from alignset.transforms.rules.given import UNDECODABLE
from alignset.transforms.rules.rule import Rows, Stage
from alignset.transforms.rules.verdicts import fit, size_rows
from alignset.transforms.safety.classifier import open_classifier
from alignset.transforms.safety.unsafe_score import unsafe_scores
from alignset.transforms.shards.shard_images import ShardImages
from alignset.transforms.workers.threads import Jobs, SharedThreads

FAILED_RULE = "failed_rule"  # a column of shards under way, of no file
_BATCH = 16  # images that rules of users are asked of at once, where none is scored
_SCORING = SharedThreads()


class ImageScores:
    """Scores images in threads while others are still being fetched.

    The queue holds row numbers, so fetching never blocks, and the memory is one batch a thread. An
    image that is too small or too long is not scored, and each file is scored once.

    Args:
      images: of the shard; what cannot be scored is dropped there.
      count: told how many images are done, once all have come.
    """

    def __init__(self, images: ShardImages, count: Callable[[int], None]) -> None:
        self._images, self._count, self._rules = images, count, images.settings.rules
        self._model = images.settings.unsafe_model
        self._jobs = Jobs(_SCORING)
        self._lock = Lock()
        self._rows: dict[str, list[int]] = {}  # by SHA-256
        self._batch: list[str] = []  # the SHA-256 of each
        self._scores: dict[str, float | None] = {}
        self._own = self._rules.computing(Stage.PIXELS)
        self._values: dict[str, dict[str, float]] = {}  # by SHA-256, then by column
        self._failed_rules: dict[str, str] = {}  # of users, by SHA-256

    def cancel(self) -> None:
        self._jobs.cancel()

    @property
    def waiting(self) -> int:
        """How many files wait for their score."""
        return len(self._rows) - len(self._scores)

    def add(self, rows: Iterable[int]) -> None:
        """Has the images of some rows scored, whose files were put aside. For all threads."""
        if self._model is None and not self._own:
            return
        rows = [*rows]
        sizes = [self._images.sizes[row] or (0, 0) for row in rows]
        of_sizes = size_rows([width for width, _ in sizes], [height for _, height in sizes])
        most = _BATCH if self._model is None else open_classifier(self._model).batch
        with self._lock:
            for row in compress(rows, fit(self._rules, of_sizes)):
                sha256 = self._images.sha256[row]
                assert sha256
                if sha256 in self._rows:
                    self._rows[sha256].append(row)
                    continue
                self._rows[sha256] = [row]
                self._batch.append(sha256)
                if len(self._batch) >= most:
                    self._send()

    def _send(self) -> None:
        batch, self._batch = self._batch, []
        self._jobs.begin(self._score, batch)

    def _score(self, batch: list[str]) -> None:
        images = [self._images.stored_file(self._rows[sha256][0]) for sha256 in batch]
        pictures = self._ask_custom(batch, images)
        scores: list[float | None] = [None] * len(batch)
        if self._model is not None:
            scores = unsafe_scores(images, self._model, pictures)
        self._scores |= dict(zip(batch, scores, strict=True))

    def _ask_custom(
        self, batch: Sequence[str], images: Sequence[tuple[bytes, Image]]
    ) -> list[Pixels | None] | None:
        """Notes what rules of users measure of some images. Returns the small ones for the score;
        None stands for those that it decodes again."""
        if not self._own:
            return None
        pictures: list[Pixels | None] = []
        for group in shown_in_groups(images):
            self._note(batch[len(pictures) : len(pictures) + len(group)], group)
            size = sum(pixels.nbytes for pixels in group if pixels is not None)
            pictures += group if size < MOST_SHOWN else [None] * len(group)
        return pictures

    def _note(self, batch: Sequence[str], pictures: Sequence[Pixels | None]) -> None:
        present = [at for at, pixels in enumerate(pictures) if pixels is not None]
        inputs = Rows(pixels=[pictures[at] for at in present])
        for limit in self._own:
            values, failures = computed(limit, inputs, len(present))
            for at, value, is_broken in zip(
                present, values.tolist(), failures.tolist(), strict=True
            ):
                self._values.setdefault(batch[at], {})[limit.measure.column] = value
                if is_broken:
                    self._failed_rules.setdefault(batch[at], limit.name)
            for at in set(range(len(batch))) - set(present):
                self._failed_rules.setdefault(batch[at], limit.name)

    def finish(self) -> None:
        """Waits for the rest, and drops the images that could not be scored.

        Raises:
          InterruptedError: the work of this thread was stopped.
        """
        with self._lock:
            if self._batch:
                self._send()
        for _ in self._jobs.until_done():
            self._count(len(self._images) - self.waiting)
        for sha256, rows in self._rows.items():
            if self._model is not None and self._scores[sha256] is None:
                for row in rows:
                    self._images.drop(row, UNDECODABLE, "unexpected")

    def columns(self) -> dict[str, pa.Array]:
        """The score of each image of the shard, float64[n], null where there is none; and where
        there are rules of users, what they measured, by column, and which of them failed."""
        size, own = len(self._images), self._rules.columns
        names = ["unsafe_score", *dict.fromkeys(limit.measure.column for limit in self._own)]
        columns: dict[str, list[Any]] = {name: [None] * size for name in (*names, FAILED_RULE)}
        for sha256, rows in self._rows.items():
            values = {"unsafe_score": self._scores[sha256], **self._values.get(sha256, {})}
            for row in rows:
                for name, value in values.items():
                    columns[name][row] = value if value == value else None
                columns[FAILED_RULE][row] = self._failed_rules.get(sha256)
        arrays = {name: pa.array(columns[name], pa.float64()) for name in names}
        return arrays | ({FAILED_RULE: pa.array(columns[FAILED_RULE], pa.string())} if own else {})
