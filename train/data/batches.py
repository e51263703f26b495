"""Batches of decoded pairs: one stream a process, in an order that can be resumed; and the inputs
that the model gets of them: pixels as they were decoded, and texts in buckets of like length."""

import random
import threading
import zlib
from bisect import bisect
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import accumulate, count
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast

from alignset.train.data.find_shards import ShardSet
from alignset.train.data.images import decode_square, random_crop
from alignset.train.data.order import Cursor, Order, Position, read_in_order
from alignset.train.data.samples import FIELD, ShardSample, caption_lines
from alignset.train.data.shard_index import ShardIndex
from alignset.train.errors import TrainingError
from alignset.train.settings import Settings
from alignset.transforms.workers.limited_process import CostlyError

_MAX_AHEAD = 2_048  # samples
MAX_BYTES_AHEAD = 1 << 30  # of their images
_GOLDEN = 0.6180339887498949
_FIRST_JUDGED = 1_000  # samples; of fewer, a share says little
_LONGEST_CLOSE_S = 5.0  # that a read which waits for a store may hold up the end of a run


_Decoding = tuple[int, Cursor, ShardSample, Future[np.ndarray | str]]  # first the set's number


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

        Threads read and decode ahead, also while a step's gradients are computed and nobody asks: a
        batch, or as much of one as memory is for (2048 crops of 289 px are 0.5 GB).

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
        samples, reasons = position.samples, dict(position.reasons)
        pixels, texts = list[np.ndarray](), list[str]()
        with ThreadPoolExecutor(self.settings.decode_threads) as pool:

            def decode(turn: int) -> _Decoding:
                of_set = bisect(bounds, turn * _GOLDEN % 1)
                cursor, sample = next(streams[of_set])
                return of_set, cursor, sample, pool.submit(self._crop, cursor, sample)

            turns = (turn for turn in count(position.samples))
            decoding = prefetch(turns, decode, ahead, lambda item: len(item[2].image or b""))
            try:
                for of_set, cursor, sample, crop in decoding:
                    cursors[of_set], samples = cursor, samples + 1
                    image = crop.result()
                    if isinstance(image, str):
                        reasons[image] += 1
                        check_skipped(
                            reasons, samples, self.settings, sample.key, processes=self.processes
                        )
                        continue
                    pixels.append(image)
                    texts.append(self._caption(cursor, sample))
                    if len(texts) == size:
                        here = Position(tuple(cursors), samples, dict(reasons))
                        yield Batch(np.stack(pixels), texts, here)
                        pixels, texts = [], []
            finally:
                decoding.close()
                pool.shutdown(cancel_futures=True)

    def _stream(
        self, index: ShardIndex, share: float, cursor: Cursor
    ) -> Iterator[tuple[Cursor, ShardSample]]:
        """This process's samples of one dataset; the windows of all hold shuffle_samples."""
        window = max(1, round(self.settings.shuffle_samples * share))
        order = Order(index, self.settings.seed, window, self.rank, self.processes)
        return read_in_order(order, cursor, self.settings.caption_places())

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
        """One of the texts that it has, drawn by their weights; where its lines are captions, one
        of them: in the next epoch the next."""
        weights = self.settings.caption_places()
        texts = {p: text for p, text in zip(weights, sample.texts, strict=True) if text}
        seed, epoch = self.settings.seed, cursor.epoch
        rng = random.Random(zlib.crc32(f"{seed} {epoch} {sample.key} text".encode()))
        place = rng.choices([*texts], [weights[place] for place in texts])[0]
        if not (self.settings.caption_lines or place.startswith(FIELD)):
            return texts[place]
        lines = caption_lines(texts[place])
        return lines[(zlib.crc32(sample.key.encode()) + epoch) % len(lines)]


def check_skipped(
    reasons: dict[str, int],
    samples: int,
    settings: Settings,
    key: str = "",
    *,
    processes: int = 1,
) -> None:
    """Raises TrainingError where too many of so many samples can't be used.

    Args:
      reasons: how many, by why.
      key: of the last of them, where it is known.
      processes: how many share the run, where these are one's alone: bad samples may lie together,
        so it may have so many times the share, or half.
    """
    total, allowed = sum(reasons.values()), settings.max_skipped_share
    most = max(allowed, min(0.5, allowed * processes))
    if total > most * max(samples, _FIRST_JUDGED):
        counts = ", ".join(f"{count} {reason}" for reason, count in reasons.items() if count)
        look = "look at the shards, where an image and its text must follow each other"
        if settings.caption_flag and 2 * reasons["no_text"] > total:
            look = f"look whether KEY.json has the field {settings.caption_flag}"
        counts += f"; the last is {key}" if key else ""
        raise TrainingError(
            f"{total} of {samples} samples cannot be used ({counts}): {look}, "
            f"or raise max_skipped_share; it is {allowed}"
        )


T = TypeVar("T")
R = TypeVar("R")


class TextBuckets(NamedTuple):
    """A batch's texts, sorted by length and cut into buckets, each padded to its own longest."""

    buckets: list[tuple[torch.Tensor, torch.Tensor]]  # of (ids, mask), both int64[b_i, t_i]
    place: torch.Tensor  # int64[b]: where in the buckets, put one behind the other, text i is

    def map(self, change: "Callable[[torch.Tensor], torch.Tensor]") -> "TextBuckets":
        buckets = [(change(ids), change(mask)) for ids, mask in self.buckets]
        return TextBuckets(buckets, change(self.place))


class Inputs(NamedTuple):
    """A micro-batch, on the CPU; the model takes it to its device."""

    pixels: torch.Tensor  # uint8[b, h, w, 3]: a quarter of the memory that floats take
    texts: TextBuckets
    captions: list[str]  # the texts as they are
    position: Position  # behind the last sample

    def map(self, change: "Callable[[torch.Tensor], torch.Tensor]") -> "Inputs":
        """With each tensor changed."""
        return self._replace(pixels=change(self.pixels), texts=self.texts.map(change))


def make_inputs(
    batch: Batch, tokenizer: PreTrainedTokenizerFast, settings: Settings, *, gpu: int | None = None
) -> Inputs:
    """
    Args:
      gpu: the number of the GPU that they are for, which reads them by itself: they are then in
        memory that stays where it is (pinned).
    """
    texts = encode_texts(batch.texts, tokenizer, settings)
    inputs = Inputs(torch.from_numpy(batch.pixels), texts, batch.texts, batch.position)
    if gpu is None:
        return inputs
    with torch.cuda.device(gpu):  # a thread begins with the first one, and would take memory there
        return inputs.map(torch.Tensor.pin_memory)


def encode_texts(
    texts: list[str], tokenizer: PreTrainedTokenizerFast, settings: Settings
) -> TextBuckets:
    """Wordpieces, at most max_tokens of each text."""
    pieces = tokenizer(texts, truncation=True, max_length=settings.max_tokens)["input_ids"]
    lengths = np.array([len(ids) for ids in pieces])
    order = np.argsort(lengths, kind="stable")
    buckets = []
    for rows in np.array_split(order, min(settings.text_buckets, len(texts))):
        ids = np.full((len(rows), lengths[rows].max()), tokenizer.pad_token_id)  # int64[b_i, t_i]
        mask = np.arange(ids.shape[1]) < lengths[rows, None]  # bool[b_i, t_i]
        ids[mask] = np.concatenate([pieces[i] for i in rows])
        buckets.append((torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64))))
    return TextBuckets(buckets, torch.from_numpy(np.argsort(order)))


def move_inputs(inputs: Inputs, device: torch.device) -> Inputs:
    """Copies of its tensors; on a GPU they are made in the background, if they are pinned."""
    return inputs.map(lambda tensor: tensor.to(device, non_blocking=True))


def prefetch(
    items: Generator[T, None, None],
    prepare: Callable[[T], R],
    most: int = 0,
    image_bytes: Callable[[R], int] = lambda _: 0,
) -> Generator[R, None, None]:
    """Results of `prepare` for each item in order, made in a thread meanwhile: the next one, and
    `most` behind it or MAX_BYTES_AHEAD of their images; an error in its place. Closing it ends the
    thread behind the item that it makes, and closes `items`."""
    ready, changed, error = deque[R](), threading.Condition(), list[BaseException]()
    bytes_ahead, is_over, is_closed = 0, False, False

    def is_due() -> bool:
        return is_closed or not ready or (len(ready) <= most and bytes_ahead <= MAX_BYTES_AHEAD)

    def make() -> None:
        nonlocal bytes_ahead, is_over
        try:
            with closing(items):
                for result in map(prepare, items):
                    with changed:
                        ready.append(result)
                        bytes_ahead += image_bytes(result)
                        changed.notify_all()
                        changed.wait_for(is_due)
                        if is_closed:
                            return
        except BaseException as raised:
            error.append(raised)
        finally:
            with changed:
                is_over = True
                changed.notify_all()

    thread = threading.Thread(target=make, name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            with changed:
                changed.wait_for(lambda: ready or is_over)
                if not ready:
                    break
                result = ready.popleft()
                bytes_ahead -= image_bytes(result)
                changed.notify_all()
            yield result
        if error:
            raise error[0]
    finally:
        with changed:
            is_closed = True
            changed.notify_all()
        thread.join(_LONGEST_CLOSE_S)
