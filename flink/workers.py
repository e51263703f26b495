"""The pool of Python workers of a machine: a process for each worker that its TaskManager asks for,
with a folder of its own for temporary files."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc
from apache_beam.runners.worker.sdk_worker import SdkHarness
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer

from alignset.flink.cluster import last_line
from alignset.signals import end_with_parent

SIDE_INPUT_CACHE_BYTES = 64 << 20
CHECK_S = 1.0
START_S = 120.0
MOST_AT_ONCE = 256  # workers that start
_READY = "ready"


class WorkerPool(BeamFnExternalWorkerPoolServicer):
    """Beam's pool, which answers once a worker has started, or says why it has not: Beam's own
    answers at once, and the TaskManager then waits for ever for a worker that died.

    A TaskManager that starts again numbers its workers 1-1, 1-2, … again: to stop one by its number
    could stop another. So a worker here ends by itself when its TaskManager no longer listens.

    Args:
      name: of the pool, for messages.
      folder: of the workers' temporary files; what dead workers left there is removed.
    """

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__()
        self._name, self._folder = name, folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    def StartWorker(self, request: Any, context: Any) -> Any:
        words = (f"--id={request.worker_id}", f"--control={request.control_endpoint.url}")
        if why := self._start(words):
            why = f"the worker pool of {self._name} cannot start a Python worker: {why}"
            logging.error("%s", why)
        return beam_fn_api_pb2.StartWorkerResponse(error=why)

    def StopWorker(self, request: Any, context: Any) -> Any:
        return beam_fn_api_pb2.StopWorkerResponse()

    def _start(self, words: tuple[str, ...]) -> str:
        """Starts a worker; returns why it has not started."""
        reading, writing = os.pipe()
        with open(reading) as answer:
            try:
                folder = tempfile.mkdtemp(dir=self._folder)
                worker = subprocess.Popen(
                    [
                        *(sys.executable, "-m", "alignset.flink.workers", *words),
                        *(f"--ready={writing}", f"--parent={os.getpid()}"),
                    ],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[writing],
                    env=os.environ | {"TMPDIR": folder},
                )
            except OSError as error:
                return str(error)
            finally:
                os.close(writing)
            threading.Thread(target=_remove_after, args=(worker, folder), daemon=True).start()
            if not select.select([reading], [], [], START_S)[0]:
                worker.kill()
                return f"it did not start within {START_S:.0f} s"
            said = answer.read()
        if said == _READY:
            return ""
        log = Path("/proc/self/fd/2")
        why = said or (last_line(log) if log.is_file() else "")
        return f"it ended with status {worker.wait()}: {why}"


def _remove_after(worker: subprocess.Popen[bytes], folder: str) -> None:
    worker.wait()
    shutil.rmtree(folder, ignore_errors=True)


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


def work(worker_id: str, control: str, ready: int) -> None:
    """One worker, until its TaskManager has no more use for it.

    Args:
      ready: a file descriptor, which gets `_READY` or the reason why the worker does not start.
    """
    with open(ready, "w") as answer:
        try:
            worker = SdkHarness(
                control, worker_id=worker_id, state_cache_size=SIDE_INPUT_CACHE_BYTES
            )
            answer.write(_READY)
        except Exception as error:
            answer.write(repr(error))
            raise
    threading.Thread(target=_end_with, args=(control,), daemon=True).start()
    worker.run()
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m alignset.flink.workers", description=__doc__)
    parser.add_argument("--host", help="of this machine, for messages")
    parser.add_argument("--port", type=int, help="of the pool")
    parser.add_argument("--folder", type=Path, help="of the workers' temporary files")
    parser.add_argument("--id", help="of one worker")
    parser.add_argument("--control", help="the endpoint of the worker's TaskManager")
    parser.add_argument("--ready", type=int, help="the file descriptor that is told of the start")
    parser.add_argument("--parent", type=int, help="the pool's process, with which a worker ends")
    flags = parser.parse_args()
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(process)d %(levelname)s %(message)s"
    )
    logging.getLogger("alignset").setLevel(logging.INFO)
    if flags.id:
        end_with_parent(flags.parent)
        work(flags.id, flags.control, flags.ready)
    # Beam's own `start` listens on all interfaces, for whoever comes, and beside another pool.
    options = [("grpc.http2.max_ping_strikes", 0), ("grpc.so_reuseport", 0)]
    server = grpc.server(ThreadPoolExecutor(MOST_AT_ONCE), options=options)
    address = f"localhost:{flags.port}"
    pool = WorkerPool(f"{flags.host} ({address} there)", flags.folder)
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    server.add_insecure_port(address)
    server.start()
    logging.warning("workers are to be had at %s", address)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
