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
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from alignset.pipeline.errors import UsageError
from alignset.transforms.storage.files import is_local
from alignset.transforms.storage.stores import put_if, read_version, remove_remote

LOG = logging.getLogger("alignset")
LOCK = "_lock"  # in the working folder
LEASE_S = 60.0  # a run that was not heard of for so long is dead
_WHERE = "host", "namespace"
ENDING_S = 3.0  # a killed process gives its memory back before its locks


class Lock:
    """A file that the operating system unlocks when this process ends."""

    def __init__(self, path: str, run: str) -> None:
        self._out, until = path.partition("/_temporary/")[0], time.monotonic() + ENDING_S
        while True:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError), open(path, "a+b") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    if time.monotonic() > until:
                        file.seek(0)
                        raise self._refusal(file.read()) from error
                else:
                    # A run that ends takes its folder away, and the lock that others wait for.
                    if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                        file.seek(0)
                        self._begin(run, file.read())
                        file.truncate(0)
                        file.write(json.dumps(self.holder).encode())
                        self._held = os.fdopen(os.dup(file.fileno()))
                        return
            time.sleep(0.02)

    def check(self) -> None:
        """Raises RuntimeError where another run has it by now."""

    def release(self, *, done: bool = False) -> None:
        """Lets others in; where the work is done, nothing is left of the lock."""
        self._held.close()

    def _begin(self, run: str, before: bytes) -> None:
        last, since = _fields(before), time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        earlier = [*last["earlier"], last["run"]] if "run" in last else []
        self.holder: dict[str, Any] = {"run": run, "process": os.getpid(), "since": since}
        self.holder |= {"earlier": earlier, "host": socket.gethostname()}
        with suppress(OSError):  # a system without it has no containers, which share hosts
            self.holder["namespace"] = os.readlink("/proc/self/ns/pid")

    def _refusal(self, body: bytes) -> UsageError:
        fields = {"process": "?", "host": "?", "since": "?"} | _fields(body)
        return UsageError(
            "another run is writing to {out}: process {process} on {host}, since {since}; wait for "
            "it or stop it. If it is gone, run this again: it takes over, after 60 s if that was "
            "on another machine".format_map(fields | {"out": self._out})
        )


class Lease(Lock):
    """An object that is written anew again and again; one that stays the same for `LEASE_S` is
    taken over. Every write has a condition, so of two runs one is refused; no clocks are compared.
    """

    def __init__(self, path: str, run: str) -> None:
        self._out, self._path = path.partition("/_temporary/")[0], path
        self._version, self._renewals = None, 0
        self._writing, self._end = threading.Lock(), threading.Event()
        seen, until = set[str](), time.monotonic() + LEASE_S
        self._begin(run, b"")
        while not self._write():
            body, version = read_version(path)
            if version and not self._is_dead(_fields(body)):
                if not seen:
                    LOG.info("waiting up to %.0f s for a sign of life of the run there", LEASE_S)
                seen.add(version)
                if len(seen) > 1:
                    raise self._refusal(body)
                if time.monotonic() < until:
                    time.sleep(LEASE_S / 12)
                    continue
            self._begin(run, body)
            self._version = version
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def check(self) -> None:
        if not self._write():
            raise RuntimeError(f"another run took {self._out} over: this one had stood still")

    def release(self, *, done: bool = False) -> None:
        self._end.set()
        self._thread.join()
        if not done:
            self.holder["process"] = 0
        if self._write() and done:
            remove_remote([self._path])

    def _write(self) -> bool:
        """Writes over what was written last; False where another run did, or where it is gone."""
        with self._writing:
            body = json.dumps(self.holder | {"renewals": self._renewals}).encode()
            if version := put_if(self._path, body, self._version):
                self._version, self._renewals = version, self._renewals + 1
            return version is not None

    def _renew(self) -> None:
        while not self._end.wait(LEASE_S / 4):
            with suppress(Exception):  # a store that does not answer may do so next time
                if not self._write():
                    LOG.error("another run took %s over: this one stops", self._out)
                    return _thread.interrupt_main(signal.SIGTERM)  # `run_main` wakes it

    def _is_dead(self, holder: dict[str, Any]) -> bool:
        """Whether the holder has let go, or was a process of this machine that has ended."""
        process = holder.get("process")
        if not process or any(holder.get(of) != self.holder.get(of) for of in _WHERE):
            return process == 0
        try:
            os.kill(process, 0)
            stat = Path(f"/proc/{process}/stat").read_bytes()
        except (OSError, OverflowError, TypeError) as error:
            return isinstance(error, ProcessLookupError)  # else another user's, or no number
        return stat.rpartition(b")")[2].split()[0] in (
            b"Z",
            b"X",
        )  # its parent has not read its status


def take_lock(work: str, run: str) -> Lock:
    """Keeps other runs out of a working folder; raises a UsageError that says who has it."""
    return (Lock if is_local(work) else Lease)(f"{work}/{LOCK}", run)


def _fields(body: bytes) -> dict[str, Any]:
    with suppress(ValueError, TypeError, RecursionError):  # another version's, or anybody's
        fields = dict(json.loads(body))
        return fields | {"earlier": list(fields.get("earlier", []))}
    return {}
