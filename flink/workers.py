"""The pool of Python workers: a process for each worker that a TaskManager asks for."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc
from apache_beam.runners.worker.sdk_worker import SdkHarness
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer

from flink.cluster import HOST

SIDE_INPUT_CACHE_BYTES = 64 << 20
CHECK_S = 1.0
START_S = 120.0  # a worker that dies younger than this may not have answered yet
TRIES = 3


class WorkerPool(BeamFnExternalWorkerPoolServicer):
    """Beam's pool, for TaskManagers that share a machine.

    Both number their workers 1-1, 1-2, and so on: to stop one by its number could stop the
    other's. So a worker here ends by itself when its TaskManager no longer listens. And one that
    dies before it answers is started again, since the TaskManager would wait for it forever.
    """

    def StartWorker(self, request: Any, context: Any) -> Any:
        control = request.control_endpoint.url
        threading.Thread(target=_keep, args=(request.worker_id, control), daemon=True).start()
        return beam_fn_api_pb2.StartWorkerResponse()

    def StopWorker(self, request: Any, context: Any) -> Any:
        return beam_fn_api_pb2.StopWorkerResponse()


def _keep(worker_id: str, control: str) -> None:
    command = [sys.executable, "-m", "flink.workers", f"--id={worker_id}", f"--control={control}"]
    for _ in range(TRIES):
        begun = time.monotonic()
        status = subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
        if status == 0 or time.monotonic() - begun > START_S or not listens(control):
            break
        logging.warning("worker %s ended with status %d: started again", worker_id, status)


def listens(endpoint: str) -> bool:
    """Whether something takes connections there."""
    host, _, port = endpoint.rpartition(":")
    with contextlib.suppress(OSError):
        socket.create_connection((host, int(port)), 10).close()
        return True
    return False


def _end_with(control: str) -> None:
    """Ends this process when its TaskManager is gone, or has no more use for it: a bundle under
    way would else run on beside the attempt that takes its place."""
    while listens(control):
        time.sleep(CHECK_S)
    logging.warning("the TaskManager at %s is gone", control)
    os._exit(0)


def work(worker_id: str, control: str) -> None:
    """One worker, until its TaskManager has no more use for it."""
    threading.Thread(target=_end_with, args=(control,), daemon=True).start()
    SdkHarness(control, worker_id=worker_id, state_cache_size=SIDE_INPUT_CACHE_BYTES).run()
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m flink.workers", description=__doc__)
    parser.add_argument("--port", type=int, help="of the pool")
    parser.add_argument("--id", help="of one worker")
    parser.add_argument("--control", help="the endpoint of the worker's TaskManager")
    flags = parser.parse_args()
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(process)d %(levelname)s %(message)s"
    )
    logging.getLogger("alignset").setLevel(logging.INFO)
    if flags.id:
        work(flags.id, flags.control)
    # Beam's own `start` listens on all interfaces, for whoever comes.
    pool = grpc.server(ThreadPoolExecutor(), options=[("grpc.http2.max_ping_strikes", 0)])
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(WorkerPool(), pool)
    pool.add_insecure_port(f"{HOST}:{flags.port}")
    pool.start()
    logging.warning("workers are to be had at %s:%d", HOST, flags.port)
    pool.wait_for_termination()


if __name__ == "__main__":
    main()
