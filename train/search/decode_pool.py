"""Pictures of strangers decoded in other processes, within bounds of pixels, memory and time.

A decoder that goes wrong takes a process with it, and one that takes too long is killed with it.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

from PIL import Image

MAX_BYTES = 16 << 20  # of an upload
_LIMIT_S = 10.0


class RefusedPicture(Exception):
    """The bytes are no picture, or one that would cost too much; the message says which."""


class DecodePool:
    """So many processes that decode, each one picture at a time; others wait for them."""

    def __init__(self, processes: int = 2, limit_s: float = _LIMIT_S):
        # A server of processes that is begun now, before there are threads and models, so that
        # each is small and new ones can be made at any time.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["alignset.train.search.decode_worker"])
        self._limit_s = limit_s
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="decode")
        for _ in range(processes):  # in the threads: the first takes half a second to begin
            self._threads.submit(lambda: self._idle.put(_Worker(self._context)))

    async def decode(self, data: bytes) -> Image.Image:
        """RGB, upright, its longer side at most 1024 px.

        Raises:
          RefusedPicture: it cannot be had.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._decode, data)

    def _decode(self, data: bytes) -> Image.Image:
        worker = self._idle.get()
        try:
            return worker.decode(data, self._limit_s)
        except (TimeoutError, EOFError, OSError) as error:
            worker.kill()
            worker = _Worker(self._context)
            reason = (
                "takes too long" if isinstance(error, TimeoutError) else "takes too much memory"
            )
            raise RefusedPicture(f"the picture {reason} to open: give a smaller one") from error
        finally:
            self._idle.put(worker)

    def kill_all(self) -> None:
        """Ends the processes that are idle, as the system does where memory is short."""
        idle = [self._idle.get() for _ in range(self._idle.qsize())]
        for worker in idle:
            worker.end()
            self._idle.put(worker)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        while not self._idle.empty():
            self._idle.get().kill()


class _Worker:
    """One process, and the pipe to it."""

    def __init__(self, context: multiprocessing.context.ForkServerContext):
        from alignset.train.search.decode_worker import work

        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def decode(self, data: bytes, limit_s: float) -> Image.Image:
        """Raises RefusedPicture; TimeoutError, EOFError or OSError where the process is lost."""
        self._pipe.send_bytes(data)
        if not self._pipe.poll(limit_s):
            raise TimeoutError
        kind, size, pixels = self._pipe.recv()
        if kind == "refused":
            raise RefusedPicture(str(pixels))
        return Image.frombytes("RGB", size, pixels)

    def end(self) -> None:
        self._process.kill()
        self._process.join()

    def kill(self) -> None:
        self.end()
        self._pipe.close()
