"""Search over a million vectors: build, recall, latency, load, memory and start.

`python -m benchmarks.search` makes 1,000,000 vectors of 640 dimensions in out/search, in parts as
`alignset search index` writes them, builds an index of them as that does, and measures it. How many
cells are looked into is chosen by other queries than those that are measured. `--peer` also has
autofaiss choose an index of the same vectors, as clip-retrieval does, and asks it the same queries.
`benchmarks/search_vectors.py` says what the vectors are.
"""

import argparse
import json
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np

from alignset.train.search.filters import Filters
from alignset.train.search.find_results import Query, find_results
from alignset.train.search.index_files import IndexDocument, write_document
from alignset.train.search.neighbours import (
    add_rows,
    cells_for,
    choose_probes,
    recall_at_10,
    train_cells,
    write_neighbours,
)
from alignset.train.search.opened_index import OpenedIndex
from alignset.train.search.query_terms import Term
from alignset.train.search.vectors import Vectors, nearest_of_all, open_vectors
from benchmarks.search_load import load, serve
from benchmarks.search_peer import autofaiss, autofaiss_choice
from benchmarks.search_vectors import SIDES, make_parts, queries

# What a user asks for: how many results at once, and by which filters.
ASKED = {
    "first and second page": (50, Filters()),
    "third page": (200, Filters()),
    "a tenth of the rows": (50, Filters(min_side=SIDES[1])),
    "one host of 997": (50, Filters(host="images7.example.org")),
}


def build(folder: Path, document: IndexDocument, vectors: Vectors) -> dict[str, float]:
    """Makes the cells as the command does; seconds, and CPU-seconds."""
    start, cpu = time.perf_counter(), time.process_time()
    index = train_cells(vectors)
    trained = time.process_time()
    add_rows(index, vectors)
    added = time.process_time()
    sample = np.concatenate([*queries(seed=100).values()])
    probes, recall = choose_probes(vectors, index, sample)
    write_neighbours(folder / "neighbours-1.faiss", index)
    fields = vars(document) | {
        "kind": "cells",
        "neighbours": "neighbours-1.faiss",
        "trained_rows": len(vectors),
        "settings": {"probes": probes},
        "recall": recall,
    }
    write_document(folder / "index.json", IndexDocument(**fields))
    return {
        "seconds": time.perf_counter() - start,
        "cpu_s": time.process_time() - cpu,
        "cpu_s_cells": trained - cpu,
        "cpu_s_rows": added - trained,
        "cells": cells_for(len(vectors)),
        "probes": probes,
        "recall@10 of the queries that they were chosen by": recall,
    }


def latencies(asked: np.ndarray, answer: Callable[[np.ndarray], object]) -> dict[str, float]:
    """Of one query after another, in one thread: wall and CPU, ms."""
    answer(asked[0])
    walls, cpus = [], []
    for query in asked:
        wall, cpu = time.perf_counter(), time.thread_time()
        answer(query)
        walls.append(1e3 * (time.perf_counter() - wall))
        cpus.append(1e3 * (time.thread_time() - cpu))
    return {
        f"{name}_ms_p{share}": float(np.percentile(of, share))
        for name, of in (("wall", walls), ("cpu", cpus))
        for share in (50, 99)
    }


def exact_rows(folder: Path, vectors: Vectors, kind: str, asked: np.ndarray) -> np.ndarray:
    """int64[q, 10], kept in a file, since they take a minute."""
    path = folder / f"exact-{kind}.npy"
    if not path.exists():
        np.save(path, nearest_of_all(vectors, asked, 10)[1])
    return np.load(path)


def measure(index: OpenedIndex, kind: str, asked: np.ndarray) -> None:
    """Prints how long each of ASKED takes, with what is told of a result, and the recall of those
    with a filter."""
    for what, (count, filters) in ASKED.items():
        query = Query((Term("text", kind),), filters)
        numbers = latencies(asked, lambda v, q=query, n=count: find_results(v, q, index, n))
        wanted = index.wanted(filters)
        if wanted is not None:
            rows = np.flatnonzero(wanted)
            right = rows[nearest_of_all(_part(index.vectors, rows), asked, 10)[1]]
            near = [index.neighbours.nearest(v, 10, wanted)[1] for v in asked]
            hits = sum(len(np.intersect1d(a, b)) for a, b in zip(near, right, strict=True))
            numbers |= {"rows": len(rows), "recall@10": hits / right.size}
        tell(f"{kind}, {what}", numbers)


def _part(vectors: Vectors, rows: np.ndarray) -> Vectors:
    return Vectors([vectors.take(rows).astype(np.float16)], vectors.dimensions)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--rows", "--vectors", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=Path("out/search"))
    parser.add_argument("--peer", action="store_true", help="beside what autofaiss chooses")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.serve:
        serve(flags.folder)
        return
    if flags.peer:
        autofaiss()  # before anything takes time
    flags.folder.mkdir(parents=True, exist_ok=True)
    document = make_parts(flags.folder, flags.rows)
    vectors = open_vectors(flags.folder, document)
    if not (flags.folder / "index.json").exists():
        tell("build", build(flags.folder, document, vectors))
    faiss.omp_set_num_threads(1)
    index = OpenedIndex(flags.folder)
    if len(index) != flags.rows:
        raise SystemExit(f"{flags.folder} has {len(index)} vectors: name another --folder")
    exact = {}
    for kind, asked in queries().items():
        exact[kind] = asked, exact_rows(flags.folder, vectors, kind, asked)
        tell(kind, {"recall@10": recall_at_10(index.neighbours, *exact[kind])})
        measure(index, kind, asked)
    del index
    tell("load", load(flags.folder))
    tell("own peak", {"mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024})
    if flags.peer:
        faiss.omp_set_num_threads(os.cpu_count() or 1)
        tell("autofaiss", autofaiss_choice(vectors, exact, os.cpu_count() or 1))


def tell(what: str, numbers: object) -> None:
    shown = json.dumps(numbers, default=str)
    print(f"{what}: {shown}", flush=True)


if __name__ == "__main__":
    main()
