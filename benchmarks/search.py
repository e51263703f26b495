"""Search over a million vectors for one user: build, recall, latency, memory and start.

`python -m benchmarks.search` makes 1,000,000 vectors of 640 dimensions, writes an index of them to
out/search as `alignset search index` does, and measures what a request of the page takes after the
vector of its query is there. Each of the two steps tells its memory.

The vectors are clustered like images' vectors, not noise: 20,000 centres, whose sizes fall as 1 /
rank^0.8, in 128 directions whose spread falls as 1 / sqrt(rank), on a mean of their own, so that
any two are at a cosine of 0.11 on average and the nearest of a million at 0.8. Queries are new
vectors of the same kind ("pictures"), and such that are moved off by one constant vector and spread
more, as texts are beside images ("texts").
"""

import argparse
import json
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from alignset.train.search.index_files import ROWS, IndexDocument, row_schema, write_index
from alignset.train.search.query import OpenedIndex, SearchQuery, Term, find_results

DIMENSIONS, DIRECTIONS, CENTRES = 640, 128, 20_000
QUERIES = 200
SIDES = 480, 960  # px of the shorter side: of nine rows, and of the tenth
MADE_ROWS = 20_000  # at once
# What a user asks for: how many results at once, and by which filters.
REQUESTS: dict[str, tuple[int, dict[str, Any]]] = {
    "first four pages": (100, {}),
    "later pages": (1000, {}),
    "a tenth of the rows": (100, {"min_side": SIDES[1]}),
    "one host of 997": (100, {"host": "images7.example.org"}),
}


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


def made_rows(numbers: np.ndarray) -> pa.Table:
    """Rows with captions and URLs of usual lengths."""
    keys = [f"{n:016x}" for n in numbers.tolist()]
    count = len(keys)
    columns = {
        "key": keys,
        "caption": [f"picture {k} of a brown dog in a garden with some flowers" for k in keys],
        "url": [f"https://images{n % 997}.example.org/photos/{n:012d}.jpg" for n in numbers],
        "host": [f"images{n % 997}.example.org" for n in numbers],
        "width": np.full(count, 1280, np.int32),
        "height": np.where(numbers % 10 == 9, SIDES[1], SIDES[0]).astype(np.int32),
        "unsafe_score": np.zeros(count, np.float32),
        "phash": numbers.astype(np.uint64) * np.uint64(0xD1B54A32D192ED03),
        "in_sidecar": np.zeros(count, bool),
        "thumbnail": [b""] * count,
    }
    schema = row_schema(DIMENSIONS)
    return pa.table(columns, schema.remove(len(schema) - 1))


def made(rows: int) -> Iterator[tuple[pa.Table, np.ndarray]]:
    for first in range(0, rows, MADE_ROWS):
        numbers = np.arange(first, min(rows, first + MADE_ROWS))
        yield made_rows(numbers), made_vectors(len(numbers), 1000 + first).astype(np.float16)


def build(folder: Path, rows: int) -> None:
    """Makes the index, unless it is there."""
    if (folder / ROWS).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    document = IndexDocument("made", "00" * 32, DIMENSIONS, {"/made/0.tar": rows}, {})
    start, cpu = time.perf_counter(), time.process_time()
    write_index(folder, made(rows), document)
    took = {"s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
    tell("build", {"factory": document.factory, **took, "measured_recall": document.recall})
    tell("memory", {"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024})


def vectors_of(folder: Path) -> Iterator[np.ndarray]:
    for batch in pq.ParquetFile(folder / ROWS).iter_batches(MADE_ROWS, columns=["vector"]):
        yield batch["vector"].flatten().to_numpy().reshape(-1, DIMENSIONS)


def exact_rows(folder: Path, kind: str, queries: np.ndarray) -> np.ndarray:
    """int64[q, 10] by comparing all rows, kept in a file, since they take a minute."""
    path = folder / f"exact-{kind}.npy"
    if not path.exists():
        scores, first = [], 0
        for block in vectors_of(folder):
            own = queries @ block.astype(np.float32).T  # float32[q, m]
            best = np.argpartition(-own, 10, axis=1)[:, :10]
            scores.append((np.take_along_axis(own, best, axis=1), first + best))
            first += len(block)
        cosines, rows = (np.concatenate(each, axis=1) for each in zip(*scores, strict=True))
        np.save(path, np.take_along_axis(rows, np.argsort(-cosines, axis=1)[:, :10], axis=1))
    return np.load(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=Path("out/search"))
    flags = parser.parse_args()
    build(flags.folder, flags.rows)
    start = time.perf_counter()
    index = OpenedIndex(flags.folder)
    tell("open", {"s": time.perf_counter() - start, "rows": len(index.rows)})
    for kind, queries in {
        "pictures": made_vectors(QUERIES, 2),
        "texts": made_vectors(QUERIES, 3, gap=1.0, spread=1.3),
    }.items():
        right = exact_rows(flags.folder, kind, queries)
        near = [index.neighbours.nearest(query, 10)[1] for query in queries]
        recall = np.mean([np.isin(*pair).mean() for pair in zip(right, near, strict=True)])
        tell(kind, {"recall@10": float(recall)})
        for what, (count, filters) in REQUESTS.items():
            request = SearchQuery((Term("text", kind),), **filters)
            find_results(queries[0], request, index, count)
            times = []
            for query in queries:
                begun = time.perf_counter()
                find_results(query, request, index, count)
                times.append(1e3 * (time.perf_counter() - begun))
            p50, p99 = np.percentile(times, [50, 99])
            tell(f"{kind}, {what}", {"ms_p50": float(p50), "ms_p99": float(p99)})
    tell("memory", {"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024})


def tell(what: str, numbers: dict[str, object]) -> None:
    print(f"{what}: {json.dumps(numbers)}", flush=True)


if __name__ == "__main__":
    main()
