"""An index of made vectors, and queries, for `benchmarks/search.py`.

The vectors are clustered as those of pictures are, not noise: 20,000 centres, whose sizes fall as
1 / rank^0.8, in 128 directions whose spread falls as 1 / sqrt(rank), on a mean of their own, so
that any two are at a cosine of 0.11 on average and the nearest of a million at 0.8. Queries are
new vectors of the same kind ("pictures"), and such that are moved off by one constant vector and
spread more, as texts are beside pictures ("texts").
"""

from pathlib import Path

import numpy as np
import pyarrow as pa

from alignset.train.search.index_files import FORMAT, ROWS, IndexDocument, PartDocument, write_part
from alignset.train.search.part_builder import PART_SAMPLES

DIMENSIONS, DIRECTIONS, CENTRES = 640, 128, 20_000
QUERIES = 200
SIDES = 480, 960  # px of the shorter side: of nine rows, and of the tenth
_AT_ONCE = 24 * PART_SAMPLES  # vectors that are made together, since each time takes 0.1 s more


def made_vectors(count: int, seed: int, *, gap: float = 0.0, spread: float = 1.0) -> np.ndarray:
    """float32[count, 640], unit length; see above."""
    world, random = np.random.default_rng(7), np.random.default_rng(seed)
    falling = (np.arange(1, DIRECTIONS + 1) ** -0.5)[:, None] / np.sqrt(DIMENSIONS)
    directions = (world.standard_normal((DIRECTIONS, DIMENSIONS)) * falling).astype(np.float32)
    mean, other = (world.standard_normal((2, DIMENSIONS)) / np.sqrt(DIMENSIONS)).astype(np.float32)
    centres = world.standard_normal((CENTRES, DIRECTIONS)).astype(np.float32)
    sizes = np.arange(1, CENTRES + 1) ** -0.8
    members = random.choice(CENTRES, count, p=sizes / sizes.sum())
    within = random.standard_normal((count, DIRECTIONS), np.float32)
    noise = random.standard_normal((count, DIMENSIONS), np.float32)
    vectors = (centres[members] + 0.7 * spread * within) @ directions + mean + gap * other
    vectors += noise * np.float32(0.45 * spread / np.sqrt(DIMENSIONS))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def queries(seed: int = 2) -> dict[str, np.ndarray]:
    """float32[200, 640] of each kind."""
    return {
        "pictures": made_vectors(QUERIES, seed),
        "texts": made_vectors(QUERIES, seed + 1, gap=1.0, spread=1.3),
    }


def make_parts(folder: Path, rows: int) -> IndexDocument:
    """An index without neighbours, in parts as `alignset search index` writes them, whose rows have
    captions and URLs of usual lengths."""
    firsts = range(0, rows, PART_SAMPLES)
    names = [f"made-{first // PART_SAMPLES:05d}" for first in firsts]
    counts = [min(PART_SAMPLES, rows - first) for first in firsts]
    parts = [*zip(names, firsts, counts, strict=True)]
    for block in range(0, rows, _AT_ONCE):
        lacking = [
            part
            for part in parts[block // PART_SAMPLES :][: _AT_ONCE // PART_SAMPLES]
            if not (folder / "parts" / f"{part[0]}.json").exists()
        ]
        if not lacking:
            continue
        vectors = made_vectors(min(_AT_ONCE, rows - block), 1000 + block).astype(np.float16)
        for name, first, count in lacking:
            document = PartDocument(name, count, count, True, {})
            own = vectors[first - block :][:count]
            numbers = np.arange(first, first + count)
            write_part(folder, name, document, (_rows(numbers), [b""] * count, own))
    return IndexDocument(
        FORMAT, "made", "00" * 32, DIMENSIONS, names, counts, "exact", "", 0, {}, 1.0
    )


def _rows(numbers: np.ndarray) -> pa.Table:
    keys = [f"{n:016x}" for n in numbers.tolist()]
    columns = {
        "key": keys,
        "key_hash": numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15),
        "caption": [f"picture {k} of a brown dog in a garden with some flowers" for k in keys],
        "url": [f"https://images{n % 997}.example.org/photos/{n:012d}.jpg" for n in numbers],
        "host": [f"images{n % 997}.example.org" for n in numbers],
        "width": np.full(len(keys), 1280, np.int32),
        "height": np.where(numbers % 10 == 9, SIDES[1], SIDES[0]).astype(np.int32),
        "unsafe_score": np.zeros(len(keys), np.float32),
        "phash": numbers.astype(np.uint64) * np.uint64(0xD1B54A32D192ED03),
        "md5": pa.array([b"\0" * 16] * len(keys), pa.binary(16)),
        "sha1": pa.array([b"\0" * 20] * len(keys), pa.binary(20)),
        "sha256": pa.array([b"\0" * 32] * len(keys), pa.binary(32)),
    }
    return pa.table({name: pa.array(column) for name, column in columns.items()}).cast(ROWS)
