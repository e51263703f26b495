"""Search over a million vectors: build, recall, latency, load, memory and start.

`python -m benchmarks.search` makes 1,000,000 vectors of 640 dimensions in out/search, builds an
index of them as `train.search index` does, and measures it. `--peer` also builds what autofaiss
would choose for clip-retrieval's default of 4 GB (HNSW with 32 links, of float32), by faiss alone.

The vectors are clustered as those of pictures are, not noise: 20,000 centres, whose sizes fall as
1 / rank^0.8, in 128 directions whose spread falls as 1 / sqrt(rank), on a mean of their own, so
that any two are at a cosine of 0.11 on average and the nearest of a million at 0.8. Queries are
new vectors of the same kind ("pictures"), and such that are moved off by one constant vector and
spread more, as texts are beside pictures ("texts").
"""

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa

from train.search.index_files import (
    FORMAT,
    ROWS,
    IndexDocument,
    PartDocument,
    write_document,
    write_part,
)
from train.search.neighbours import (
    Neighbours,
    add_rows,
    choose_probes,
    recall_at_10,
    train_cells,
    write_neighbours,
)
from train.search.opened_index import OpenedIndex
from train.search.vectors import Vectors, nearest_of_all, open_vectors

DIMENSIONS, DIRECTIONS, CENTRES = 640, 128, 20_000
PART = 50_000
QUERIES = 200
USERS, REQUESTS = 50, 20


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


def queries() -> dict[str, np.ndarray]:
    return {
        "pictures": made_vectors(QUERIES, 2),
        "texts": made_vectors(QUERIES, 3, gap=1.0, spread=1.3),
    }


def make_parts(folder: Path, rows: int) -> IndexDocument:
    """An index without neighbours, whose rows have captions and URLs of usual lengths."""
    names = [f"made-{first // PART:05d}" for first in range(0, rows, PART)]
    counts = [min(PART, rows - first) for first in range(0, rows, PART)]
    for part, (name, count) in enumerate(zip(names, counts, strict=True)):
        if not (folder / "parts" / f"{name}.json").exists():
            numbers = np.arange(count) + part * PART
            vectors = made_vectors(count, 1000 + part).astype(np.float16)
            document = PartDocument(name, count, count, True, {})
            write_part(folder, name, document, (_rows(numbers), [b""] * count, vectors))
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
        "width": np.full(len(keys), 640, np.int32),
        "height": np.full(len(keys), 480, np.int32),
        "unsafe_score": np.zeros(len(keys), np.float32),
        "phash": numbers.astype(np.uint64) * np.uint64(0xD1B54A32D192ED03),
        "md5": pa.array([b"\0" * 16] * len(keys), pa.binary(16)),
        "sha1": pa.array([b"\0" * 20] * len(keys), pa.binary(20)),
        "sha256": pa.array([b"\0" * 32] * len(keys), pa.binary(32)),
    }
    return pa.table({name: pa.array(column) for name, column in columns.items()}).cast(ROWS)


def build(folder: Path, document: IndexDocument, vectors: Vectors) -> dict[str, float]:
    """Makes the cells as the command does; seconds, and CPU-seconds."""
    start, cpu = time.perf_counter(), time.process_time()
    index = train_cells(vectors, "bytes")
    trained = time.process_time()
    add_rows(index, vectors)
    added = time.process_time()
    sample = np.concatenate([made[:100] for made in queries().values()])
    probes, recall = choose_probes(vectors, index, sample)
    write_neighbours(folder / "neighbours-1.faiss", index)
    fields = vars(document) | {
        "kind": "bytes",
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
        "cells": index.nlist,
        "probes": probes,
    }


def latencies(neighbours: Neighbours, asked: np.ndarray) -> dict[str, float]:
    """Of one query after another, in one thread: wall and CPU, ms."""
    walls, cpus = [], []
    for query in asked:
        wall, cpu = time.perf_counter(), time.thread_time()
        neighbours.nearest(query, 100)
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


class MadeModel:
    """A model that takes no time: each text is one of the made queries."""

    name, kind, digest, width = "made", "made", "00" * 32, DIMENSIONS

    def __init__(self) -> None:
        self._texts = queries()["texts"]

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        return np.stack([self._texts[int(text) % QUERIES] for text in texts])


def serve(folder: Path) -> None:
    """Serves until it is killed; prints the URL, the seconds that it took, and the memory."""
    from train.search.serve import Server

    start = time.perf_counter()
    index = OpenedIndex(folder)
    server = Server(index, MadeModel, ("127.0.0.1", 0), 1_000_000)
    print(json.dumps({"url": server.url, "opened_s": time.perf_counter() - start}), flush=True)
    server.run()


def load(folder: Path) -> dict[str, float]:
    """A server of its own: its start, and 50 users who each ask 20 times, without a pause."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.search", "--serve", f"--folder={folder}"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        told = json.loads(server.stdout.readline())
        started_s = time.perf_counter() - start
        asyncio.run(_users(told["url"], 5, 4, 10_000))  # the model and the files are there then
        cpu = _cpu_s(server.pid)
        begun = time.perf_counter()
        times, wrong = asyncio.run(_users(told["url"], USERS, REQUESTS, 0))
        took = time.perf_counter() - begun
        status = Path(f"/proc/{server.pid}/status").read_text()
        memory = {
            key: int(line.split()[1]) / 1024
            for line in status.splitlines()
            for key in ("VmRSS", "RssAnon", "RssFile")
            if line.startswith(f"{key}:")
        }
        return {
            "process_start_s": started_s,
            "opened_s": told["opened_s"],
            "users": USERS,
            "requests": len(times),
            "errors": wrong,
            "requests_per_s": len(times) / took,
            "server_cpu_ms_a_request": 1e3 * (_cpu_s(server.pid) - cpu) / len(times),
            "ms_p50": float(np.percentile(times, 50)),
            "ms_p99": float(np.percentile(times, 99)),
            **{f"{name}_mib": value for name, value in memory.items()},
        }
    finally:
        server.kill()
        server.wait()


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def _users(url: str, users: int, requests: int, first: int) -> tuple[list[float], int]:
    parts = urllib.parse.urlsplit(url)
    times: list[float] = []
    wrong = 0

    async def user(number: int) -> None:
        nonlocal wrong
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        for at in range(requests):
            text = first + number * requests + at  # each another, so that none is remembered
            start = time.perf_counter()
            asked = f"GET /api/search?text={text} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n"
            writer.write(asked.encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            times.append(1e3 * (time.perf_counter() - start))
            wrong += b" 200 " not in head[:16]
        writer.close()

    await asyncio.gather(*(user(number) for number in range(users)))
    return times, wrong


def peer(vectors: Vectors, folder: Path, efforts: tuple[int, ...]) -> dict[str, object]:
    """HNSW of float32 with 32 links: what autofaiss takes where the memory allows it."""
    cpu = time.process_time()
    index = faiss.IndexHNSWFlat(DIMENSIONS, 32, faiss.METRIC_INNER_PRODUCT)
    for _, block in vectors.blocks():
        index.add(block)
    told: dict[str, object] = {"cpu_s": time.process_time() - cpu}
    faiss.omp_set_num_threads(1)
    for effort in efforts:
        parameters = faiss.SearchParametersHNSW(efSearch=effort)
        for kind, asked in queries().items():
            right, cpus, hits = exact_rows(folder, vectors, kind, asked), [], 0
            for query, rows in zip(asked, right, strict=True):
                start = time.thread_time()
                near = index.search(query[None], 10, params=parameters)[1][0]
                cpus.append(1e3 * (time.thread_time() - start))
                hits += len(np.intersect1d(near, rows))
            told[f"efSearch={effort} {kind}"] = {
                "recall@10": hits / right.size,
                "cpu_ms_p50": float(np.percentile(cpus, 50)),
                "cpu_ms_p99": float(np.percentile(cpus, 99)),
            }
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=Path("out/search"))
    parser.add_argument("--peer", action="store_true", help="HNSW as autofaiss would choose it")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.serve:
        serve(flags.folder)
        return
    flags.folder.mkdir(parents=True, exist_ok=True)
    document = make_parts(flags.folder, flags.rows)
    vectors = open_vectors(flags.folder, document)
    if not (flags.folder / "index.json").exists():
        tell("build", build(flags.folder, document, vectors))
    faiss.omp_set_num_threads(1)
    index = OpenedIndex(flags.folder)
    for kind, asked in queries().items():
        right = exact_rows(flags.folder, vectors, kind, asked)
        recall = recall_at_10(index.neighbours, asked, right)
        tell(kind, {"recall@10": recall, **latencies(index.neighbours, asked)})
    del index
    tell("load", load(flags.folder))
    tell("own peak", {"mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024})
    if flags.peer:
        faiss.omp_set_num_threads(2)
        tell("HNSW32", peer(vectors, flags.folder, (32, 64, 128, 256, 512)))


def tell(what: str, numbers: object) -> None:
    shown = json.dumps(numbers, default=str)
    print(f"{what}: {shown}", flush=True)


if __name__ == "__main__":
    main()
