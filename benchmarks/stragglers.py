"""How long the image plane's tail is: 10,000 shards over 100 workers, simulated.

  python benchmarks/stragglers.py [--check | --measure=TIMES.parquet | --times=TIMES.parquet] …

Two simulations. One fetcher: the real one's own code (connections, time-outs, retries, hosts that
are given up) on a clock of its own, where answers come after given delays; `--check` lets it fetch
the same URLs with the same delays from a server on loopback and prints both times. A cluster:
shards with those times on workers that are slow, die and come back; given out one by one as they
ask (Dataflow, the in-process runner) or all at the start (Flink), where those that are ready then
take over from others (`transforms/workers/take_over.py`) or do not.

The delays are assumed (flags), or drawn from those that `--measure` found: what the real fetcher
saw of each transfer from the demo's web, whose server it starts.
"""

import argparse
import asyncio
import heapq
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from results import print_results
from simulated_fetches import Answer, shard_seconds

from alignset.transforms.fetching import fetch
from alignset.transforms.fetching.curl_multi import Ended, Transfers
from alignset.transforms.fetching.fetch import fetch_all
from alignset.transforms.fetching.fetch_settings import FetchSettings
from alignset.transforms.workers.take_over import PATIENCE_S
from flink.runs import SETS, demo_web

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
IMAGE_S = 968e-6  # CPU of an image beside waiting (benchmarks/fetch.py)
# Shards whose fetches are simulated one by one, by their pairs; the others are drawn from these.
DETAILED = {1000: 100, 10_000: 20, 50_000: 4}


class Web:
    """What answers, in a simulation."""

    def __init__(self, flags: argparse.Namespace, draw: np.random.Generator) -> None:
        self.flags, self.draw = flags, draw
        shares = 1.0 / (np.arange(flags.hosts) + 20)
        self.shares = np.cumsum(shares / shares.sum())
        self.delays = flags.median_s * np.exp(draw.normal(0, np.log(2), flags.hosts))
        self.delays[draw.random(flags.hosts) < flags.dead_hosts] = np.inf
        self.times = pq.read_table(flags.times).to_pylist() if flags.times else []

    def shard(self) -> list[Answer]:
        """The answers to a shard's URLs."""
        pairs, draw = self.flags.pairs, self.draw
        host = np.searchsorted(self.shares, draw.random(pairs)).tolist()
        if self.times:
            drawn = draw.integers(0, len(self.times), pairs)
            return [
                Answer(h, **self.times[n], measured=True) for h, n in zip(host, drawn, strict=True)
            ]
        delay = self.delays[host] * np.exp(draw.normal(0, np.log(2), pairs))
        gone = (draw.random(pairs) < self.flags.gone) & np.isfinite(delay)
        return [
            Answer(h, 0.1, "http_404") if quick else Answer(h, d)
            for h, d, quick in zip(host, delay.tolist(), gone.tolist(), strict=True)
        ]


class Workers:
    """Those of a cluster: when each is free again, its pace, and what it was given at the start."""

    def __init__(
        self, seconds: np.ndarray, flags: argparse.Namespace, draw: np.random.Generator
    ) -> None:
        self.seconds, self.flags, self.draw = seconds, flags, draw
        slow = draw.random(flags.workers) < flags.slow_workers
        self.pace = np.where(slow, draw.uniform(2, 4, flags.workers), 1.0)
        place = draw.integers(0, flags.workers, len(seconds))
        self.own = [deque(np.flatnonzero(place == n).tolist()) for n in range(flags.workers)]
        self.free = [(0.0, worker) for worker in range(flags.workers)]

    def attempt(self, now: float, worker: int, shard: int) -> float:
        """When it is written: inf where the worker dies; and the worker is free again."""
        took = self.seconds[shard] * self.pace[worker]
        dies = self.draw.exponential(self.flags.hours_to_failure * 3600)
        lived = took if took <= dies else dies + self.flags.restart_s
        heapq.heappush(self.free, (now + lived, worker))
        return now + took if took <= dies else math.inf


def given_out(workers: Workers, asked: bool) -> list[float]:
    """When each shard is done, s; given out as workers ask for them, or all at the start."""
    if asked:
        workers.own = [deque(range(len(workers.seconds)))] * len(workers.own)
    done = []
    while workers.free:
        now, worker = heapq.heappop(workers.free)
        if own := workers.own[worker]:
            shard = own.popleft()
            done.append(workers.attempt(now, worker, shard))
            if done[-1] == math.inf:  # begun anew, by this worker's successor or by another
                own.append(shard)
                done.pop()
    return done


def taken_over(workers: Workers) -> list[float]:
    """When each shard is done, s, and the last when no worker is at any shard any more.

    As in an object store, where a shard is written by the last that began it.
    """
    count = len(workers.seconds)
    fresh = dict.fromkeys(workers.draw.permutation(count).tolist())
    begun, done, slowest_s = [0.0] * count, [math.inf] * count, [0.0] * len(workers.own)
    attempts = [0] * count
    last = 0.0
    while workers.free:
        now, worker = heapq.heappop(workers.free)
        own, late = workers.own[worker], []
        while own and own[0] not in fresh:
            own.popleft()
        if not fresh:
            patience_s = max(PATIENCE_S, 1.5 * slowest_s[worker])
            left = [n for n in range(count) if done[n] > now]
            late = [n for n in left if now - begun[n] >= patience_s * 2 ** (attempts[n] - 1)]
        if fresh:
            shard = own[0] if own else next(iter(fresh))
            del fresh[shard]
        elif late:
            shard = late[int(workers.draw.integers(len(late)))]
        else:
            if max(done) > now:
                heapq.heappush(workers.free, (now + PATIENCE_S, worker))
            last = now
            continue
        begun[shard] = now
        attempts[shard] += 1
        done[shard] = ended = workers.attempt(now, worker, shard)
        if ended < math.inf:
            slowest_s[worker] = max(slowest_s[worker], ended - now)
    return [*sorted(done)[:-1], last]


def measured_seconds(answers: Sequence[Answer], settings: FetchSettings) -> float:
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
    urls = []
    for simulated in answers:
        host = simulated.host
        address = f"127.{host >> 16 & 255}.{host >> 8 & 255}.{host & 255 or 1}"
        urls.append(f"http://{address}:{port[0]}/{min(simulated.delay_s, 1000):.3f}")
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
        answers = Web(flags, draw).shard()
        simulated = shard_seconds(answers, settings)
        measured = measured_seconds(answers, settings)
        rows.append({"dead hosts": dead, "simulated, s": simulated, "measured, s": measured})
    print_results(rows, {"benchmark": "stragglers --check", "rows": rows}, ("pycurl", "numpy"))


def measure(path: str) -> None:
    """What the real fetcher sees of the demo's web: seconds and outcome of each transfer."""
    ends: list[tuple[int, Ended]] = []  # with the number of the attempt

    class Seen(Transfers):
        def wait(self, at_most_s: float) -> list[Ended]:
            ended = super().wait(at_most_s)
            ends.extend((end.job.attempts, end._replace(body=None)) for end in ended)
            return ended

    # Its web is one host, which is not to wait for itself.
    settings = FetchSettings(
        allow_private_addresses=True, connections_per_host=64, max_host_failures=0
    )
    SETS.mkdir(parents=True, exist_ok=True)
    with demo_web(small=False) as demo, mock.patch.object(fetch, "Transfers", Seen):
        pairs = pq.read_table(demo.flags[0].partition("=")[2])
        for _ in fetch_all(pairs["url"].unique().drop_null().to_pylist(), settings):
            pass
    first = [end for attempt, end in ends if attempt == 1 and not end.redirect]
    table = pa.table(
        {
            "delay_s": [end.took_s for end in first],
            "detail": [end.detail for end in first],
            "silent": [end.silent for end in first],
        }
    )
    pq.write_table(table, path)
    rows = []
    for detail in sorted({end.detail or "" for end in first}):
        took = [end.took_s for end in first if (end.detail or "") == detail]
        row = {"outcome": detail or "success", "transfers": len(took)}
        shares = {"ms: median": 0.5, "90 %": 0.9, "99 %": 0.99, "the longest": 1.0}
        rows.append(row | {name: float(np.quantile(took, q)) * 1000 for name, q in shares.items()})
    print_results(rows, {"benchmark": "stragglers --measure", "rows": rows}, ("pycurl", "numpy"))


def simulate(flags: argparse.Namespace) -> None:
    settings, rows = FetchSettings(), []
    total = flags.pairs * flags.shards
    for pairs, detailed in DETAILED.items():
        draw = np.random.default_rng(7)
        flags.pairs, shards = pairs, total // pairs
        web = Web(flags, draw)
        detailed_s = [
            shard_seconds(web.shard(), settings) + pairs * IMAGE_S for _ in range(detailed)
        ]
        seconds = draw.choice(detailed_s, shards)
        for how in ("as asked", "at the start", "and taken over"):
            workers = Workers(seconds, flags, draw)
            over = how == "and taken over"
            ended = taken_over(workers) if over else given_out(workers, how == "as asked")
            done = np.sort(ended) / 3600
            even = seconds.sum() / flags.workers / 3600
            rows.append(
                {
                    "pairs a shard": pairs,
                    "given out": how,
                    "shard, s: median": float(np.median(detailed_s)),
                    "the longest": float(np.max(detailed_s)),
                    "hours": float(done[-1]),
                    "over even": float(done[-1] / even),
                    "after 95 % are done": float((done[-1] - done[int(0.95 * shards)]) / done[-1]),
                }
            )
    print_results(
        rows, {"benchmark": "stragglers", "assumed": vars(flags), "rows": rows}, ("numpy",)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="the fetcher beside its simulation")
    parser.add_argument("--measure", default="", help="where to write what transfers took")
    parser.add_argument("--times", default="", help="what --measure wrote, in place of assumptions")
    for name, (default, what) in ASSUMED.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=what)
    flags = parser.parse_args()
    if flags.measure:
        measure(flags.measure)
    elif flags.check:
        check(flags)
    else:
        simulate(flags)


if __name__ == "__main__":
    main()
