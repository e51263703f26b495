"""Where the samples of a dataset's shards lie: read once, before the first step."""

import json
import os
import random
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from alignset.train.data.samples import Scan, shard_samples
from alignset.train.data.shard_streams import ShardStream
from alignset.train.data.whole_files import write_whole
from alignset.train.errors import SettingsError, TrainingError, counted

# Samples that are read at one go. A window of 10,000 is made of 157 or 20 such places. Of a store
# or a web server each takes a request, of 25 MB where the images have 50 KB.
LOCAL_BLOCK, REMOTE_BLOCK = 64, 512
_READ_AT_ONCE = 8  # shards
_TORN = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)  # of a file cut anywhere
# Characters of a text from which a vocabulary is learned; its first 64 tokens are read.
_LEARNED_FROM = 1_000
SHARE_POWER = 0.5  # of a language's share, by which its texts are drawn and counted


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
        """Facts about all samples."""
        return int(self.samples.sum())

    @cached_property
    def before(self) -> np.ndarray:
        """int64[n], of each block: how many samples are in those before it."""
        return np.cumsum(self.samples) - self.samples


class DrawnTexts(NamedTuple):
    """Texts out of shards, by the code of their language; empty: nothing says it."""

    texts: dict[str, list[str]]
    counts: dict[str, int]  # of how many these were drawn

    @classmethod
    def of_all(cls, parts: Iterable["DrawnTexts"]) -> "DrawnTexts":
        texts: dict[str, list[str]] = {}
        counts: Counter[str] = Counter()
        for part in parts:
            for language, of_language in part.texts.items():
                texts.setdefault(language, []).extend(of_language)
            counts.update(part.counts)
        return cls(texts, dict(counts))


class _Scanned(NamedTuple):
    """Contents of a shard."""

    blocks: np.ndarray  # int64[n, 3]: of each its start, its samples and its size
    images: np.ndarray  # uint16[m], of its samples, as `ShardIndex.image` has it
    drawn_texts: DrawnTexts


def read_index(
    shards: Sequence[str],
    *,
    texts: int = 0,
    caption_field: str = "",
    folder: Path | None = None,
    advance: Callable[[], object] = lambda: None,
) -> tuple[ShardIndex, DrawnTexts]:
    """The index of these shards, and about as many of their texts as are asked for.

    Each shard is read once, of a file the headers and the texts. Each gives as many texts as the
    others, drawn evenly from all of it, and of each text the first 1,000 characters. Where the
    samples say their language, each language gives texts by its share to the power 0.5.

    Args:
      folder: where what was read of each shard is kept: another call reads only the others.
      advance: is called for each shard, in their order.

    Raises:
      TrainingError: a shard can't be read. SettingsError: there is no sample.
    """
    each = -(-texts // len(shards))

    def scan(number: int) -> _Scanned:
        if folder is None:
            return _scan(shards[number], each, caption_field)
        part = folder / f"{number}.npz"
        contents = _read_part(part)
        if contents is None:
            contents = _scan(shards[number], each, caption_field)
            _write_part(part, contents)
        return contents

    parts = []
    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        for of_shard in pool.map(scan, range(len(shards))):
            parts.append(of_shard)
            advance()
    blocks = [np.insert(part.blocks, 0, i, axis=1) for i, part in enumerate(parts)]
    columns = np.concatenate(blocks).T.copy()  # int64[4, n]
    if not columns.size:
        raise SettingsError(f"no sample in {counted(len(shards), 'shard')}, such as {shards[0]}")
    image = np.concatenate([part.images for part in parts])
    drawn_texts = DrawnTexts.of_all(part.drawn_texts for part in parts)
    shard, start, samples, size = columns
    return ShardIndex(tuple(shards), shard, start, samples, size, image), drawn_texts


def _scan(shard: str, texts: int, caption_field: str) -> _Scanned:
    """Facts about one shard, with so many of its texts."""
    scan = Scan()
    by_language: dict[str, list[str]] = {}
    rng, counts = random.Random(zlib.crc32(os.path.basename(shard).encode())), Counter[str]()
    stream = ShardStream(shard)
    samples_read = shard_samples(
        stream, scan=scan, caption_field=caption_field, languages=bool(texts)
    )
    for sample in samples_read:
        if sample.text is None or sample.image is None or not texts:
            continue
        of_language = by_language.setdefault(sample.language, [])
        counts[sample.language] += 1
        if len(of_language) < texts:
            of_language.append(sample.text[:_LEARNED_FROM])
        elif (place := rng.randrange(counts[sample.language])) < texts:  # all are as likely to stay
            of_language[place] = sample.text[:_LEARNED_FROM]
    for language, quota in language_quotas(counts, texts).items():
        if quota < len(by_language[language]):
            by_language[language] = rng.sample(by_language[language], quota)
    starts, block = scan.starts, len(scan.starts)
    if stream.seeks:
        block = REMOTE_BLOCK if "://" in shard else LOCAL_BLOCK
    firsts = np.arange(0, len(starts), max(1, block))
    edges = np.array([*starts[:: max(1, block)], stream.at], np.int64)
    samples = np.diff(firsts, append=len(starts))
    blocks = np.stack([edges[:-1], samples, np.diff(edges)], axis=1).astype(np.int64)
    # Knuth's multiplicative hash, modulo 2**64.
    images = np.array(scan.image_bytes, np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return _Scanned(
        blocks, (images >> np.uint64(48)).astype(np.uint16), DrawnTexts(by_language, counts)
    )


def language_quotas(counts: Mapping[str, int], texts: int) -> dict[str, int]:
    """How many texts each language gives: by its share to the power 0.5, and no more than it has.

    Source: Jia et al. say nothing; by the plain shares, 2.7 % of the texts of a skewed mix had
    unknown pieces, by the power 0.5 0.2 %.
    """
    rest, roots = texts, sum(count**SHARE_POWER for count in counts.values())
    quotas = {}
    for language, count in sorted(counts.items(), key=lambda item: (item[1], item[0])):
        root = count**SHARE_POWER
        quotas[language] = min(count, round(rest * min(1.0, root / roots)))
        rest, roots = rest - quotas[language], roots - root
    return quotas


def _read_part(path: Path) -> _Scanned | None:
    """None where it isn't there whole."""
    try:
        with np.load(path) as file:
            drawn_texts = DrawnTexts(*json.loads(file["drawn"].tobytes()))
            return _Scanned(file["blocks"], file["images"], drawn_texts)
    except _TORN:
        return None


def _write_part(path: Path, contents: _Scanned) -> None:
    drawn_texts = np.frombuffer(json.dumps(contents.drawn_texts).encode(), np.uint8)
    arrays = {"blocks": contents.blocks, "images": contents.images, "drawn": drawn_texts}
    write_whole(path, lambda file: np.savez(file, allow_pickle=False, **arrays))


def save_indexes(indexes: list[ShardIndex], path: Path) -> None:
    """Writes them, whole or not at all; the names of the shards are not in it."""
    arrays = []
    for index in indexes:
        arrays += [np.stack([index.shard, index.start, index.samples, index.size]), index.image]
    write_whole(path, lambda file: np.savez(file, *arrays, allow_pickle=False))


def load_indexes(path: Path, shards: list[tuple[str, ...]]) -> list[ShardIndex]:
    """The reverse of `save_indexes`, of sets of the same shards wherever they are now.

    Raises:
      TrainingError: it is not whole.
    """
    try:
        with np.load(path) as file:
            arrays = [file[name] for name in file.files]
        if len(arrays) != 2 * len(shards):
            raise ValueError(f"it is of {len(arrays) // 2} sets")
    except _TORN as error:
        raise TrainingError(
            f"{path} is damaged ({error!s:.100}): remove it, and the same command reads the shards "
            "anew"
        ) from error
    indexes = []
    for names, blocks, image in zip(shards, arrays[::2], arrays[1::2], strict=True):
        shard, start, samples, size = blocks
        indexes.append(ShardIndex(names, shard, start, samples, size, image))
    return indexes
