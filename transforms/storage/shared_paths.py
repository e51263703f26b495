"""Paths that each machine of a cluster must see: a worker looks for them before its first element,
and for a file that it does not see later on, the job fails."""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from alignset.transforms.storage.broken_files import GONE, NO_ACCESS, BrokenFile, broken_file
from alignset.transforms.storage.files import is_local, shown_path
from alignset.transforms.storage.stores import RemoteFile, may_pass, missing_packages, scheme

MOST_CHECKED = 64  # folders, in which each worker looks for one file
_MUST = "all machines must"
_OUT_MUST = "--output must be on a file system that all machines share, or in a store"


class UnfitMachineError(RuntimeError):
    """A machine lacks what the run needs of all: no repetition mends that."""


@dataclass(frozen=True)
class SharedPaths:
    """Paths of a run on a cluster.

    Args:
      lock: a file in the work folder that holds `start`, as no file of another run does.
      read: files and folders that workers read.
    """

    lock: str
    start: str
    read: tuple[str, ...] = ()

    def check(self) -> None:
        """Looks for each path, once in each process: one small read a path.

        Raises:
          UnfitMachineError: this machine does not see one, or has no package for its store.
        """
        _LATEST[:] = [self]
        if self in _checked:
            return
        out = (self.lock, self.lock.partition("/_temporary/")[0], _OUT_MUST)
        for path, shown, must in (out, *((path, path, _MUST) for path in self.read)):
            if missing := missing_packages(scheme(path)):
                raise UnfitMachineError(f"{socket.gethostname()}: {missing}")
            try:
                if os.path.isdir(path):
                    is_there = bool(os.listdir(path))  # nothing is where a disk is not mounted
                else:
                    with Path(path).open("rb") if is_local(path) else RemoteFile(path) as source:
                        is_there = path != self.lock or self.start.encode() in source.read()
                if not is_there:
                    raise FileNotFoundError(path)
            except Exception as error:  # a store's client has errors of its own
                if may_pass(error) or "changed while" in str(error):
                    raise  # a repetition may mend that
                raise _unseen(shown, must, error) from error
        _checked.add(self)


_checked = set[SharedPaths]()  # empty but in workers of a cluster
_LATEST = list[SharedPaths]()  # the run that this worker works for
_LOOK_S = 2.0
_looked_at = dict[str, float]()  # when each stop file was looked for; at infinity it was there


def stop_file(lock: str, start: str) -> str:
    """The file that says that a start of the command was stopped."""
    return f"{lock.rpartition('/')[0]}/stopped-{start}"


def check_command() -> None:
    """Raises RuntimeError in a worker of a cluster whose command was stopped, on each thread. Flink
    ends a cancelled job, and leaves its Python workers at their work: they would fetch on."""
    if not _LATEST:
        return
    now, path = time.monotonic(), stop_file(_LATEST[0].lock, _LATEST[0].start)
    if now - _looked_at.setdefault(path, -math.inf) >= _LOOK_S:
        _looked_at[path] = now
        with suppress(Exception):  # a store that does not answer says nothing
            if is_local(path):
                Path(path).stat()
            else:
                RemoteFile(path, waits_s=()).close()
            _looked_at[path] = math.inf
    if _looked_at[path] == math.inf:
        raise RuntimeError("the command was stopped")


def one_of_each_folder(paths: Iterable[str]) -> list[str]:
    """One path of each folder, bucket or host; of MOST_CHECKED of them at most, evenly spread."""
    firsts: dict[str, str] = {}
    for path in paths:
        place = path.rpartition("/")[0] if is_local(path) else "/".join(path.split("/")[:3])
        firsts.setdefault(place, path)
    return [*firsts.values()][:: -(-len(firsts) // MOST_CHECKED) or 1]


def input_fault(path: str, error: Exception) -> BrokenFile | None:
    """The fault of an input file, as `broken_file` has it; raises UnfitMachineError where
    a machine of a cluster does not see a local file, which the launcher has listed."""
    file = broken_file(path, error)
    if file and _checked and is_local(path) and file.detail in (GONE, NO_ACCESS):
        raise _unseen(path, _MUST, error)
    return file


def _unseen(path: str, must: str, error: Exception) -> UnfitMachineError:
    why = "" if isinstance(error, FileNotFoundError) else f" ({' '.join(str(error).split())})"
    return UnfitMachineError(shown_path(f"{socket.gethostname()} does not see {path}{why}: {must}"))
