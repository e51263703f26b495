"""What it means that all pairs of an image are in one shard: how evenly shards fill, and how often
one image is twice in a batch. Each beside a plan by the pair's key, where its pairs are anywhere.

python benchmarks/shared_images.py --pairs=1000000

Nothing is fetched or trained. Pairs are drawn by how many texts their images have, planned, and
read in the order of this project's trainer, or in that of a reader that shuffles a buffer.
"""

import argparse
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from alignset.train.data.plan import shuffled_apart
from alignset.transforms.shards.plan_shards import shard_count, shards_of

MOST_TEXTS = 1000
BATCHES = (128, 4096, 16_384)
BLOCK, WINDOW = 64, 10_000  # samples: train/data/shard_index.py, and --shuffle_samples
BUFFER = 5000  # open_clip's


def texts_per_image(kind: str, pairs: int, rng: np.random.Generator) -> np.ndarray:
    """How many texts each image has: "once", "one" image of MOST_TEXTS, or Zipf's exponent."""
    if kind == "once":
        return np.ones(pairs, np.int64)
    if kind == "one":
        return np.array([MOST_TEXTS, *[1] * (pairs - MOST_TEXTS)])
    ranks = np.arange(1, MOST_TEXTS + 1)
    share = ranks ** -float(kind)
    counts = rng.choice(ranks, size=pairs, p=share / share.sum())
    return counts[: np.searchsorted(np.cumsum(counts), pairs) + 1]


def planned(kind: str, pairs: int, per_shard: int, rng: np.random.Generator) -> Iterator[tuple]:
    """(plan, image of each pair, shard of each, keys), by key and by URL."""
    counts = texts_per_image(kind, pairs, rng)
    image = np.repeat(np.arange(len(counts)), counts)
    keys = rng.integers(0, 2**64, len(image), dtype=np.uint64)
    urls = rng.integers(0, 2**64, len(counts), dtype=np.uint64)
    shards = shard_count(len(image), per_shard)
    for plan, hashes in (("by key", keys), ("by URL", urls[image])):
        yield plan, image, shards_of(hashes, shards), keys


def spread(kind: str, pairs: int, per_shard: int, rng: np.random.Generator) -> None:
    """Prints how many pairs the shards have."""
    for plan, _, shard, _ in planned(kind, pairs, per_shard, rng):
        sizes = np.bincount(shard)
        share = sizes.std() / sizes.mean()
        print(
            f"{kind} {plan}, {len(sizes)} shards: {sizes.min():,} to {sizes.max():,}, "
            f"standard deviation {share:.1%}"
        )


def windows_of(shard: np.ndarray, keys: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """The pairs of an epoch in windows: blocks in any order, of all shards."""
    stored = np.lexsort((keys, shard))
    starts = np.searchsorted(shard[stored], np.arange(shard.max() + 2))
    bounds = [[*range(a, b, BLOCK), b] for a, b in pairwise(starts)]
    blocks = [stored[a:b] for of in bounds for a, b in pairwise(of)]
    order = np.concatenate([blocks[at] for at in rng.permutation(len(blocks))])
    return [order[at : at + WINDOW] for at in range(0, len(order), WINDOW)]


def apart(
    image: np.ndarray, shard: np.ndarray, keys: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The order of this project's trainer: in each window the pairs of an image far apart."""
    size = rng.integers(0, 1 << 16, image.max() + 1)[image]  # a file's size, of which it knows
    windows = windows_of(shard, keys, rng)
    return np.concatenate([window[shuffled_apart(size[window], rng)] for window in windows])


def at_random(
    image: np.ndarray, shard: np.ndarray, keys: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The same with windows in a random order."""
    return np.concatenate([rng.permutation(window) for window in windows_of(shard, keys, rng)])


def buffered(
    image: np.ndarray, shard: np.ndarray, keys: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The order of a reader that reads shard after shard, and draws from a buffer."""
    place = rng.permutation(shard.max() + 1)[shard]
    stored, draws = np.lexsort((keys, place)), rng.random(len(shard))
    buffer, order = stored[:BUFFER].tolist(), np.empty_like(stored)
    for at, following in enumerate([*stored[BUFFER:].tolist(), *[-1] * BUFFER][: len(stored)]):
        drawn = int(draws[at] * len(buffer))
        order[at], buffer[drawn] = buffer[drawn], following if following >= 0 else buffer[-1]
        if following < 0:
            buffer.pop()
    return order


def repeats(image: np.ndarray, order: np.ndarray) -> str:
    """In how many batches an image is twice, and how many samples are another of an image."""
    told = []
    for size in BATCHES:
        batches = len(order) // size
        rows = np.sort(image[order[: batches * size]].reshape(batches, size), axis=1)
        same = rows[:, 1:] == rows[:, :-1]
        told.append(f"{size}: {same.any(axis=1).mean():.1%} ({same.sum() / rows.size:.2%})")
    return "; ".join(told)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--pairs", type=int, default=1_000_000)
    flags.add_argument("--samples_per_shard", type=int, default=10_000)
    flags.add_argument("--kinds", default="once,one,2.5,2,1.5")
    flags.add_argument("--seed", type=int, default=1)
    asked = flags.parse_args()
    rng = np.random.default_rng(asked.seed)
    for kind in asked.kinds.split(","):
        spread(kind, asked.pairs, asked.samples_per_shard, rng)
    for kind in asked.kinds.split(","):
        for plan, image, shard, keys in planned(kind, asked.pairs, asked.samples_per_shard, rng):
            for reader in (apart, at_random, buffered):
                order = reader(image, shard, keys, rng)
                print(f"{kind} {plan}, read {reader.__name__}: {repeats(image, order)}", flush=True)


if __name__ == "__main__":
    main()
