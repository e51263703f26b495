"""Work of a trial process that does what each body says."""

import ctypes
import os
import signal
import time
from collections.abc import Sequence


def write_past_a_block() -> None:
    """As a decoder may; by the usual allocator nothing happens, or much later."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    blocks = [ctypes.c_void_p(libc.malloc(200)) for _ in range(2)]
    ctypes.memset(blocks[0], 7, 201)
    for block in blocks:
        libc.free(block)


def wrong() -> None:
    raise ValueError("wrong")


DEEDS = {
    b"abort": os.abort,
    b"segv": lambda: ctypes.string_at(0),
    b"kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    b"heap": write_past_a_block,
    b"hang": lambda: time.sleep(1000),
    b"raise": wrong,
    b"exit": lambda: os._exit(3),
    b"term": lambda: os.kill(os.getpid(), signal.SIGTERM),
    b"print": lambda: os.write(1, b"said to standard output"),
}


_SPOILT: list[bytes] = []


def do(bodies: Sequence[bytes]) -> None:
    for body in bodies:
        if _SPOILT:  # what an earlier image did to the heap shows now
            os.kill(os.getpid(), signal.SIGSEGV)
        if body == b"spoil":
            _SPOILT.append(body)
        if body in DEEDS:
            DEEDS[body]()
