"""Where the samples of a set's shards lie: read once, before the first step."""

import io
import os
import random
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from train.data.samples import Scan, shard_samples
from train.data.shard_streams import ShardStream
from train.errors import SettingsError

# Samples that are read at one go. A window of 10,000 is made of 157 or 20 such places. Of a store
# or a web server each takes a request, of 25 MB where the images have 50 KB.
LOCAL_BLOCK, REMOTE_BLOCK = 64, 512
_READ_AT_ONCE = 8  # shards


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """The samples of a set's shards, in blocks that can be read each by itself.

    A shard that cannot be read from its middle (of a command, of a web server without ranges) is
    one block.

    Attributes:
      shard: int64[n], of each block: the number of its shard.
      start: int64[n], bytes: where it begins.
      samples: int64[n], all larger than 0.
      size: int64[n], bytes.
      image: uint16[total], of each sample: a hash of its image file's size. Samples of one image
        have the same, and few others: it costs no reading, and keeps them apart (plan.py).
    """

    shards: tuple[str, ...]
    shard: np.ndarray
    start: np.ndarray
    samples: np.ndarray
    size: np.ndarray
    image: np.ndarray

    @property
    def total(self) -> int:
        """Of all samples."""
        return int(self.samples.sum())


def read_index(
    shards: Sequence[str], *, texts: int = 0, caption_field: str = ""
) -> tuple[ShardIndex, list[str]]:
    """The index of these shards, and about as many of their texts as are asked for.

    Each shard is read once, of a file the headers and the texts. Each gives as many texts as the
    others, drawn evenly from all of it.

    Raises:
      TrainingError: a shard can't be read. SettingsError: there is no sample.
    """
    each = -(-texts // len(shards))
    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        scanned = list(pool.map(lambda shard: _scan(shard, each, caption_field), shards))
    blocks = [np.insert(part, 0, i, axis=1) for i, (part, _, _) in enumerate(scanned)]
    columns = np.concatenate(blocks).T.copy()  # int64[4, n]
    if not columns.size:
        raise SettingsError(f"no sample in {len(shards)} shards, such as {shards[0]}")
    image = np.concatenate([part for _, part, _ in scanned])
    drawn = [text for _, _, texts_of in scanned for text in texts_of]
    shard, start, samples, size = columns
    return ShardIndex(tuple(shards), shard, start, samples, size, image), drawn


def _scan(shard: str, texts: int, caption_field: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """int64[n, 3] of a shard's blocks (start, samples, size); of its samples uint16[m] as
    `ShardIndex.image` has it; and so many of its texts."""
    scan = Scan()
    drawn: list[str] = []
    rng, count = random.Random(zlib.crc32(os.path.basename(shard).encode())), 0
    stream = ShardStream(shard)
    for sample in shard_samples(stream, scan=scan, caption_field=caption_field):
        if sample.text is None or sample.image is None or not texts:
            continue
        count += 1
        if len(drawn) < texts:
            drawn.append(sample.text)
        elif (place := rng.randrange(count)) < texts:  # all are as likely to be left
            drawn[place] = sample.text
    starts, block = scan.starts, len(scan.starts)
    if stream.seeks:
        block = REMOTE_BLOCK if "://" in shard else LOCAL_BLOCK
    firsts = np.arange(0, len(starts), max(1, block))
    edges = np.array([*starts[:: max(1, block)], stream.at], np.int64)
    samples = np.diff(firsts, append=len(starts))
    blocks = np.stack([edges[:-1], samples, np.diff(edges)], axis=1).astype(np.int64)
    # Knuth's multiplicative hash, modulo 2**64.
    images = np.array(scan.image_bytes, np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return blocks, (images >> np.uint64(48)).astype(np.uint16), drawn


def save_indexes(indexes: list[ShardIndex], path: Path) -> None:
    """Writes them, whole or not at all; the names of the shards are not in it."""
    arrays = []
    for index in indexes:
        arrays += [np.stack([index.shard, index.start, index.samples, index.size]), index.image]
    buffer = io.BytesIO()
    np.savez(buffer, *arrays)
    aside = path.with_suffix(".tmp")
    aside.write_bytes(buffer.getvalue())
    os.replace(aside, path)


def load_indexes(path: Path, shards: list[tuple[str, ...]]) -> list[ShardIndex]:
    """The reverse of `save_indexes`, of sets of the same shards wherever they are now.

    Raises:
      SettingsError: an older version wrote it.
    """
    with np.load(path) as file:
        arrays = [file[name] for name in file.files]
    if len(arrays) != 2 * len(shards):
        raise SettingsError(
            f"{path.parent} was begun by an older version, which has another order of samples: "
            "name a new --run"
        )
    indexes = []
    for names, blocks, image in zip(shards, arrays[::2], arrays[1::2], strict=True):
        shard, start, samples, size = blocks
        indexes.append(ShardIndex(names, shard, start, samples, size, image))
    return indexes
