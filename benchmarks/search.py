"""Search over a million vectors: build, recall, latency, load, memory and start.

`python -m benchmarks.search` makes 1,000,000 vectors of 640 dimensions in out/search, builds an
index of them as `train.search index` does, and measures it. `--peer` also builds what autofaiss
would choose for clip-retrieval's default of 4 GB (HNSW with 32 links, of float32), by faiss alone.
`benchmarks/search_vectors.py` says what the vectors are.
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

from benchmarks.search_vectors import DIMENSIONS, QUERIES, make_parts, queries
from train.search.index_files import IndexDocument, write_document
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

USERS, REQUESTS = 50, 20


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
