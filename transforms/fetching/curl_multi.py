"""HTTP transfers, many at once on one thread: libcurl's multi interface over epoll."""

import math
import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import takewhile

import pycurl

from alignset.transforms.fetching.body_memory import BodyMemory
from alignset.transforms.fetching.curl_handle import EndedTransfer, Slot
from alignset.transforms.fetching.fetch_settings import FetchSettings
from alignset.transforms.fetching.host_names import HostNames
from alignset.transforms.fetching.host_queue import FetchJob
from alignset.transforms.workers.unexpected import tell_once

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
_PAUSE_S = 1.0  # that a wait takes longer than it should: the process, or this thread, stood still


class Transfers:
    """The transfers under way. curl asks for sockets to watch; epoll watches them, and costs a
    third of what the `selectors` module does.

    curl's own `select` and `fdset` fail on file descriptors above 1023, which workers do reach.

    Args:
      sockets: that may be open at once, including kept connections.
      memory: which counts the bytes of answers.

    Attributes:
      names: the jobs that wait for their host's name.
      waited_s: seconds in which there was nothing to do.
      stalled: how many of those under way had brought nothing when they were looked at last.
    """

    def __init__(self, settings: FetchSettings, sockets: int, memory: BodyMemory) -> None:
        self._settings, self.memory = settings, memory
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK)
        self._epoll.register(self._bell, select.EPOLLIN)
        self._watched_fds: set[int] = set()
        self.names = HostNames(settings.connect_timeout_s, self._watch_events)
        self._curl_due: float | None = None
        self._idle: list[Slot] = []
        self._busy: dict[pycurl.Curl, Slot] = {}
        self.waited_s, self.stalled = 0.0, 0
        self._awake, self._paused_until = time.monotonic(), -math.inf
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, sockets)
        self._multi.setopt(pycurl.M_MAX_TOTAL_CONNECTIONS, sockets)

    @property
    def under_way(self) -> int:
        return len(self._busy) + len(self.names)

    def look_for_stalled(self, seconds: float) -> None:
        """Counts those that were begun so long ago and have brought nothing."""
        before = time.monotonic() - seconds
        older = takewhile(lambda slot: slot.start_s < before, self._busy.values())  # in their order
        self.stalled = sum(not slot.size for slot in older) + self.names.waiting_since(before)

    def start(self, job: FetchJob) -> bool:
        """Begins a job, or lets it wait for its host's name: False. A proxy finds names itself."""
        name = "" if self._settings.proxies_from_environment else self.names.entry(job)
        if name is None:
            self.names.add(job)
            return False
        self._begin(job, name)
        return True

    def _begin(self, job: FetchJob, name: str) -> None:
        slot = self._idle.pop() if self._idle else Slot(self._settings, self.memory)
        slot.aim(job, name)
        self._busy[slot.curl] = slot
        self._multi.add_handle(slot.curl)

    def ring(self) -> None:
        """Ends a wait; on any thread."""
        os.eventfd_write(self._bell, 1)

    def wait(self, at_most_s: float) -> list[EndedTransfer]:
        """Waits until something happens; gives what is done."""
        at_most_s = min(at_most_s, self.names.due_s())
        if self._curl_due is not None:
            at_most_s = min(at_most_s, max(0.0, self._curl_due - time.monotonic()))
        began = time.monotonic()
        ready = self._epoll.poll(at_most_s)
        now = time.monotonic()
        self.waited_s += now - began
        if now - self._awake > at_most_s + _PAUSE_S:
            self._paused_until = now
        self._awake = now
        for fd, events in ready:
            if fd == self._bell:
                os.eventfd_read(fd)
            elif fd in self.names.sockets:
                self.names.process(fd, events)
            else:  # an error or a hang-up shows when curl reads
                self._multi.socket_action(fd, _ACTION_OF_EVENTS[events & 5] or pycurl.CSELECT_IN)
        if self._curl_due is not None and self._curl_due <= time.monotonic():
            self._curl_due = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        if self.memory.holds_back:
            self.memory.resume()
        return [*self._ends_of_names(), *self._ends_of_transfers()]

    def _ends_of_names(self) -> Iterator[EndedTransfer]:
        for job, waited_s, detail in self.names.finished_jobs():
            has_name, silent = detail is None, detail is not None
            yield EndedTransfer(
                job, None, detail, took_s=waited_s, silent=silent, has_name=has_name
            )

    def _ends_of_transfers(self) -> Iterator[EndedTransfer]:
        more = 1
        while more:
            more, successes, failures = self._multi.info_read()
            all_ended = [(curl, pycurl.E_OK) for curl in successes]
            for curl, error in all_ended + [(curl, error) for curl, error, _ in failures]:
                yield self._end(curl, error)

    def _end(self, curl: pycurl.Curl, error: int) -> EndedTransfer:
        self._multi.remove_handle(curl)
        slot = self._busy.pop(curl)
        self._idle.append(slot)
        end = _outcome(slot, error)
        if end.was_asked and slot.start_s <= self._paused_until:
            # While this process stood still its hosts were not asked in earnest.
            return end._replace(was_asked=False)
        return end

    def remove(self, is_meant: Callable[[FetchJob], bool]) -> list[FetchJob]:
        """Ends the jobs that are under way; returns them."""
        jobs = self.names.remove(is_meant)
        for curl, slot in list(self._busy.items()):
            if is_meant(slot.job):
                jobs.append(slot.job)
                self._multi.remove_handle(curl)
                slot.drop()
                self._idle.append(self._busy.pop(curl))
        return jobs

    def _watch(self, what: int, fd: int, multi: object, data: object) -> None:
        none = what in (pycurl.POLL_REMOVE, pycurl.POLL_NONE)
        self._watch_events(fd, 0 if none else _EVENTS_OF_POLL[what])

    def _watch_events(self, fd: int, events: int) -> None:
        is_watched = fd in self._watched_fds
        if not events:
            self._watched_fds.discard(fd)
            if is_watched:
                with suppress(OSError):  # closed already
                    self._epoll.unregister(fd)
            return
        if is_watched:
            try:
                self._epoll.modify(fd, events)
                return
            except FileNotFoundError:  # another socket has the number of one that was closed
                pass
        self._epoll.register(fd, events)
        self._watched_fds.add(fd)

    def _set_timer(self, timeout_ms: int) -> None:
        self._curl_due = None if timeout_ms < 0 else time.monotonic() + timeout_ms / 1000

    def close(self) -> None:
        self.remove(lambda _: True)
        for slot in self._idle:
            slot.curl.close()
        self._multi.close()
        self.names.close()
        self._epoll.close()
        os.close(self._bell)


def _outcome(slot: Slot, error: int) -> EndedTransfer:
    try:
        return slot.outcome(error)
    except Exception as raised:
        tell_once("reading an answer", raised)
        return EndedTransfer(slot.job, None, "bad_answer")
    finally:
        slot.drop()
