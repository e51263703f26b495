"""Batches of decoded pairs: one stream a process, in an order that can be resumed."""

import random
import zlib
from bisect import bisect
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
from PIL import Image

from alignset.train.data.find_shards import ShardSet
from alignset.train.data.images import decode_square, random_crop
from alignset.train.data.order import Order, read_in_order
from alignset.train.data.position import Cursor, Position, check_skipped
from alignset.train.data.samples import ShardSample, caption_lines
from alignset.train.data.shard_index import ShardIndex
from alignset.train.settings import Settings
from alignset.transforms.workers.limited_process import CostlyError

_MAX_AHEAD = 2_048  # samples
MAX_BYTES_AHEAD = 1 << 30  # of their images
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class Batch:
    pixels: np.ndarray  # uint8[b, crop_px, crop_px, 3]
    texts: list[str]  # b of them
    position: Position  # behind the last sample of this batch


@dataclass(eq=False)
class TrainingData:
    """One process's endless stream of batches.

    The order and every crop follow from (seed, epoch, key) and the number of processes alone: no
    generator's state has to be saved, and the stream from a position equals the rest of the stream
    that reached it. A resume reads one shuffle window.
    """

    sets: list[ShardSet]
    indexes: list[ShardIndex]  # of each set
    settings: Settings
    rank: int = 0
    processes: int = 1
    _pixel_cache: dict[str, np.ndarray] = field(default_factory=dict)

    def batches(self, position: Position) -> Generator[Batch, None, None]:
        """Full micro-batches of this process's pairs, for ever; one may span two epochs.

        Which set gives the n-th sample follows from n: multiples of the golden ratio modulo 1 lie
        more evenly than random numbers, so that every batch has the datasets' shares nearly
        exactly.

        Threads decode ahead of whoever asks: a batch, for while a step's gradients are computed
        nobody does, or as much of one as memory is for (2048 crops of 289 px are 0.5 GB).

        Raises:
          TrainingError: too many samples can't be used, or a shard can't be read.
        """
        _, size = self.settings.micro_batches(self.processes)
        ahead = min(self.settings.batch_size // self.processes, _MAX_AHEAD)
        cursors = list(position.cursors or [Cursor()] * len(self.sets))
        weights = [shard_set.weight for shard_set in self.sets]
        shares = [weight / sum(weights) for weight in weights]  # of the samples
        streams = [*map(self._stream, self.indexes, shares, cursors)]
        *bounds, _ = accumulate(shares)
        turn, samples, reasons = position.samples, position.samples, dict(position.reasons)
        decoding: deque[tuple[int, Cursor, ShardSample, Future[np.ndarray | str]]] = deque()
        bytes_ahead = 0
        pixels, texts = list[np.ndarray](), list[str]()
        with ThreadPoolExecutor(self.settings.decode_threads) as pool:
            try:
                while True:
                    while not decoding or (
                        len(decoding) <= ahead and bytes_ahead <= MAX_BYTES_AHEAD
                    ):
                        of_set = bisect(bounds, turn * _GOLDEN % 1)
                        cursor, sample = next(streams[of_set])
                        crop = pool.submit(self._crop, cursor, sample)
                        decoding.append((of_set, cursor, sample, crop))
                        turn, bytes_ahead = turn + 1, bytes_ahead + len(sample.image or b"")
                    of_set, cursor, sample, crop = decoding.popleft()
                    bytes_ahead -= len(sample.image or b"")
                    cursors[of_set], samples = cursor, samples + 1
                    image = crop.result()
                    if isinstance(image, str):
                        reasons[image] += 1
                        check_skipped(reasons, samples, self.settings, sample.key)
                        continue
                    pixels.append(image)
                    texts.append(self._caption(cursor, sample))
                    if len(texts) == size:
                        here = Position(tuple(cursors), samples, dict(reasons))
                        yield Batch(np.stack(pixels), texts, here)
                        pixels, texts = [], []
            finally:
                pool.shutdown(cancel_futures=True)

    def _stream(
        self, index: ShardIndex, share: float, cursor: Cursor
    ) -> Iterator[tuple[Cursor, ShardSample]]:
        """This process's samples of one dataset; the windows of all hold shuffle_samples."""
        window = max(1, round(self.settings.shuffle_samples * share))
        order = Order(index, self.settings.seed, window, self.rank, self.processes)
        return read_in_order(order, cursor, self.settings.caption_field)

    def _crop(self, cursor: Cursor, sample: ShardSample) -> np.ndarray | str:
        """uint8[crop_px, crop_px, 3], or why there is none."""
        settings = self.settings
        if sample.too_large:
            return "too_large"
        if sample.image is None or sample.text is None:
            return "no_image" if sample.image is None else "no_text"
        name = f"{sample.key} {hash(sample.image)}"  # keys of two datasets may be equal
        pixels = self._pixel_cache.get(name)
        if pixels is None:
            try:
                pixels = decode_square(sample.image, settings.resize_px)
            except (Image.DecompressionBombError, CostlyError):
                return "too_large"
            except Exception:  # Pillow raises many kinds; a bad sample must not end a long run
                return "undecodable"
            if len(self._pixel_cache) < settings.cached_images:
                self._pixel_cache[name] = pixels
        rng = random.Random(zlib.crc32(f"{settings.seed} {cursor.epoch} {sample.key}".encode()))
        return random_crop(pixels, settings.crop_px, rng, flip=settings.horizontal_flip)

    def _caption(self, cursor: Cursor, sample: ShardSample) -> str:
        """The text or, where its lines are captions, one of them: in the next epoch the next."""
        assert sample.text is not None  # `_crop` gives no image of one without
        if not (self.settings.caption_lines or self.settings.caption_field):
            return sample.text
        lines = caption_lines(sample.text)
        return lines[(zlib.crc32(sample.key.encode()) + cursor.epoch) % len(lines)]
