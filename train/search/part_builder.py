"""Pictures to the parts of an index: decoded, measured, embedded, and drawn small."""

import hashlib
import io
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import imagehash
import numpy as np
from PIL import Image

from alignset.train.data.images import decode_image, header_pixels
from alignset.train.errors import TrainingError
from alignset.train.search.blocklist import Blocklist
from alignset.train.search.growing_part import GrowingPart, begun_name, begun_part
from alignset.train.search.index_files import PartDocument, part_rows, read_part, remove_part
from alignset.train.search.pictures import Picture, Source

PART_SAMPLES = 2048
KEEP_S = 60.0  # after which what is there of a part is kept: a kill costs so much at most
HELD_PIXELS = 1 << 27  # of decoded pictures at once: 400 MB
REASONS = ("no_image", "undecodable", "repeated_key", "blocked")
Embed = Callable[[list[Image.Image]], np.ndarray]


class _Decoded(NamedTuple):
    image: Image.Image
    thumbnail: bytes
    phash: int


@dataclass(frozen=True)
class PartBuilder:
    """Makes the parts of an index.

    Attributes:
      folder: of the index.
      digest: of the model, by whose embeddings another model's parts are never taken up.
      embed: up to `batch_size` pictures -> float32[n, d].
      names: of the parts that the index has, by the names that they were built under.
      keys: hashes of the keys that the index has; gets those that come in.
      tell: is told how many samples were read, after each batch.
    """

    folder: Path
    digest: str
    embed: Embed
    blocklist: Blocklist
    names: dict[str, str]
    keys: set[int]
    batch_size: int
    thumbnail_px: int
    threads: int
    tell: Callable[[int], None]

    def build(self, source: Source) -> Iterator[str]:
        """The names of the parts of a source, each as soon as it is there.

        Parts that an earlier command has left are taken as they are.

        Raises:
          TrainingError: the source cannot be read, or an embedding has no length.
        """
        told = f"{source.identity}\0{self.digest}"
        stem = hashlib.sha256(told.encode(errors="replace")).hexdigest()[:16]
        number, samples = 0, 0
        pictures: Iterator[Picture] | None = None
        while True:
            name = f"{stem}-{number:05d}"
            name = self.names.get(name, name)
            part = read_part(self.folder, name)
            if part is None:
                growing = self._begun(name, samples) if pictures is None else None
                growing = growing or GrowingPart(
                    source.identity, samples, dict.fromkeys(REASONS, 0)
                )
                if pictures is None:
                    pictures = source.pictures(growing.samples)
                part = self._build_part(name, source, pictures, (growing, samples))
            else:
                hashes = part_rows(self.folder, name, ["key_hash"])["key_hash"]
                self.keys.update(hashes.to_pylist())
                self.tell(part.samples - samples)
            samples, number = part.samples, number + 1
            yield name
            if part.last:
                return

    def _begun(self, name: str, before: int) -> GrowingPart | None:
        """What an earlier command has left of a part that begins after so many samples."""
        part = begun_part(self.folder, name)
        if part is not None:
            self.keys.update(int(str(row["key_hash"])) for row in part.rows)
            self.tell(part.samples - before)
        return part

    def _build_part(
        self,
        name: str,
        source: Source,
        pictures: Iterator[Picture],
        begun: tuple[GrowingPart, int],
    ) -> PartDocument:
        """
        Args:
          begun: what there is of it, and how many samples of the source are before the part.
        """
        part, before = begun
        kept_at = time.monotonic()
        while part.samples < before + PART_SAMPLES and not part.last:
            wanted = min(self.batch_size, before + PART_SAMPLES - part.samples)
            batch = list(islice(pictures, wanted))
            part.last = len(batch) < wanted
            part.samples += len(batch)
            for few in self._decoded(batch, part.left_out):
                embedded = self._embedded([decoded.image for _, decoded in few], source)
                part.vectors.append(embedded)
                part.rows += [_row(picture, decoded) for picture, decoded in few]
                part.thumbnails += [decoded.thumbnail for _, decoded in few]
            self.tell(len(batch))
            if time.monotonic() - kept_at >= KEEP_S and not part.last:
                part.write(self.folder, begun_name(name))
                kept_at = time.monotonic()
        document = part.write(self.folder, name)
        remove_part(self.folder, begun_name(name))
        return document

    def _decoded(
        self, batch: list[Picture], left_out: dict[str, int]
    ) -> Iterator[list[tuple[Picture, _Decoded]]]:
        """The pictures of a batch that are kept, in as many lists as their pixels need: what is
        decoded together has HELD_PIXELS at most, or is one picture."""
        kept = []
        for picture in batch:
            reason = self._refusal(picture)
            if reason:
                left_out[reason] += 1
            else:
                kept.append(picture)
        with ThreadPoolExecutor(self.threads) as pool:
            for few in _by_pixels(kept):
                held: list[tuple[Picture, _Decoded]] = []
                for picture, decoded in zip(few, pool.map(self._decode, few), strict=True):
                    if decoded is None:
                        left_out["undecodable"] += 1
                        continue
                    self.keys.add(key_hash(picture.key))
                    held.append((picture, decoded))
                if held:
                    yield held

    def _refusal(self, picture: Picture) -> str | None:
        if picture.data is None:
            return "no_image"
        if key_hash(picture.key) in self.keys:
            return "repeated_key"
        host = host_of(picture.url)
        return "blocked" if self.blocklist.blocks(picture, host) else None

    def _decode(self, picture: Picture) -> _Decoded | None:
        assert picture.data is not None
        try:
            image = decode_image(picture.data)
            return _Decoded(image, thumbnail_of(image, self.thumbnail_px), perceptual_hash(image))
        except Exception:  # Pillow raises many kinds; one bad image is no reason to stop
            return None

    def _embedded(self, images: list[Image.Image], source: Source) -> np.ndarray:
        """float16[n, d], unit length."""
        vectors = np.asarray(self.embed(images), np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not (np.isfinite(lengths).all() and (lengths > 0).all()):
            raise TrainingError(
                f"the model gives an embedding of {source.where} that is no direction: it "
                "diverged, take an earlier one"
            )
        return (vectors / lengths).astype(np.float16)


def _by_pixels(pictures: list[Picture]) -> Iterator[list[Picture]]:
    """In their order, so many that their headers have HELD_PIXELS together, or one of more."""
    few: list[Picture] = []
    pixels = 0
    for picture in pictures:
        assert picture.data is not None
        own = header_pixels(picture.data)
        if few and pixels + own > HELD_PIXELS:
            yield few
            few, pixels = [], 0
        few.append(picture)
        pixels += own
    if few:
        yield few


def _row(picture: Picture, decoded: _Decoded) -> dict[str, object]:
    assert picture.data is not None
    return {
        "key": picture.key,
        "key_hash": key_hash(picture.key),
        "caption": picture.caption,
        "url": picture.url,
        "host": host_of(picture.url),
        "width": decoded.image.width,
        "height": decoded.image.height,
        "unsafe_score": picture.unsafe_score,
        "phash": decoded.phash,
        "md5": hashlib.md5(picture.data, usedforsecurity=False).digest(),
        "sha1": hashlib.sha1(picture.data, usedforsecurity=False).digest(),
        "sha256": hashlib.sha256(picture.data).digest(),
    }


def key_hash(key: str) -> int:
    """64 bits by which a key is looked up; equal ones are told apart by the keys themselves."""
    data = key.encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def host_of(url: str) -> str:
    """In lower case, without the port; empty where there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def perceptual_hash(image: Image.Image) -> int:
    """imagehash.phash, its bits as one number, the first the highest."""
    return int(str(imagehash.phash(image)), 16)


def thumbnail_of(image: Image.Image, side: int) -> bytes:
    """WebP, neither side longer than `side` px."""
    small = (
        image.copy() if max(image.size) <= 2 * side else image.reduce(max(image.size) // (2 * side))
    )
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "WEBP", quality=75, method=2)
    return file.getvalue()
