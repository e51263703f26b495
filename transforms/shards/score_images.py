"""The unsafe scores of a shard's images, made beside the fetching."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import compress
from threading import Lock, Semaphore
from typing import Any

import pyarrow as pa

from alignset.transforms.images.displayed_picture import Pixels
from alignset.transforms.images.examine import Image
from alignset.transforms.images.small_pixels import MOST_SHOWN, shown_in_groups
from alignset.transforms.rules.catalogue import RunRules
from alignset.transforms.rules.custom import computed
from alignset.transforms.rules.given import UNDECODABLE
from alignset.transforms.rules.rule import Rows, Stage
from alignset.transforms.rules.verdicts import fit, size_rows
from alignset.transforms.safety.classifier import open_classifier
from alignset.transforms.safety.model_files import UnsafeModel
from alignset.transforms.safety.unsafe_score import unsafe_scores
from alignset.transforms.shards.shard_files import Spool
from alignset.transforms.workers.threads import THREADS, check_stopped

# Scores of files that a process has met, over its shards: a file of many URLs is scored once.
KNOWN: dict[tuple[UnsafeModel, str], float | None] = {}
_MOST_KNOWN = 1 << 17  # 40 MB
_LOOK_S = 0.5  # between two looks whether the work is to end
FAILED_RULE = "failed_rule"  # a column of shards under way, of no file
_BATCH = 16  # images that rules of users are asked of at once, where none is scored
_TURNS = Semaphore(THREADS)  # of all shards under way, whose threads would hold as many batches


class ImageScores:
    """Scores images in threads of its own while others are still being fetched.

    What waits is a row number and a place in the spool: the fetching is never held up, and the
    memory is that of a batch a thread. An image that is too small or too long is not scored, and
    each file is scored once.

    Args:
      model: None where nothing is to be scored.
      spool: where the images are.
      rules: those of sizes are judged here.
    """

    def __init__(self, model: UnsafeModel | None, spool: Spool, rules: RunRules) -> None:
        self._model, self._spool, self._rules = model, spool, rules
        self._pool = ThreadPoolExecutor(THREADS)
        self._futures: list[Future[None]] = []
        self._lock = Lock()
        self._rows: dict[str, list[int]] = {}  # by SHA-256
        self._batch: list[tuple[str, Any, tuple[int, int]]] = []
        self._scores: dict[str, float | None] = {}
        self._own = rules.computing(Stage.PIXELS)
        self._measured: dict[str, dict[str, float]] = {}  # by SHA-256, then by column
        self._failed: dict[str, str] = {}  # by SHA-256, which of the rules of users
        self._errors: list[BaseException] = []
        self._count: Callable[[int], None] = lambda waiting: None

    def __enter__(self) -> ImageScores:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    @property
    def waiting(self) -> int:
        """How many files wait for their score."""
        return len(self._rows) - len(self._scores)

    def add(
        self,
        rows: Sequence[int],
        columns: dict[str, list[Any]],
        places: Sequence[tuple[int, int]],
    ) -> None:
        """Has the images of some rows scored. For all threads.

        Args:
          columns: width, height, sha256 and image (what `examine` said), None where there is none.
          places: in the spool.
        """
        if self._model is None and not self._own:
            return
        rows = [row for row in rows if columns["image"][row] is not None]
        width, height = ([columns[name][row] for row in rows] for name in ("width", "height"))
        fitting = compress(rows, fit(self._rules, size_rows(width, height)))
        with self._lock:
            for row in fitting:
                sha256 = columns["sha256"][row]
                if sha256 in self._rows:
                    self._rows[sha256].append(row)
                else:
                    self._rows[sha256] = [row]
                    self._begin(sha256, columns["image"][row], places[row])

    def _begin(self, sha256: str, image: Any, place: tuple[int, int]) -> None:
        if self._model is not None and not self._own:
            with suppress(KeyError):
                self._scores[sha256] = KNOWN[self._model, sha256]
                return
        self._batch.append((sha256, image, place))
        most = _BATCH if self._model is None else open_classifier(self._model).batch
        if len(self._batch) >= most:
            self._send()

    def _send(self) -> None:
        batch, self._batch = self._batch, []
        self._futures.append(self._pool.submit(self._score, batch))

    def _score(self, batch: list[tuple[str, Any, tuple[int, int]]]) -> None:
        if self._errors:
            return
        try:
            with _TURNS:
                known = {} if self._own or self._model is None else self._known(batch)
                batch = [entry for entry in batch if entry[0] not in known]
                images = [(self._spool.get(place), image) for _, image, place in batch]
                shown = self._ask_custom([sha for sha, _, _ in batch], images)
                scores: list[float | None] = [None] * len(batch)
                if self._model is not None and images:
                    scores = unsafe_scores(images, self._model, shown)
            known |= {sha: score for (sha, _, _), score in zip(batch, scores, strict=True)}
            if len(KNOWN) > _MOST_KNOWN:
                KNOWN.clear()
            if self._model is not None:
                KNOWN.update({(self._model, sha): score for sha, score in known.items()})
            self._scores |= known
            self._count(self.waiting)
        except BaseException as error:  # a full disk, no memory; raised again where it is seen
            self._errors.append(error)

    def _ask_custom(
        self, names: Sequence[str], images: Sequence[tuple[bytes, Image]]
    ) -> list[Pixels | None] | None:
        """Notes what rules of users measure of some pictures. Returns the small ones for the score;
        None stands for those that it decodes again."""
        if not self._own:
            return None
        shown: list[Pixels | None] = []
        for group in shown_in_groups(images):
            self._note(names[len(shown) : len(shown) + len(group)], group)
            size = sum(pixels.nbytes for pixels in group if pixels is not None)
            shown += group if size < MOST_SHOWN else [None] * len(group)
        return shown

    def _note(self, names: Sequence[str], shown: Sequence[Pixels | None]) -> None:
        seen = [at for at, pixels in enumerate(shown) if pixels is not None]
        asked = Rows(pixels=[shown[at] for at in seen])
        for limit in self._own:
            values, broken = computed(limit, asked, len(seen))
            for at, value, is_broken in zip(seen, values.tolist(), broken.tolist(), strict=True):
                self._measured.setdefault(names[at], {})[limit.measure.column] = value
                if is_broken:
                    self._failed.setdefault(names[at], limit.name)
            for at in set(range(len(names))) - set(seen):
                self._failed.setdefault(names[at], limit.name)

    def custom_columns(self, size: int) -> dict[str, pa.Array]:
        """What rules of users measured of the n images, by column; and which of them failed."""
        names = dict.fromkeys(limit.measure.column for limit in self._own)
        columns: dict[str, list[Any]] = {name: [None] * size for name in (*names, FAILED_RULE)}
        for sha256, rows in self._rows.items():
            for row in rows:
                for name, value in self._measured.get(sha256, {}).items():
                    columns[name][row] = value if value == value else None
                columns[FAILED_RULE][row] = self._failed.get(sha256)
        kinds = {FAILED_RULE: pa.string()}
        return {n: pa.array(of, kinds.get(n, pa.float64())) for n, of in columns.items()}

    def _known(self, batch: list[tuple[str, Any, tuple[int, int]]]) -> dict[str, float | None]:
        """Those that another shard has scored by now."""
        assert self._model is not None
        known = {}
        for sha256, *_ in batch:
            with suppress(KeyError):
                known[sha256] = KNOWN[self._model, sha256]
        return known

    def finish(self, columns: dict[str, list[Any]], count: Callable[[int], None]) -> pa.DoubleArray:
        """Waits for the rest, and gives an image without a score a reason.

        Args:
          columns: reason and detail, which are set where an image could not be scored.
          count: told how many files still wait.

        Returns:
          float64[n]; null where there is no score.

        Raises:
          InterruptedError: the work of this thread was stopped.
        """
        self._count = count
        with self._lock:
            if self._batch:
                self._send()
        while wait(self._futures, timeout=_LOOK_S).not_done:
            check_stopped()
        if self._errors:
            raise self._errors[0]
        found: list[float | None] = [None] * len(columns["reason"])
        for sha256, rows in self._rows.items():
            for row in rows:
                found[row] = self._scores[sha256]
                if found[row] is None and self._model is not None:
                    columns["reason"][row], columns["detail"][row] = UNDECODABLE, "unexpected"
        return pa.array(found, pa.float64())
