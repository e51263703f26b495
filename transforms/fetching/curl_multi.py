"""HTTP transfers, many at once on one thread: libcurl's multi interface over epoll."""

import os
import select
import time
from collections.abc import Iterator
from contextlib import suppress

import pycurl

from transforms.fetching.curl_handle import Ended, Slot
from transforms.fetching.fetch_settings import FetchSettings
from transforms.fetching.host_names import HostNames
from transforms.fetching.host_queue import Job
from transforms.workers.unexpected import tell_once

_EVENTS_OF_POLL = {
    pycurl.POLL_IN: select.EPOLLIN,
    pycurl.POLL_OUT: select.EPOLLOUT,
    pycurl.POLL_INOUT: select.EPOLLIN | select.EPOLLOUT,
}
_ACTION_OF_EVENTS = {
    0: 0,
    select.EPOLLIN: pycurl.CSELECT_IN,
    select.EPOLLOUT: pycurl.CSELECT_OUT,
    select.EPOLLIN | select.EPOLLOUT: pycurl.CSELECT_IN | pycurl.CSELECT_OUT,
}


class Transfers:
    """The transfers under way. curl asks for sockets to watch; epoll watches them, and costs a
    third of what the `selectors` module does.

    curl's own `select` and `fdset` fail on file descriptors above 1023, which workers do reach.
    """

    def __init__(self, settings: FetchSettings) -> None:
        self._settings = settings
        self._epoll = select.epoll()
        self._names = HostNames(settings.connect_timeout_s)
        self._epoll.register(self._names.bell, select.EPOLLIN)
        self._watched: set[int] = set()
        self._curl_due: float | None = None
        self._idle: list[Slot] = []
        self._busy: dict[pycurl.Curl, Slot] = {}
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, 2 * settings.connections)

    @property
    def under_way(self) -> int:
        return len(self._busy) + len(self._names)

    @property
    def has_room(self) -> bool:
        return self.under_way < self._settings.connections

    def start(self, job: Job) -> None:
        """Begins a job, or lets it wait for its host's name; a proxy finds names itself."""
        name = "" if self._settings.proxies_from_environment else self._names.entry(job)
        if name is None:
            self._names.add(job)
            return
        slot = self._idle.pop() if self._idle else Slot(self._settings)
        slot.aim(job, name)
        self._busy[slot.curl] = slot
        self._multi.add_handle(slot.curl)

    def wait(self, at_most_s: float) -> list[Ended]:
        """Waits until something happens; gives what is done."""
        at_most_s = min(at_most_s, self._names.due_s())
        if self._curl_due is not None:
            at_most_s = min(at_most_s, max(0.0, self._curl_due - time.monotonic()))
        for fd, events in self._epoll.poll(at_most_s):
            if fd == self._names.bell:
                os.eventfd_read(fd)
                continue
            # An error or a hang-up shows when curl reads.
            self._multi.socket_action(fd, _ACTION_OF_EVENTS[events & 5] or pycurl.CSELECT_IN)
        if self._curl_due is not None and self._curl_due <= time.monotonic():
            self._curl_due = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        return [*self._unnamed(), *self._done()]

    def _unnamed(self) -> Iterator[Ended]:
        """Begins the jobs whose host's name is found now; gives the others."""
        for job, waited_s, detail in self._names.ended():
            if detail is None:
                job.left_s = max(0.001, job.left_s - waited_s)
                self.start(job)
            else:
                yield Ended(job, None, detail, took_s=waited_s, silent=True)

    def _done(self) -> Iterator[Ended]:
        left = 1
        while left:
            left, worked, failed = self._multi.info_read()
            ended = [(curl, pycurl.E_OK) for curl in worked]
            for curl, error in ended + [(curl, error) for curl, error, _ in failed]:
                self._multi.remove_handle(curl)
                slot = self._busy.pop(curl)
                self._idle.append(slot)
                yield _outcome(slot, error)

    def abandon(self) -> list[Job]:
        """Ends all that is under way; gives its jobs."""
        jobs = [*self._names.clear(), *(slot.job for slot in self._busy.values())]
        for curl, slot in self._busy.items():
            self._multi.remove_handle(curl)
            self._idle.append(slot)
        self._busy.clear()
        return jobs

    def _watch(self, what: int, fd: int, multi: object, data: object) -> None:
        watched = fd in self._watched
        if what in (pycurl.POLL_REMOVE, pycurl.POLL_NONE):
            self._watched.discard(fd)
            if watched:
                with suppress(OSError):  # closed already
                    self._epoll.unregister(fd)
            return
        if watched:
            try:
                self._epoll.modify(fd, _EVENTS_OF_POLL[what])
                return
            except FileNotFoundError:  # another socket has the number of one that was closed
                pass
        self._epoll.register(fd, _EVENTS_OF_POLL[what])
        self._watched.add(fd)

    def _set_timer(self, timeout_ms: int) -> None:
        self._curl_due = None if timeout_ms < 0 else time.monotonic() + timeout_ms / 1000

    def close(self) -> None:
        self.abandon()
        for slot in self._idle:
            slot.curl.close()
        self._multi.close()
        self._names.close()
        self._epoll.close()


def _outcome(slot: Slot, error: int) -> Ended:
    try:
        return slot.ended(error)
    except Exception as raised:
        tell_once("reading an answer", raised)
        return Ended(slot.job, None, "bad_answer")
