"""The fetcher of a process: one thread that fetches for all who ask, so that names, connections and
what hosts bear are known and kept to across shards. Each URL gets one result whatever becomes of
it.

A request costs 40 µs of CPU with pycurl; aiohttp takes 130 and urllib3 in threads 830.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from threading import Event, Lock, Thread
from types import MappingProxyType

from alignset.transforms.fetching.connection_limit import (
    BodyMemory,
    ConnectionLimit,
    Interval,
    TakenBytes,
    memory_for_bodies,
    socket_limit,
    usable_cores,
)
from alignset.transforms.fetching.curl_transfers import EndedTransfer, Transfers
from alignset.transforms.fetching.fetch_settings import FetchSettings
from alignset.transforms.fetching.host_queue import FetchJob
from alignset.transforms.fetching.orders import (
    Fetched,
    FindListed,
    KnownUrls,
    NoteAnswer,
    Order,
    Records,
    listed_nowhere,
    unnoted,
)
from alignset.transforms.fetching.routes import Routes, cut_off, new_job

LOG = logging.getLogger("alignset")
# URLs that wait for a busy host, so that the others behind them are reached: 300 bytes each.
_WAITING = 65_536
IDLE_S = 10.0  # for which connections are kept where nobody asks
_FULL_S = 0.02  # between two looks whether a caller has caught up
_KNOWN_HOSTS = 100_000  # that have answered
# After which a thread that holds the interpreter's lock gives it up to one that waits. This one
# waits for it with each answer; by Python's own 5 ms it did so for half of its time.
_SWITCH_S = 0.0005
_TROUBLES = frozenset({"timeout", "reset", "unreachable"})


class Fetcher:
    """Fetches for several orders at once; the URLs of the first are begun first.

    Args:
      transfers: which take the place of curl's, in a simulation.

    Attributes:
      limit: how many connections may be open, and what limits that.
    """

    def __init__(self, settings: FetchSettings, transfers: Transfers | None = None) -> None:
        sockets = socket_limit(settings.connections)
        self._memory = BodyMemory(max(memory_for_bodies(), settings.max_image_bytes))
        self._transfers = transfers or Transfers(settings, sockets, self._memory)
        self._routes = Routes(settings)
        self._waiting = min(_WAITING, 256 * settings.connections)
        self.limit = ConnectionLimit(settings.connections, sockets)
        self._interval = Interval()
        self._cores = usable_cores()
        self._last_review_s, self._cpu_s = time.monotonic(), time.process_time()
        self._waited_s = 0.0
        self._answering_hosts: OrderedDict[str, None] = OrderedDict()  # the latest last
        self._lock = Lock()
        self._new: list[Order] = []
        self._orders_to_drop: list[Order] = []
        self._orders: list[Order] = []
        self._unseen: list[Order] = []  # that are over, with results that nobody has looked at
        self.is_over = False

    def add(self, order: Order) -> bool:
        """Takes an order; False where this fetcher takes no more. On any thread."""
        with self._lock:
            if self.is_over:
                return False
            self._new.append(order)
            self._transfers.ring()
            return True

    @property
    def open(self) -> int:
        """How many URLs are under way; on any thread."""
        return self._transfers.count

    def cancel(self, order: Order) -> None:
        """Nobody waits for this order's results any more. On any thread."""
        with self._lock:
            if not self.is_over:
                self._orders_to_drop.append(order)
                self._transfers.ring()

    def run(self) -> None:
        """Fetches until nobody has asked for a while."""
        sys.setswitchinterval(min(_SWITCH_S, sys.getswitchinterval()))
        idle_since = time.monotonic()
        error: BaseException | None = None
        try:
            while True:
                self.turn()
                if self._orders:
                    idle_since = time.monotonic()
                elif time.monotonic() - idle_since >= IDLE_S and self._close_if_idle():
                    return
        except BaseException as raised:
            error = raised
            LOG.debug("the fetcher ended", exc_info=True)
        with self._lock:
            self.is_over = True
        for order in (*self._orders, *self._new):
            order.end(error)
        self._transfers.close()

    def _close_if_idle(self) -> bool:
        with self._lock:
            if self._new:
                return False
            self.is_over = True
        self._transfers.close()
        return True

    def turn(self) -> None:
        """Begins what may begin, waits until something has happened, and hands results over."""
        self._look_at_orders()
        self._unseen = [order for order in self._unseen if order.unseen_bytes]
        unseen = sum(order.unseen_bytes for order in (*self._orders, *self._unseen))
        self._memory.unseen = unseen + TakenBytes.of_all
        full = self._begin()
        for order in self._orders:
            order.hand_over()
        self._end_orders()
        for end in self._transfers.wait(self._wait_s(full)):
            self._count(end)
            if end.job.order is None or not end.job.order.over:
                self._routes.note_end(end)
        for order in self._orders:
            order.hand_over()
        if time.monotonic() - self._last_review_s >= self.limit.review_s:
            self._review()

    def _look_at_orders(self) -> None:
        with self._lock:
            new, self._new = self._new, []
            to_drop, self._orders_to_drop = self._orders_to_drop, []
        self._orders += new
        now = time.monotonic()
        for order in to_drop:
            self._drop(order)
        for order in self._orders:
            if now >= order.due:
                self._cut_off(order)

    def _begin(self) -> bool:
        """Begins all that may begin now; says whether callers are behind, or memory is short."""
        interval, transfers, queue = self._interval, self._transfers, self._routes.queue
        behind = False
        while self._has_place and self._memory.has_room:
            if (job := self._routes.next_job()) is not None:
                if transfers.start(job):
                    queue.note_start(job.host)
                continue
            if len(self._routes) >= self._waiting:
                break
            order, behind = self._next_order()
            if order is None:
                break
            if (entry := order.take()) is not None:
                self._routes.take(order, *entry)
        is_short = not self._memory.has_room
        behind |= is_short and self._memory.waits_for_callers
        interval.behind |= behind
        interval.most = max(interval.most, transfers.count - transfers.stalled)
        interval.wanted |= not self._has_place and bool(
            len(queue) or any(not order.is_exhausted for order in self._orders)
        )
        interval.short_of_memory |= is_short and not behind
        return behind or is_short

    @property
    def _has_place(self) -> bool:
        """Whether another URL may be under way."""
        under_way, limit = self._transfers.count, self.limit
        return under_way - self._transfers.stalled < limit.now and under_way < limit.ceiling

    def _next_order(self) -> tuple[Order | None, bool]:
        """The first order that a URL may be taken of; and whether one's caller is behind."""
        behind = False
        for order in self._orders:
            if order.remaining_urls < self.limit.now // 4:
                order.nearly_taken.set()
            if order.is_exhausted:
                continue
            if not order.is_behind:
                return order, behind
            behind = True
        return None, behind

    def _wait_s(self, full: bool) -> float:
        """How long nothing can begin unless something ends, or is asked for: seconds."""
        may_begin = not full and self._has_place and len(self._routes) < self._waiting
        if may_begin and any(not order.is_exhausted for order in self._orders):
            return 0.0
        due_s = min((order.due for order in self._orders), default=time.monotonic() + IDLE_S)
        wait_s = min(1.0, max(0.0, due_s - time.monotonic()))
        if full:
            wait_s = min(wait_s, _FULL_S)
        return min(wait_s, self._routes.queue.due_s())

    def _count(self, end: EndedTransfer) -> None:
        interval, host = self._interval, end.job.host
        if end.detail in _TROUBLES:
            interval.troubles += host in self._answering_hosts
        elif not (end.silent or end.has_name or end.redirect):
            interval.answers += 1
            interval.answer_s += end.took_s
            self._answering_hosts[host] = None
            self._answering_hosts.move_to_end(host)
            if len(self._answering_hosts) > _KNOWN_HOSTS:
                self._answering_hosts.popitem(last=False)
            self.limit.note_answer()

    def _review(self) -> None:
        now, cpu_s, interval = time.monotonic(), time.process_time(), self._interval
        interval.seconds = now - self._last_review_s
        interval.cpu_share = (cpu_s - self._cpu_s) / interval.seconds / self._cores
        waited_s = self._transfers.waited_s
        interval.behind |= waited_s - self._waited_s < 0.05 * interval.seconds
        interval.short_of_memory |= self._memory.was_short
        self._memory.was_short = False
        names = self._transfers.names
        interval.names, interval.unnamed = names.ended_count, names.unanswered_count
        names.ended_count = names.unanswered_count = 0
        self._transfers.look_for_stalled(self.limit.stalled_s)
        interval.stalled = self._transfers.stalled
        self.limit.review(interval)
        self._routes.settle(try_again=self.limit.limited_by == "time-outs")
        self._last_review_s, self._cpu_s, self._waited_s = now, cpu_s, waited_s
        self._interval = Interval()

    def _end_orders(self) -> None:
        for order in self._orders:
            if order.is_exhausted and not order.under_way:
                order.end()
                self._unseen.append(order)
        self._orders = [order for order in self._orders if not order.over]

    def _cut_off(self, order: Order) -> None:
        """Ends all of an order that is not done: its time is over."""
        for job in self._remove(order):
            cut_off(job)
        while (entry := order.take()) is not None:
            cut_off(new_job(order, *entry))

    def _drop(self, order: Order) -> None:
        if not order.over:
            self._remove(order)
            order.end()
        self._orders = [one for one in self._orders if one is not order]
        self._unseen = [one for one in self._unseen if one is not order]

    def _remove(self, order: Order) -> list[FetchJob]:
        under_way = self._transfers.remove(lambda job: job.order is order)
        for job in under_way:
            self._routes.queue.note_end(job.host)
        return [*under_way, *self._routes.remove(order)]


_FETCHERS: dict[FetchSettings, Fetcher] = {}
_LOCK = Lock()
os.register_at_fork(after_in_child=_FETCHERS.clear)  # their threads are the parent's


def forget_hosts() -> None:
    """Forgets all hosts, for another run."""
    with _LOCK:
        _FETCHERS.clear()  # each ends when nobody has asked it for a while


def connections_open() -> tuple[int, str]:
    """How many connections this process has open, and what limits them; on any thread."""
    with _LOCK:
        fetchers = [fetcher for fetcher in _FETCHERS.values() if not fetcher.is_over]
    by_open = sorted((fetcher.open, fetcher.limit.limited_by) for fetcher in fetchers)
    return sum(count for count, _ in by_open), by_open[-1][1] if by_open else ""


def fetch_all(
    urls: Iterable[str],
    settings: FetchSettings,
    nearly_taken: Event | None = None,
    find_listed: FindListed = listed_nowhere,
    known: KnownUrls | None = None,
    note_answer: NoteAnswer = unnoted,
    records: Records = MappingProxyType({}),
    *,
    by_head: bool = False,
) -> Iterator[Fetched]:
    """Fetches many URLs at once and yields each in the order of completion.

    All calls of a process with the same settings share one fetcher: its connections and names, and
    what each host bears. The URLs of the first call go first. New URLs are taken only while the
    consumer keeps up, and only so many wait for their host or for another attempt, so memory does
    not grow with the number of URLs. URLs that are not done `shard_timeout_s` after the first pull
    fails as "deadline".

    Args:
      urls: taken on the fetcher's thread.
      nearly_taken: set when few of the URLs are left to be taken, so that others may follow.
      find_listed: which blocklist a redirect's target is on; nothing is asked of such a target.
        Called on the fetcher's thread.
      known: images that are not requested. Their hosts' files are, once a host, and images that
        these forbid are not used; a host that does not respond has not opted out.
      note_answer: called on the fetcher's thread, with each answer perhaps many times.
      records: which name licence files. The files that a page names, or a response to a known
        image, are read before the image is requested.
      by_head: asks for images by HEAD, so that a body is empty, and fails known images too where
        their host cannot be asked.

    Yields:
      One `Fetched` for every URL, whatever string it is.

    Raises:
      InterruptedError: the work of this thread was stopped.
    """
    how = nearly_taken, find_listed, known, note_answer, records
    order = Order(urls, settings.shard_timeout_s, *how, by_head=by_head)
    order.begin()
    with _LOCK:
        fetcher = _FETCHERS.get(settings)
        if fetcher is None or not fetcher.add(order):
            fetcher = _FETCHERS[settings] = Fetcher(settings)
            fetcher.add(order)
            Thread(target=fetcher.run, name="fetcher", daemon=True).start()
        for old in [old for old, one in _FETCHERS.items() if one.is_over]:
            del _FETCHERS[old]
    try:
        yield from order.results()
    finally:
        fetcher.cancel(order)
