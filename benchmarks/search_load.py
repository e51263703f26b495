"""A server of a made index, and users who ask it without a pause, for `benchmarks/search.py`."""

import asyncio
import json
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

import numpy as np

from alignset.train.search.opened_index import OpenedIndex
from benchmarks.search_vectors import DIMENSIONS, QUERIES, queries

USERS, REQUESTS = 50, 20


class MadeModel:
    """A model that takes no time: each text is one of the made queries."""

    name, kind, digest, width = "made", "made", "00" * 32, DIMENSIONS

    def __init__(self) -> None:
        self._texts = queries()["texts"]

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        return np.stack([self._texts[int(text) % QUERIES] for text in texts])


def serve(folder: Path) -> None:
    """Serves until it is killed; prints the URL, the seconds that it took, and the memory."""
    from alignset.train.search.serve import Server

    start = time.perf_counter()
    index = OpenedIndex(folder)
    server = Server(index, MadeModel, ("127.0.0.1", 0), 1_000_000)
    print(json.dumps({"url": server.url, "opened_s": time.perf_counter() - start}), flush=True)
    server.run()


def load(folder: Path) -> dict[str, float]:
    """A server of its own: its start, and 50 users who each ask 20 times, without a pause, for a
    first page and then for its second."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.search", "--serve", f"--folder={folder}"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        told = json.loads(server.stdout.readline())
        started_s = time.perf_counter() - start
        asyncio.run(_users(told["url"], 5, 4, 10_000))  # the model and the files are there then
        both: dict[str, float] = {}
        # The first page of texts that nobody asked for before, then the second page of the same.
        for page, offset in (("first", 0), ("second", 24)):
            cpu, begun = _cpu_s(server.pid), time.perf_counter()
            first, later, wrong = asyncio.run(_users(told["url"], USERS, REQUESTS, 0, offset))
            took, times = time.perf_counter() - begun, first + later
            both |= {
                f"{page} page: errors": wrong,
                f"{page} page: requests_per_s": len(times) / took,
                f"{page} page: server_cpu_ms": 1e3 * (_cpu_s(server.pid) - cpu) / len(times),
                f"{page} page: ms_p50": float(np.percentile(times, 50)),
                f"{page} page: ms_p99": float(np.percentile(times, 99)),
                f"{page} page: ms_p99 but of the first, at once": float(np.percentile(later, 99)),
            }
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
            "requests_of_each_user": REQUESTS,
            **both,
            **{f"{name}_mib": value for name, value in memory.items()},
        }
    finally:
        server.kill()
        server.wait()


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def _users(
    url: str, users: int, requests: int, first: int, offset: int = 0
) -> tuple[list[float], list[float], int]:
    """How long the first request of each user took, for which all connect at once, and each later
    one, ms; and how many had another status than 200."""
    parts = urllib.parse.urlsplit(url)
    times: tuple[list[float], list[float]] = [], []
    wrong = 0

    async def user(number: int) -> None:
        nonlocal wrong
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        for at in range(requests):
            text = first + number * requests + at  # each another, so that none is remembered
            start = time.perf_counter()
            asked = f"GET /api/search?text={text}&offset={offset} HTTP/1.1\r\n"
            writer.write(f"{asked}Host: {parts.netloc}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            times[at > 0].append(1e3 * (time.perf_counter() - start))
            wrong += b" 200 " not in head[:16]
        writer.close()

    await asyncio.gather(*(user(number) for number in range(users)))
    return *times, wrong
