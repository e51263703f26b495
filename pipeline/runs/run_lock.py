"""One run at a time on an output: a file lock on this machine, a lease in an object store.

Both hold the same JSON: `run`, `host`, `process` (0: it has let go) and its `namespace`, `since`,
and `earlier`, the tokens of starts that did not end the work: they may have left jobs.
"""

from __future__ import annotations

import _thread
import fcntl
import json
import logging
import os
import socket
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alignset.pipeline.errors import UsageError
from alignset.transforms.storage.files import is_local
from alignset.transforms.storage.stores import Versioned, put_if, read_version, remove_remote

LOG = logging.getLogger("alignset")
LOCK = "_lock"  # in the working folder
LEASE_S = 60.0  # a run that was not heard of for so long is dead
ENDING_S = 3.0  # a killed process gives its memory back before its locks


class Lock:
    """A file that the operating system unlocks when this process ends."""

    def __init__(self, path: str, run: str) -> None:
        self.path, until = path, time.monotonic() + ENDING_S
        while True:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError), open(path, "a+b") as file:
                with suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    # A run that ends takes its folder away, and the lock that others wait for.
                    if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                        file.seek(0)
                        self.holder = _new_holder(run, file.read())
                        file.truncate(0)
                        file.write(json.dumps(self.holder).encode())
                        self._held = os.dup(file.fileno())
                        return
                if time.monotonic() > until:
                    file.seek(0)
                    raise _refusal(path, file.read())
            time.sleep(0.02)

    def check(self) -> None:
        """Raises RuntimeError where another run has it by now."""

    def release(self, *, done: bool = False) -> None:
        """Lets others in; where the work is done, nothing is left of the lock."""
        os.close(self._held)


class Lease(Lock):
    """An object that is written anew again and again; one that stays the same for `lease_s` is
    taken over. Every write has a condition, so of two runs one is refused; no clocks are compared.
    """

    def __init__(self, path: str, run: str, lease_s: float = LEASE_S) -> None:
        self.path, self._lease_s, self._end = path, lease_s, threading.Event()
        self.holder, self._version, first = _new_holder(run, b""), "", ""
        until = time.monotonic() + lease_s
        while there := self._write():
            if there.version and not _is_dead(there.body):
                if first and there.version != first:
                    raise _refusal(path, there.body)
                if not first:
                    LOG.info("waiting up to %.0f s: is the run that has it alive?", lease_s)
                if time.monotonic() < until:
                    first = there.version
                    time.sleep(lease_s / 12)
                    continue
            self.holder, self._version = _new_holder(run, there.body), there.version
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def check(self) -> None:
        if self._write():
            raise RuntimeError(f"another run took {self.path} over, while this one stood still")

    def release(self, *, done: bool = False) -> None:
        self._end.set()
        self._thread.join()
        if not done:
            self.holder["process"] = 0
        if not self._write() and done:
            remove_remote([self.path])

    def _write(self) -> Versioned | None:
        """Writes over what was written last, unless another run did: returns what is there then."""
        body = json.dumps(self.holder | {"renewed": time.time()}).encode()
        version = put_if(self.path, body, self._version or None)
        if version is None:  # perhaps by ourselves, where the store wrote but did not say so
            there = read_version(self.path) or Versioned(b"", "")
            if _holder_in(there.body).get("run") != self.holder["run"]:
                return there
            version = there.version
        self._version = version
        return None

    def _renew(self) -> None:
        while not self._end.wait(self._lease_s / 4):
            with suppress(Exception):  # a store that does not answer may do so next time
                if self._write():
                    LOG.error("another run took %s over: this one stops", self.path)
                    return _thread.interrupt_main()


def take_lock(work: str, run: str) -> Lock:
    """Keeps other runs out of a working folder; raises a UsageError that says who has it."""
    return (Lock if is_local(work) else Lease)(f"{work}/{LOCK}", run)


def _holder_in(body: bytes) -> dict[str, Any]:
    with suppress(ValueError):
        return json.loads(body)
    return {}


def _new_holder(run: str, before: bytes) -> dict[str, Any]:
    last, since = _holder_in(before), f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    earlier = [*last.get("earlier", []), last["run"]] if last else []
    # A container is a machine of its own.
    place = {"host": socket.gethostname(), "namespace": os.readlink("/proc/self/ns/pid")}
    return {"run": run, "process": os.getpid(), "since": since, "earlier": earlier} | place


def _is_dead(body: bytes) -> bool:
    """Whether the holder let go, or was a process of this machine that is no more."""
    holder, here = _holder_in(body), _new_holder("", b"")
    process = holder.get("process")
    if not process or any(holder[name] != here[name] for name in ("host", "namespace")):
        return process == 0
    try:
        os.kill(process, 0)
        stat = Path(f"/proc/{process}/stat").read_bytes()
    except OSError as error:
        return isinstance(error, ProcessLookupError)  # else it is another user's
    return stat.rpartition(b")")[2].split()[0] in (b"Z", b"X")  # nobody has taken note


def _refusal(path: str, body: bytes) -> UsageError:
    out, holder = path.partition("/_temporary/")[0], _holder_in(body)
    who = ": process {process} on {host}, since {since}".format_map(holder) if holder else ""
    return UsageError(
        f"another run is writing to {out}{who}; wait for it or stop it. If it is gone, run this "
        "command again: it takes over, after 60 s if it ran on another machine"
    )
