"""How long the image plane's tail is: 10,000 shards over 100 workers, simulated.

  python benchmarks/stragglers.py [--check] [--workers=100] [--shards=10000] …

Two simulations. One fetcher: the real one's rules (connections, of one host, time-outs, retries)
over hosts of many speeds, a few of which answer nothing; `--check` lets the real fetcher fetch the
same URLs with the same delays from a server on loopback and prints both times. A cluster: shards
with those times on workers that are slow, die and come back; given out one by one as they ask
(Dataflow, the in-process runner) or all at the start (Flink).
"""

import argparse
import asyncio
import heapq
import sys
import threading
import time
from collections import Counter, deque
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from results import print_results

from transforms.fetch import FetchSettings, fetch_all

# Assumed; what a web is like cannot be measured here.
ASSUMED = {
    "workers": (100, "processes that each write a shard at a time"),
    "shards": (10_000, "of --pairs pairs each"),
    "pairs": (10_000, "in a shard"),
    "hosts": (100_000, "that serve images; the n-th has 1 / (n + 20) of the most used one's"),
    "median_s": (0.3, "of a fetch, of the median host; hosts and fetches vary by a factor of 2"),
    "dead_hosts": (0.03, "share of hosts that accept and never answer"),
    "gone": (0.25, "share of images that are a quick 404"),
    "slow_workers": (0.05, "share that takes 2 to 4 times as long"),
    "hours_to_failure": (24.0, "of a worker, on average"),
    "restart_s": (180.0, "until a dead worker is replaced"),
}
DETAILED = 150  # shards whose fetches are simulated one by one; the others are drawn from these


def hosts_of(flags: argparse.Namespace, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Of each host its share of URLs, cumulated, and its median delay in s; inf is dead."""
    shares = 1.0 / (np.arange(flags.hosts) + 20)
    delays = flags.median_s * np.exp(draw.normal(0, np.log(2), flags.hosts))
    delays[draw.random(flags.hosts) < flags.dead_hosts] = np.inf
    return np.cumsum(shares / shares.sum()), delays


def fetches_of_shard(
    flags: argparse.Namespace, hosts: tuple[np.ndarray, np.ndarray], draw: np.random.Generator
) -> list[tuple[int, float]]:
    """(host, seconds) of each URL; inf is never answered."""
    host = np.searchsorted(hosts[0], draw.random(flags.pairs))
    delay = hosts[1][host] * np.exp(draw.normal(0, np.log(2), flags.pairs))
    quick = (draw.random(flags.pairs) < flags.gone) & np.isfinite(delay)
    return list(zip(host.tolist(), np.where(quick, 0.1, delay).tolist(), strict=True))


def shard_seconds(fetches: list[tuple[int, float]], settings: FetchSettings) -> float:
    """How long the fetcher takes: as many at once as it does, from one host as it does."""
    coming, window = deque(fetches), 32 * settings.connections
    waiting: dict[int, deque[tuple[float, int]]] = {}
    busy: Counter[int] = Counter()
    under_way: list[tuple[float, int, float, int]] = []
    now, held = 0.0, 0

    def begin(host: int) -> None:
        nonlocal held
        jobs = waiting[host]
        while (
            jobs
            and busy[host] < settings.connections_per_host
            and len(under_way) < settings.connections
        ):
            delay, attempt = jobs.popleft()
            held, busy[host] = held - 1, busy[host] + 1
            heapq.heappush(under_way, (now + min(delay, settings.timeout_s), host, delay, attempt))

    while coming or under_way:
        while coming and held < window and len(under_way) < settings.connections:
            host, delay = coming.popleft()
            waiting.setdefault(host, deque()).append((delay, 1))
            held += 1
            begin(host)
        now, host, delay, attempt = heapq.heappop(under_way)
        busy[host] -= 1
        if delay > settings.timeout_s and attempt <= settings.retries:
            waiting[host].append((delay, attempt + 1))
            held += 1
        begin(host)
    return now


def cluster_hours(
    seconds: np.ndarray, flags: argparse.Namespace, draw: np.random.Generator, asked: bool
) -> np.ndarray:
    """When each shard is done, in hours, ascending.

    Args:
      seconds: of each shard on a usual worker. asked: given out as workers ask for them.
    """
    slow = draw.random(flags.workers) < flags.slow_workers
    pace = np.where(slow, draw.uniform(2, 4, flags.workers), 1.0)
    shared = deque(range(len(seconds)))
    own = [shared] * flags.workers
    if not asked:
        place = draw.integers(0, flags.workers, len(seconds))
        own = [deque(np.flatnonzero(place == worker).tolist()) for worker in range(flags.workers)]
    free = [(0.0, worker) for worker in range(flags.workers)]
    done = []
    while free:
        now, worker = heapq.heappop(free)
        if not own[worker]:
            continue
        shard = own[worker].popleft()
        took = seconds[shard] * pace[worker]
        dies = draw.exponential(flags.hours_to_failure * 3600)
        if dies < took:  # the shard is begun anew, by this worker's successor or by another
            own[worker].append(shard)
            heapq.heappush(free, (now + dies + flags.restart_s, worker))
            continue
        done.append(now + took)
        heapq.heappush(free, (now + took, worker))
    return np.sort(done) / 3600


def measured_seconds(fetches: list[tuple[int, float]], settings: FetchSettings) -> float:
    """What the real fetcher takes where a server on loopback answers after those delays."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with_delay = (await reader.readline()).split(b"/")[1].split(b" ")[0]
        while (await reader.readline()).strip():
            pass
        await asyncio.sleep(float(with_delay))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(answer, "0.0.0.0", 0, backlog=1024)
        port.append(server.sockets[0].getsockname()[1])
        begun.set()
        async with server:
            await server.serve_forever()

    port: list[int] = []
    begun = threading.Event()
    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
    begun.wait()
    urls = [
        f"http://127.{h >> 16 & 255}.{h >> 8 & 255}.{h & 255 or 1}:{port[0]}/{min(d, 1000):.3f}"
        for h, d in fetches
    ]
    start = time.monotonic()
    assert len(list(fetch_all(urls, settings))) == len(urls)
    return time.monotonic() - start


def check(flags: argparse.Namespace) -> None:
    """The fetcher's simulation beside the fetcher, ten times as fast as the web."""
    settings = FetchSettings(allow_private_addresses=True, timeout_s=1.0, connect_timeout_s=1.0)
    draw = np.random.default_rng(1)
    rows = []
    for dead in (0.0, flags.dead_hosts):
        flags.dead_hosts, flags.pairs, flags.median_s = dead, 3000, 0.03
        fetches = fetches_of_shard(flags, hosts_of(flags, draw), draw)
        simulated = shard_seconds(fetches, settings)
        measured = measured_seconds(fetches, settings)
        rows.append({"dead hosts": dead, "simulated, s": simulated, "measured, s": measured})
    print_results(rows, {"benchmark": "stragglers --check", "rows": rows}, ("pycurl", "numpy"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="the fetcher beside its simulation")
    for name, (default, what) in ASSUMED.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=what)
    flags = parser.parse_args()
    if flags.check:
        check(flags)
        return
    settings, rows = FetchSettings(), []
    total = flags.pairs * flags.shards
    for pairs in (1000, 10_000, 50_000):
        draw = np.random.default_rng(7)
        flags.pairs, shards = pairs, total // pairs
        hosts = hosts_of(flags, draw)
        detailed = max(10, DETAILED * 1000 // pairs * 2) if pairs > 1000 else DETAILED
        seen = [
            shard_seconds(fetches_of_shard(flags, hosts, draw), settings) for _ in range(detailed)
        ]
        seconds = draw.choice(seen, shards)
        for asked in (True, False):
            done = cluster_hours(seconds, flags, draw, asked)
            even = seconds.sum() / flags.workers / 3600
            rows.append(
                {
                    "pairs a shard": pairs,
                    "given out": "as asked" if asked else "at the start",
                    "shard, s: median": float(np.median(seen)),
                    "the longest": float(np.max(seen)),
                    "hours": float(done[-1]),
                    "over even": float(done[-1] / even),
                    "after 95 % are done": float((done[-1] - done[int(0.95 * shards)]) / done[-1]),
                }
            )
    print_results(
        rows, {"benchmark": "stragglers", "assumed": vars(flags), "rows": rows}, ("numpy",)
    )


if __name__ == "__main__":
    main()
