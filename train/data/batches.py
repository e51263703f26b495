"""Batches of decoded pairs: one stream a process, in an order that can be gone on with."""

import random
import zlib
from bisect import bisect
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TypedDict

import numpy as np
from PIL import Image

from train.data.ahead import ahead
from train.data.find_shards import ShardSet
from train.data.images import decode_square, random_crop
from train.data.samples import Sample, caption_lines
from train.data.shuffled_streams import Cursor, ShuffledStream
from train.errors import TrainingError
from train.settings import Settings

SKIPPED = (
    "no_image",
    "no_text",
    "scattered",
    "too_large",
    "undecodable",
)  # why a sample can be left out
_FIRST_JUDGED = 1_000  # samples; of fewer, a share says little
_MAX_AHEAD = 2_048  # samples
MAX_BYTES_AHEAD = 1 << 30  # of their images
_GOLDEN = 0.6180339887498949


class PositionState(TypedDict):
    """A Position as plain values, for a checkpoint."""

    cursors: list[tuple[int, ...]]
    samples: int
    reasons: dict[str, int]


@dataclass(frozen=True)
class Position:
    """How far one process has read."""

    cursors: tuple[Cursor, ...] = ()  # of each set
    samples: int = 0  # of the whole run, skipped ones among them
    reasons: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SKIPPED, 0))

    @property
    def skipped(self) -> int:
        return sum(self.reasons.values())

    @property
    def epoch(self) -> int:
        """Whole epochs, of the set that has had fewest."""
        return min((cursor.epoch for cursor in self.cursors), default=0)

    def counts(self) -> dict[str, int]:
        """How many samples were skipped, and for which reasons, as metrics have it."""
        why = {f"skipped_{reason}": count for reason, count in self.reasons.items() if count}
        return {"skipped": self.skipped} | why

    def state(self) -> PositionState:
        cursors = [tuple(cursor) for cursor in self.cursors]
        return {"cursors": cursors, "samples": self.samples, "reasons": self.reasons}

    @classmethod
    def from_state(cls, state: PositionState) -> "Position":
        cursors = tuple(Cursor(*cursor) for cursor in state["cursors"])
        return cls(cursors, state["samples"], dict.fromkeys(SKIPPED, 0) | state["reasons"])


@dataclass(frozen=True)
class Batch:
    pixels: np.ndarray  # uint8[b, crop_px, crop_px, 3]
    texts: list[str]  # b of them
    position: Position  # behind the last sample of this batch


@dataclass(eq=False)
class TrainingData:
    """One process's endless stream of batches.

    The order and every crop follow from (seed, epoch, key) alone: no generator's state has to be
    saved, and the stream from a position equals the rest of the stream that reached it. Going on
    reads one shuffle window, and of the shard where it begins the headers before it.
    """

    sets: list[ShardSet]
    settings: Settings
    rank: int = 0
    processes: int = 1
    _resized: dict[str, np.ndarray] = field(default_factory=dict)

    def batches(self, position: Position) -> Iterator[Batch]:
        """Full micro-batches of this process's pairs, for ever; one may span two epochs.

        Raises:
          TrainingError: too many samples can't be used, or a shard can't be read.
        """
        return ahead(self._batches(position), 1)

    def _batches(self, position: Position) -> Generator[Batch, None, None]:
        _, size = self.settings.micro_batches(self.processes)
        cursors = list(position.cursors or [Cursor()] * len(self.sets))
        samples, reasons = position.samples, dict(position.reasons)
        pixels: list[np.ndarray] = []
        texts: list[str] = []
        for number, cursor, sample, image in self._decoded(cursors, samples):
            cursors[number], samples = cursor, samples + 1
            if isinstance(image, str):
                reasons[image] += 1
                self._check_skipped(reasons, samples, sample.key)
                continue
            pixels.append(image)
            texts.append(self._caption(cursor, sample))
            if len(texts) == size:
                yield Batch(np.stack(pixels), texts, Position(tuple(cursors), samples, reasons))
                pixels, texts, reasons = [], [], dict(reasons)

    def _decoded(
        self, cursors: list[Cursor], samples: int
    ) -> Iterator[tuple[int, Cursor, Sample, np.ndarray | str]]:
        """(which set, cursor behind it, sample, uint8[crop_px, crop_px, 3] or why it is skipped).

        Threads decode ahead of whoever asks: a batch, for while a step's gradients are computed
        nobody does, or as much of one as memory is for (2048 crops of 289 px are 0.5 GB).
        """
        pending: deque[tuple[int, Cursor, Sample, Future[np.ndarray | str]]] = deque()
        count = min(self.settings.batch_size // self.processes, _MAX_AHEAD)
        held = 0  # bytes
        with ThreadPoolExecutor(self.settings.decode_threads) as pool:
            try:
                for number, cursor, sample in self._samples(cursors, samples):
                    crop = pool.submit(self._crop, cursor, sample)
                    pending.append((number, cursor, sample, crop))
                    held += len(sample.image or b"")
                    while len(pending) > count or (held > MAX_BYTES_AHEAD and pending):
                        number, cursor, sample, crop = pending.popleft()
                        held -= len(sample.image or b"")
                        yield number, cursor, sample, crop.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _samples(self, cursors: list[Cursor], samples: int) -> Iterator[tuple[int, Cursor, Sample]]:
        """The sets' samples, mixed by weight.

        Which set gives the n-th follows from n: multiples of the golden ratio modulo 1 lie more
        evenly than random numbers, so that every batch has the sets' shares nearly exactly.
        """
        settings = self.settings
        # Together they hold shuffle_samples, each as many as it is drawn from.
        total = sum(shard_set.weight for shard_set in self.sets)
        shares = [shard_set.weight / total for shard_set in self.sets]
        bounds = list(accumulate(shares[:-1]))
        streams = []
        for shard_set, share, cursor in zip(self.sets, shares, tuple(cursors), strict=True):
            window = max(1, round(settings.shuffle_samples * share))
            stream = ShuffledStream(
                shard_set.shards, settings.seed, window, self.rank, self.processes
            )
            streams.append(stream.samples(cursor))
        while True:
            number = bisect(bounds, samples * _GOLDEN % 1)
            yield number, *next(streams[number])
            samples += 1

    def _crop(self, cursor: Cursor, sample: Sample) -> np.ndarray | str:
        """uint8[crop_px, crop_px, 3], or why there is none."""
        settings = self.settings
        if sample.scattered:
            return "scattered"
        if sample.too_large:
            return "too_large"
        if sample.image is None or sample.text is None:
            return "no_image" if sample.image is None else "no_text"
        name = f"{sample.key} {hash(sample.image)}"  # keys of two data sets may be equal
        pixels = self._resized.get(name)
        if pixels is None:
            try:
                pixels = decode_square(sample.image, settings.resize_px)
            except Image.DecompressionBombError:
                return "too_large"
            except Exception:  # Pillow raises many kinds; a bad sample must not end a long run
                return "undecodable"
            if len(self._resized) < settings.cached_images:
                self._resized[name] = pixels
        rng = random.Random(zlib.crc32(f"{settings.seed} {cursor.epoch} {sample.key}".encode()))
        return random_crop(pixels, settings.crop_px, rng, flip=settings.horizontal_flip)

    def _caption(self, cursor: Cursor, sample: Sample) -> str:
        """The text or, where its lines are captions, one of them: in the next epoch the next."""
        assert sample.text is not None  # `_crop` gives no image of one without
        if not self.settings.caption_lines:
            return sample.text
        lines = caption_lines(sample.text)
        return lines[(zlib.crc32(sample.key.encode()) + cursor.epoch) % len(lines)]

    def _check_skipped(self, reasons: dict[str, int], samples: int, key: str) -> None:
        total = sum(reasons.values())
        if total > self.settings.max_skipped_share * max(samples, _FIRST_JUDGED):
            counts = ", ".join(f"{count} {reason}" for reason, count in reasons.items() if count)
            raise TrainingError(
                f"{total} of {samples} samples cannot be used ({counts}; the last is {key}): look "
                "at the shards, where an image and its text must follow each other, or raise "
                "max_skipped_share; "
                f"it is {self.settings.max_skipped_share}"
            )
