"""Pairs out of WebDataset shards: one ordered stream that can go on from any place in it."""

import glob
import io
import random
import tarfile
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import webdataset as wds
from PIL import Image, ImageOps

from train.errors import SettingsError
from train.settings import Settings

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")


@dataclass(frozen=True)
class Position:
    """How far one process has read."""

    epoch: int = 0  # whole epochs
    samples: int = 0  # of this epoch, skipped ones among them
    skipped: int = 0  # samples of the whole run that could not be decoded


@dataclass(frozen=True)
class Batch:
    pixels: np.ndarray  # uint8[b, crop_px, crop_px, 3]
    texts: list[str]  # b of them
    position: Position  # behind the last sample of this batch


def find_shards(where: str) -> list[str]:
    """Paths of the .tar files that `where` names: folders, files and globs, comma-separated.

    Raises:
      SettingsError: one of them holds no shard.
    """
    shards: list[str] = []
    for part in filter(None, where.split(",")):
        path = Path(part)
        found = [str(tar) for tar in path.glob("*.tar")] if path.is_dir() else glob.glob(part)
        if not found:
            raise SettingsError(
                f"no shards at {part!r}: name a folder with .tar files, such as OUT/shards"
            )
        shards += sorted(found)
    if not shards:
        raise SettingsError("no shards: name a folder with .tar files, such as OUT/shards")
    return shards


def read_samples(shards: Iterable[str]) -> Iterator[tuple[str, bytes, str]]:
    """(key, image bytes, text) of each sample that has both, in the order of the shards.

    Raises:
      SettingsError: a shard is no tar file, or ends too early.
    """
    for shard in shards:
        try:
            for sample in wds.DataPipeline(wds.SimpleShardList([shard]), wds.tarfile_to_samples()):
                image = next((sample[e] for e in IMAGE_EXTENSIONS if e in sample), None)
                if image is not None and "txt" in sample:
                    text = sample["txt"].decode("utf-8", "replace").strip()
                    yield sample["__key__"], image, text
        except tarfile.TarError as error:
            raise SettingsError(f"{shard} is damaged ({error.args[0]}): replace it") from error


def read_texts(shards: Iterable[str]) -> Iterator[str]:
    return (text for _, _, text in read_samples(shards))


def decode_image(data: bytes, *, draft_px: int | None = None) -> Image.Image:
    """RGB, upright as EXIF says. Raises whatever Pillow raises where it can't be decoded.

    Args:
      draft_px: let a JPEG decode at a power-of-two reduction that is still this large: 1.5 times as
        fast on photographs.
    """
    image = Image.open(io.BytesIO(data))
    if draft_px:
        image.draft("RGB", (draft_px, draft_px))
    return ImageOps.exif_transpose(image).convert("RGB")


def resize_square(image: Image.Image, side: int) -> np.ndarray:
    """uint8[side, side, 3]: both sides to `side`, as the paper's 346x346 (section 5)."""
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))


def random_crop(pixels: np.ndarray, side: int, rng: random.Random, *, flip: bool) -> np.ndarray:
    """uint8[s, s, 3] -> uint8[side, side, 3], from anywhere; half of them mirrored if `flip`."""
    top, left = (rng.randint(0, len(pixels) - side) for _ in range(2))
    crop = pixels[top : top + side, left : left + side]
    return crop[:, ::-1] if flip and rng.random() < 0.5 else crop


@dataclass(eq=False)
class TrainingData:
    """One process's endless stream of batches.

    The order and every crop follow from (seed, epoch, key) alone: no generator's state has to be
    saved, and the stream from a position equals the rest of the stream that reached it. Going on
    costs reading, not decoding, what this epoch has had.
    """

    shards: list[str]
    settings: Settings
    rank: int = 0
    processes: int = 1
    _resized: dict[str, np.ndarray] = field(default_factory=dict)

    def batches(self, position: Position) -> Iterator[Batch]:
        """Full micro-batches of this process's pairs, for ever; one may span two epochs."""
        _, size = self.settings.micro_batches(self.processes)
        pixels: list[np.ndarray] = []
        texts: list[str] = []
        skipped, last_good = position.skipped, position.epoch
        for place, image, text in self._decoded(position):
            if image is None:
                skipped += 1
                if place.epoch > last_good + 1:  # a whole epoch of nothing else: it would never end
                    raise SettingsError(f"no image in {len(self.shards)} shards can be decoded")
                continue
            last_good = place.epoch
            pixels.append(image)
            texts.append(text)
            if len(texts) == size:
                yield Batch(np.stack(pixels), texts, replace(place, skipped=skipped))
                pixels, texts = [], []

    def _decoded(self, position: Position) -> Iterator[tuple[Position, np.ndarray | None, str]]:
        """Samples in order, decoded by threads two batches ahead of whoever asks."""
        ahead = 2 * self.settings.micro_batches(self.processes)[1]
        pending: deque = deque()
        with ThreadPoolExecutor(self.settings.decode_threads) as pool:
            try:
                for place, (key, data, text) in self._samples(position):
                    rng_seed = zlib.crc32(f"{self.settings.seed} {place.epoch} {key}".encode())
                    pending.append((place, pool.submit(self._crop, key, data, rng_seed), text))
                    if len(pending) > ahead:
                        yield _finished(*pending.popleft())
            finally:
                pool.shutdown(cancel_futures=True)

    def _crop(self, key: str, data: bytes, rng_seed: int) -> np.ndarray | None:
        settings = self.settings
        name = f"{key} {hash(data)}"  # keys of two data sets may be equal
        pixels = self._resized.get(name)
        if pixels is None:
            try:
                image = decode_image(data, draft_px=settings.resize_px)
            except Exception:  # Pillow raises many kinds; a bad sample must not end a long run
                return None
            pixels = resize_square(image, settings.resize_px)
            if len(self._resized) < settings.cached_images:
                self._resized[name] = pixels
        rng = random.Random(rng_seed)
        return random_crop(pixels, settings.crop_px, rng, flip=settings.horizontal_flip)

    def _samples(self, position: Position) -> Iterator[tuple[Position, tuple[str, bytes, str]]]:
        epoch, seen = position.epoch, position.samples
        while True:
            count = 0
            for count, sample in enumerate(self._epoch(epoch), start=1):
                if count > seen:
                    yield Position(epoch, count), sample
            if count == 0:
                raise SettingsError(
                    f"no sample with an image ({', '.join(IMAGE_EXTENSIONS)}) and a txt in "
                    f"{len(self.shards)} shards for process {self.rank} of {self.processes}"
                )
            epoch, seen = epoch + 1, 0

    def _epoch(self, epoch: int) -> Iterator[tuple[str, bytes, str]]:
        """This process's samples of an epoch, shuffled: shards among each other, then a buffer."""
        rng = random.Random(f"{self.settings.seed} {epoch}")
        shards = rng.sample(self.shards, len(self.shards))
        if len(shards) >= self.processes:
            samples = read_samples(shards[self.rank :: self.processes])
        else:
            samples = islice(read_samples(shards), self.rank, None, self.processes)
        yield from _shuffled(samples, self.settings.shuffle_samples, rng)


def _finished(place: Position, image: Future, text: str):
    return place, image.result(), text


def _shuffled(samples: Iterator, buffer_size: int, rng: random.Random) -> Iterator:
    """Each sample once; one leaves a full buffer at random for each that enters it."""
    buffer = list(islice(samples, buffer_size))
    rng.shuffle(buffer)
    for sample in samples:
        i = rng.randrange(len(buffer))
        yield buffer[i]
        buffer[i] = sample
    yield from buffer
