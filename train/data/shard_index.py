"""Where the samples of shards lie: read once, before the first step."""

import json
import os
import random
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from alignset.train.data.samples import TXT, shard_samples
from alignset.train.data.shard_streams import HEADERS, ShardStream
from alignset.train.data.whole_files import read_arrays, write_whole
from alignset.train.errors import SettingsError, TrainingError, counted

# Samples that are read at one go. A window of 10,000 is made of 157 or 20 such places. Of a store
# or a web server each takes a request, of 25 MB where the images have 50 KB.
LOCAL_BLOCK, REMOTE_BLOCK = 64, 512
_READ_AT_ONCE = 8  # shards
_NAMED = 20  # shards that cannot be read, in one error
# Characters of a text from which a vocabulary is learned; its first 64 tokens are read.
_LEARNED_FROM = 1_000
_ARRAYS = ("shard", "start", "samples", "size", "image")  # an index's arrays
# Texts of a language are drawn and counted by this power of its share. Jia et al. say nothing; by
# plain shares, 2.7 % of the texts of a skewed mix had unknown pieces, by this power 0.2 %.
SHARE_POWER = 0.5


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """The samples of a dataset's shards, in blocks that can be read each by itself.

    A shard that cannot be read from its middle (of a command, of a web server without ranges) is
    one block.

    Attributes:
      shard: int64[n], of each block: the number of its shard.
      start: int64[n], bytes: where it begins.
      samples: int64[n], all larger than 0.
      size: int64[n], bytes.
      image: uint16[total], of each sample: a hash of its image file's size. Samples of one image
        have the same, and few others: it costs no reading, and keeps them apart (`order.py`).
    """

    shards: tuple[str, ...]
    shard: np.ndarray
    start: np.ndarray
    samples: np.ndarray
    size: np.ndarray
    image: np.ndarray

    @property
    def total(self) -> int:
        """All samples."""
        return len(self.image)

    @cached_property
    def block_starts(self) -> np.ndarray:
        """int64[n], of each block: how many samples are in those before it."""
        return np.cumsum(self.samples) - self.samples


class DrawnTexts(NamedTuple):
    """Texts out of shards, by the code of their language; empty: nothing says it."""

    texts: dict[str, list[str]]
    counts: dict[str, int]  # of how many these were drawn


def read_indexes(
    datasets: Sequence[tuple[str, ...]],
    *,
    texts: int = 0,
    places: Collection[str] = TXT,
    folder: Path | None = None,
    advance: Callable[[], object] = lambda: None,
) -> tuple[list[ShardIndex], DrawnTexts]:
    """The index of each dataset, by its shards, and about as many texts as are asked for.

    Each shard is read once, of a file the headers and the texts. Each gives as many texts as the
    others, drawn evenly from all of it, and of each text the first 1,000 characters. Where the
    samples say their language, each language gives texts by its share to the power 0.5.

    Args:
      folder: where what was read of each shard is kept: another call reads only the others.
      advance: is called for each shard, in their order.

    Raises:
      TrainingError: shards can't be read; it names all of them. SettingsError: a dataset has no
        sample.
    """
    indexes, drawn, counts = [], dict[str, list[str]](), Counter[str]()
    faults = list[TrainingError]()
    with closing(scan_shards(datasets, texts, places, folder)) as scans:
        for names in datasets:
            blocks, images = [], []
            for number, arrays in enumerate(islice(scans, len(names))):
                if isinstance(arrays, TrainingError):
                    faults.append(arrays)
                    advance()
                    continue
                blocks.append(np.insert(arrays["blocks"], 0, number, axis=1))
                images.append(arrays["images"])
                by_language, shard_counts = json.loads(arrays["texts"].tobytes())
                counts.update(shard_counts)
                for language, shard_texts in by_language.items():
                    drawn.setdefault(language, []).extend(shard_texts)
                advance()
            if faults:
                continue
            shard, start, samples, size = np.concatenate(blocks).T.copy()  # int64[4, n]
            if not samples.size:
                shown = f"{counted(len(names), 'shard')}, such as {names[0]}"
                raise SettingsError(f"no sample in {shown}")
            image = np.concatenate(images)
            indexes.append(ShardIndex(names, shard, start, samples, size, image))
    if len(faults) > 1:
        lines = "".join(f"\n  {fault}" for fault in faults[:_NAMED])
        more = f"\n  and {len(faults) - _NAMED:,} more" if len(faults) > _NAMED else ""
        raise TrainingError(f"{len(faults):,} shards cannot be read:{lines}{more}") from faults[0]
    for fault in faults:
        raise fault
    return indexes, DrawnTexts(drawn, dict(counts))


def scan_shards(
    datasets: Sequence[tuple[str, ...]],
    texts: int,
    places: Collection[str],
    folder: Path | None,
    numbers: Iterable[int] | None = None,
) -> Generator[dict[str, np.ndarray] | TrainingError, None, None]:
    """Reads shards, several at once, and keeps what it read of each in a folder.

    Args:
      numbers: which of all; None: all of them.

    Yields: of each shard in order, as `_scan` has it, or why it cannot be read.
    """
    shards = [shard for names in datasets for shard in names]
    each = -(-texts // len(shards))

    def scan(number: int) -> dict[str, np.ndarray] | TrainingError:
        path = folder / f"{number}.npz" if folder else None
        if path:
            arrays = read_arrays(path)
            if arrays.keys() == {"blocks", "images", "texts"}:
                return arrays
        try:
            arrays = _scan(shards[number], each, places)
        except TrainingError as error:
            return error
        if path:
            write_whole(path, lambda file: np.savez(file, allow_pickle=False, **arrays))
        return arrays

    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        yield from pool.map(scan, range(len(shards)) if numbers is None else numbers)


def _scan(shard: str, texts: int, places: Collection[str]) -> dict[str, np.ndarray]:
    """Reads one shard.

    Returns: "blocks" int64[n, 3]: of each its start, its samples and its size; "images" uint16[m],
      as `ShardIndex.image` has them; "texts": so many of them and their counts, as JSON.
    """
    starts, sizes = list[int](), list[int]()
    drawn, counts = dict[str, list[str]](), Counter[str]()
    rng = random.Random(zlib.crc32(os.path.basename(shard).encode()))
    stream = ShardStream(shard, at_once=HEADERS)
    for sample in shard_samples(stream, images=False, places=places, languages=bool(texts)):
        starts.append(sample.start)
        sizes.append(sample.image_bytes)
        if sample.text is None or sample.image is None or not texts:
            continue
        of_language = drawn.setdefault(sample.language, [])
        counts[sample.language] += 1
        if len(of_language) < texts:
            of_language.append(sample.text[:_LEARNED_FROM])
        elif (place := rng.randrange(counts[sample.language])) < texts:  # all are as likely to stay
            of_language[place] = sample.text[:_LEARNED_FROM]
    roots = sum(count**SHARE_POWER for count in counts.values())
    for language, count in counts.items():
        quota = round(texts * count**SHARE_POWER / roots)
        if quota < len(drawn[language]):
            drawn[language] = rng.sample(drawn[language], quota)
    block = max(1, len(starts))
    if stream.seeks:
        block = REMOTE_BLOCK if "://" in shard else LOCAL_BLOCK
    edges = np.array([*starts[::block], stream.at], np.int64)
    samples = np.diff(np.append(np.arange(0, len(starts), block), len(starts)))
    # Knuth's multiplicative hash, modulo 2**64.
    images = np.array(sizes, np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(48)
    return {
        "blocks": np.stack([edges[:-1], samples, np.diff(edges)], axis=1).astype(np.int64),
        "images": images.astype(np.uint16),
        "texts": np.frombuffer(json.dumps([drawn, counts]).encode(), np.uint8),
    }


def save_indexes(indexes: list[ShardIndex], path: Path) -> None:
    """Writes them, whole or not at all; the names of the shards are not in it."""
    arrays = {
        f"{name}{n}": getattr(index, name) for n, index in enumerate(indexes) for name in _ARRAYS
    }
    write_whole(path, lambda file: np.savez(file, allow_pickle=False, **arrays))


def load_indexes(path: Path, datasets: Sequence[tuple[str, ...]]) -> list[ShardIndex] | None:
    """The reverse of `save_indexes`, of the same shards wherever they are now; None where it isn't
    there whole."""
    arrays = read_arrays(path)
    with suppress(KeyError):
        return [
            ShardIndex(names, *(arrays[f"{name}{n}"] for name in _ARRAYS))
            for n, names in enumerate(datasets)
        ]
    return None
