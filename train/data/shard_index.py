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

from train.data.samples import shard_samples
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
    """

    shards: tuple[str, ...]
    shard: np.ndarray
    start: np.ndarray
    samples: np.ndarray
    size: np.ndarray

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
    blocks = [np.insert(part, 0, i, axis=1) for i, (part, _) in enumerate(scanned)]
    columns = np.concatenate(blocks).T.copy()  # int64[4, n]
    if not columns.size:
        raise SettingsError(f"no sample in {len(shards)} shards, such as {shards[0]}")
    return ShardIndex(tuple(shards), *columns), [text for _, drawn in scanned for text in drawn]


def _scan(shard: str, texts: int, caption_field: str) -> tuple[np.ndarray, list[str]]:
    """int64[n, 3] of a shard's blocks (start, samples, size), and so many of its texts."""
    starts: list[int] = []
    drawn: list[str] = []
    rng, count = random.Random(zlib.crc32(os.path.basename(shard).encode())), 0
    stream = ShardStream(shard)
    for sample in shard_samples(stream, starts=starts, caption_field=caption_field):
        if sample.text is None or sample.image is None or not texts:
            continue
        count += 1
        if len(drawn) < texts:
            drawn.append(sample.text)
        elif (place := rng.randrange(count)) < texts:  # all are as likely to be left
            drawn[place] = sample.text
    block = len(starts)
    if stream.seeks:
        block = REMOTE_BLOCK if "://" in shard else LOCAL_BLOCK
    firsts = np.arange(0, len(starts), max(1, block))
    edges = np.array([*starts[:: max(1, block)], stream.at], np.int64)
    samples = np.diff(firsts, append=len(starts))
    return np.stack([edges[:-1], samples, np.diff(edges)], axis=1).astype(np.int64), drawn


def save_indexes(indexes: list[ShardIndex], path: Path) -> None:
    """Writes them, whole or not at all; the names of the shards are not in it."""
    columns = [np.stack([i.shard, i.start, i.samples, i.size]) for i in indexes]
    buffer = io.BytesIO()
    np.savez(buffer, *columns)
    aside = path.with_suffix(".tmp")
    aside.write_bytes(buffer.getvalue())
    os.replace(aside, path)


def load_indexes(path: Path, shards: list[tuple[str, ...]]) -> list[ShardIndex]:
    """The reverse of `save_indexes`, of sets of the same shards wherever they are now."""
    with np.load(path) as columns:
        return [ShardIndex(names, *columns[f"arr_{number}"]) for number, names in enumerate(shards)]
