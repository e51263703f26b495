"""One run at a time on an output: a file lock on this machine, a lease in an object store."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from alignset.pipeline.errors import UsageError
from alignset.transforms.storage.files import is_local
from alignset.transforms.storage.stores import put_if, read_version, remove_remote

LOG = logging.getLogger("alignset")
LOCK = "_lock"  # in the working folder
LEASE_S = 60.0  # a run that was not heard of for so long is dead
# A process that was killed gives its memory back before its locks, and whoever killed it does not
# wait for that.
ENDING_S = 3.0
_LIVE: set[str] = set()  # leases of this process


class Lock:
    """A lock that is held."""

    def check(self) -> None:
        """Raises RuntimeError where another run has it now."""

    def release(self) -> None:
        """Lets other runs in."""


def take_lock(work: str) -> Lock:
    """Keeps other runs out of a working folder.

    Raises:
      UsageError: another run has it.
    """
    if is_local(work):
        return FileLock(Path(work, LOCK))
    return Lease(f"{work}/{LOCK}")


class FileLock(Lock):
    """The operating system lets go of it when the process ends."""

    def __init__(self, path: Path) -> None:
        until = time.monotonic() + ENDING_S
        while True:
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # the folder is gone again
                self._file = path.open("w")
                try:
                    fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    # A run that ends takes its folder away, and the lock that others wait for.
                    if os.path.samestat(os.fstat(self._file.fileno()), path.stat()):
                        return
                except BlockingIOError as error:
                    if time.monotonic() > until:
                        self._file.close()
                        out = path.parent.parent
                        raise UsageError(f"another run is writing to {out}; wait for it") from error
                except BaseException:
                    self._file.close()
                    raise
                self._file.close()
            time.sleep(0.02)

    def release(self) -> None:
        self._file.close()


class Lease(Lock):
    """An object that is written anew again and again; one that stays the same is taken over.

    Every write has a condition, so of two runs one is refused; no clocks are compared.

    Args:
      path: of the object. lease_s: how long it may stay the same.
    """

    def __init__(self, path: str, lease_s: float = LEASE_S) -> None:
        self.path, self.lease_s = path, lease_s
        self._run, self._renewals = uuid.uuid4().hex, 0
        self._version: str | None = None
        self._end, self._is_lost = threading.Event(), False
        while not self._write(self._version):
            self._version = self._version_of_the_dead()
        _LIVE.add(self._run)
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def check(self) -> None:
        if self._is_lost:
            raise RuntimeError(f"another run took {self.path.rpartition('/')[0]} over; let it end")

    def release(self) -> None:
        self._end.set()
        self._thread.join()
        _LIVE.discard(self._run)
        lease = read_version(self.path)
        if lease and self._is_ours(lease.body):
            remove_remote([self.path])

    def _write(self, version: str | None) -> bool:
        self._renewals += 1
        body = {"run": self._run, "renewals": self._renewals, "pid": os.getpid()} | _here()
        new_version = put_if(self.path, json.dumps(body).encode(), version)
        if new_version is None:  # perhaps by ourselves, where the store wrote but did not say so
            lease = read_version(self.path)
            if lease and self._is_ours(lease.body):
                new_version = lease.version
        if new_version:
            self._version = new_version
        return new_version is not None

    def _is_ours(self, body: bytes) -> bool:
        return _holder(body).get("run") == self._run

    def _version_of_the_dead(self) -> str | None:
        """The version to write over; None where nobody has the lease any more."""
        lease = read_version(self.path)
        if lease is None:
            return None
        holder, version = _holder(lease.body), lease.version
        if _has_ended(holder):
            return version
        where = f"{holder.get('host', 'another machine')}, process {holder.get('pid', '?')}"
        message = "waiting up to %.0f s to see whether the run on %s is alive"
        LOG.info(message, self.lease_s, where)
        end = time.monotonic() + self.lease_s
        while time.monotonic() < end:
            time.sleep(self.lease_s / 12)
            lease = read_version(self.path)
            if lease is None:
                return None
            if _has_ended(holder):  # it was killed, and was on its way
                return version
            if lease.version != version:
                out = self.path.partition("/_temporary/")[0]
                raise UsageError(f"another run is writing to {out} ({where}); wait for it")
        return version

    def _renew(self) -> None:
        while not self._end.wait(self.lease_s / 4):
            try:
                if not self._write(self._version):
                    self._is_lost = True
                    LOG.error("another run took %s over; this one will not end", self.path)
                    return
            except Exception as error:
                LOG.warning("the lease was not renewed: %s", str(error).splitlines()[0])


def _here() -> dict[str, Any]:
    """This machine; a container is one of its own."""
    try:
        processes = os.readlink("/proc/self/ns/pid")
    except OSError:
        processes = ""
    return {"host": socket.gethostname(), "processes": processes}


def _holder(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _has_ended(holder: dict[str, Any]) -> bool:
    """Whether the holder was a process of this machine that is no more."""
    if not holder or any(holder.get(name) != value for name, value in _here().items()):
        return False
    try:
        os.kill(int(holder["pid"]), 0)
    except (ProcessLookupError, KeyError, ValueError):
        return True
    except PermissionError:
        return False
    return int(holder["pid"]) == os.getpid() and holder.get("run") not in _LIVE
