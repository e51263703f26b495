"""How many sockets this process may open beside all else that it has open."""

from __future__ import annotations

import logging
import os
import resource

LOG = logging.getLogger("alignset")
_WANTED = 16_384  # what a process of ours asks for, where the system lets it
_SPARE = 64  # for shards, logs, the engine, and name servers
_FEW = 256  # sockets: fewer are told of
_told = False


def socket_limit(wanted: int) -> int:
    """How many sockets may be open at once; at least one.

    The soft limit is raised to the hard one, as far as that is of use. Where few are left, one line
    says so, once.

    Args:
      wanted: what the user allows.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _WANTED:
        raised = _WANTED if hard == resource.RLIM_INFINITY else min(hard, _WANTED)
        if raised > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    most = wanted if soft == resource.RLIM_INFINITY else soft - _open_now() - _SPARE
    _tell(min(_FEW, wanted), max(1, most), soft)
    return max(1, min(most, 2 * wanted + _SPARE))


def _open_now() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:  # no such folder, or no descriptor left to look into it
        return _SPARE


def _tell(few: int, most: int, files: int) -> None:
    global _told
    if most < few and not _told:
        _told = True
        line = "this process may open %d files, so at most %d connections at once: ulimit -n %d"
        LOG.warning(line, files, most, _WANTED)
