"""How long a step with cached gradients waits for data from a slow web server.

  python benchmarks/reading.py
  python benchmarks/reading.py --checkout=OTHER    (the same by another version's code)
  python benchmarks/reading.py --processes=4

The server sends a shard of 4,096 images of 50 KB for each process, by ranges: 40 ms to the first
byte, then 90 MB/s a connection. A step has 1,024 images of each process in 16 micro-batches, and
all processes end it together. The towers are sleeps, 0.25 s while micro-batches are asked for and
0.75 s while none is; decoding is a sleep of 2 ms an image.
"""

import argparse
import io
import multiprocessing
import os
import re
import sys
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

IMAGES, IMAGE_BYTES = 4_096, 50_000
FIRST_BYTE_S, BYTES_A_SECOND, PIECE = 0.04, 90e6, 1 << 18
STEPS, WARM_UP, MICRO_BATCHES = 7, 2, 16
ASKING_S, COMPUTING_S, DECODING_S = 0.25, 0.75, 0.002


def shard() -> bytes:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(IMAGES):
            for extension, data in (("jpg", bytes(IMAGE_BYTES + number)), ("txt", b"a text")):
                member = tarfile.TarInfo(f"{number:06d}.{extension}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return body.getvalue()


class Server(ThreadingHTTPServer):
    daemon_threads, is_slow, body = True, False, b""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        body, asked = self.server.body, re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        time.sleep(FIRST_BYTE_S * self.server.is_slow)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        try:
            for at in range(start, len(body), PIECE):
                self.wfile.write(body[at : at + PIECE])
                time.sleep(PIECE / BYTES_A_SECOND * self.server.is_slow)
        except OSError:
            pass  # the reader has what it wants

    def log_message(self, *_: object) -> None:
        pass


def read(rank: int, index: Any, processes: int, barrier: Any, results: Any) -> None:
    """Some steps of one process; tells the mean step, and its share of waiting for data."""
    import numpy as np

    from alignset.train.data.batches import TrainingData, prefetch
    from alignset.train.data.find_shards import ShardSet
    from alignset.train.data.order import Position
    from alignset.train.settings import Settings

    black = np.zeros((8, 8, 3), np.uint8)
    TrainingData._crop = lambda *_: (time.sleep(DECODING_S), black)[1]  # noqa: SLF001
    sizes = {"batch_size": 1024 * processes, "micro_batch_size": 1024 // MICRO_BATCHES}
    settings = Settings(**sizes, crop_px=8, resize_px=8, shuffle_samples=1024)
    data = TrainingData([ShardSet(index.shards)], [index], settings, rank, processes)
    batches = prefetch(data.batches(Position()), lambda batch: batch)
    steps_s, waits_s = [], []
    for _ in range(STEPS):
        begun_s, waited_s = time.perf_counter(), 0.0
        for _ in range(MICRO_BATCHES):
            asked_s = time.perf_counter()
            next(batches)
            waited_s += time.perf_counter() - asked_s
            time.sleep(ASKING_S / MICRO_BATCHES)
        time.sleep(COMPUTING_S)
        barrier.wait()  # as processes that add up their gradients do
        steps_s.append(time.perf_counter() - begun_s)
        waits_s.append(waited_s)
    timed_s = sum(steps_s[WARM_UP:])
    results.put((timed_s / (STEPS - WARM_UP), sum(waits_s[WARM_UP:]) / timed_s))
    results.close()
    results.join_thread()
    os._exit(0)  # some threads read on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--checkout", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--processes", type=int, default=1)
    flags = parser.parse_args()
    sys.path.insert(0, str(flags.checkout.absolute()))  # of the other processes too
    from alignset.train.data.shard_index import read_indexes

    web = Server(("127.0.0.1", 0), Handler)
    web.body = shard()
    threading.Thread(target=web.serve_forever, daemon=True).start()
    count, url = flags.processes, f"http://127.0.0.1:{web.server_port}"
    index = read_indexes([tuple(f"{url}/{number}.tar" for number in range(count))])[0][0]
    web.is_slow = True
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    arguments = index, count, context.Barrier(count), results
    for rank in range(count):
        context.Process(target=read, args=(rank, *arguments), daemon=True).start()
    found = [results.get(timeout=600) for _ in range(count)]  # none comes of a process that fails
    step_s, share = max(found)[0], max(share for _, share in found)
    busy = (ASKING_S + COMPUTING_S) / step_s
    print(f"a step: {step_s:.2f} s, busy: {busy:.1%}, waiting for data: at most {share:.1%}")


if __name__ == "__main__":
    main()
