"""Files in which hosts state opt-outs: how each kind is read, and for how long it counts.

All are requested in one way (`routes.py`): once a day, from the same queues, with the same limits.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from alignset.transforms.columns.pair_columns import RSL, ordered_opt_outs
from alignset.transforms.columns.web_urls import origin_of
from alignset.transforms.fetching.fetch_settings import FetchSettings
from alignset.transforms.fetching.orders import HostAnswer
from alignset.transforms.fetching.robots import Robots, is_missing, read_robots
from alignset.transforms.opt_outs.host_statements import (
    License,
    Reservations,
    license_urls,
    read_tdmrep,
)
from alignset.transforms.opt_outs.rsl import read_license

NO_LICENSE, NO_TDMREP = "no_license", "no_tdmrep_json"
_KEPT_S = 24 * 3600.0  # RFC 9309: a cached file is not used for longer than a day
_KEPT_FILES = 20_000
# A character of a rule takes up to 50 bytes when it is parsed. The sum of all files of a kind.
_BYTES_A_CHARACTER, _KEPT_BYTES = 50, 50 << 22

P = TypeVar("P", Robots, Reservations)


class PolicyCache(Generic[P]):
    """Rules of files by URL, with the answers that gave them, for all threads of a process."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], tuple[float, P, HostAnswer]] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    def get(self, url: str, reader: str) -> tuple[P, HostAnswer] | None:
        """Rules of a file for a fetcher, or None where it must be requested (again)."""
        with self._lock:
            kept = self._kept.get((url, reader))
            return kept[1:] if kept and time.monotonic() < kept[0] else None

    def put(self, url: str, reader: str, policy: P, answer: HostAnswer) -> None:
        # What could not be had may soon be there again.
        kept_s = 60.0 if policy.passing else _KEPT_S
        with self._lock:
            if (url, reader) in self._kept:
                self._forget((url, reader))
            self._size += _size(policy, answer)
            self._kept[url, reader] = time.monotonic() + kept_s, policy, answer
            while len(self._kept) > _KEPT_FILES or self._size > _KEPT_BYTES:
                self._forget(next(iter(self._kept)))

    def clear(self) -> None:
        """Forgets all."""
        with self._lock:
            self._kept.clear()
            self._size = 0

    def _forget(self, key: tuple[str, str]) -> None:
        self._size -= _size(*self._kept.pop(key)[1:])


def _size(policy: Robots | Reservations, answer: HostAnswer) -> int:
    return _BYTES_A_CHARACTER * policy.size + len(answer.packed or b"")


@dataclass(frozen=True, eq=False)
class HostFile(Generic[P]):
    """A kind of file.

    Attributes:
      read: its rules, by the body of a 200 answer, or else the detail of the failure; the URL that
        was requested; and the settings.
      path: at each origin; "" where another file, or a response, names it.
      cache: of this process, shard after shard.
    """

    name: str
    path: str
    read: Callable[[bytes | None, str | None, str, FetchSettings], P]
    cache: PolicyCache[P] = field(default_factory=PolicyCache)


def _robots(body: bytes | None, detail: str | None, url: str, how: FetchSettings) -> Robots:
    uses = how.usage_categories, how.signal_categories, how.obeyed_crawlers
    robots = read_robots(body, detail, how.user_agent_token, *uses)
    return robots._replace(licenses=license_urls(robots.licenses, url) if how.rsl else ())


def _reservations(read: Callable[[bytes | None], Reservations]) -> Callable[..., Reservations]:
    def policy(body: bytes | None, detail: str | None, *_: Any) -> Reservations:
        return read(body)._replace(passing=body is None and not is_missing(detail or ""))

    return policy


ROBOTS = HostFile("robots.txt", "/robots.txt", _robots)
TDMREP = HostFile("tdmrep.json", "/.well-known/tdmrep.json", _reservations(read_tdmrep))
LICENSE = HostFile("license", "", _reservations(read_license))
FILES = {file.name: file for file in (ROBOTS, TDMREP, LICENSE)}


class Stated(NamedTuple):
    """Statements of hosts' files on a URL.

    Fields:
      opt_outs: details of `opted_out`; where these are rejected, none behind the file with the
        first.
      refusal: why nothing of its host may be had for now. delay_s: between two requests.
      reserved: whether tdmrep.json reserves the rights. missing: why nobody knows.
      license: the URL of the licence file that reserves the rights; None where none does.
    """

    opt_outs: tuple[str, ...]
    refusal: str | None
    delay_s: float
    reserved: bool
    missing: str | None = None
    license: str | None = None


class FindPolicy(Protocol):
    """Gives the rules of a file by its URL; None where they are not known."""

    def __call__(self, file: HostFile[P], url: str, /) -> P | None: ...


def stated_of(
    url: str,
    licenses: Iterable[License],
    opt_outs: tuple[str, ...],
    how: FetchSettings,
    find: FindPolicy,
) -> Stated | None:
    """Reads what hosts' files state of a URL; None where `find` did not know one of them.

    Args:
      licenses: that pages and responses name.
      opt_outs: that are known before.
    """
    origin, robots = origin_of(url), Robots(None)
    if how.robots_txt:
        read = find(ROBOTS, origin + ROBOTS.path)
        if read is None:
            return None
        robots = read
        opt_outs += robots.opt_outs(url)
    refusal, reserved, missing, license = robots.refusal, False, None, None
    for named in (*(License(of, url, (url,)) for of in robots.licenses), *licenses):
        if refusal or (opt_outs and how.rejects):
            break
        if (license_rules := find(LICENSE, named.url)) is None:
            return None
        if any(map(license_rules.reserves, named.judged)):
            opt_outs, license = (*opt_outs, RSL), license or named.url
        refusal = NO_LICENSE if license_rules.passing else None
    if how.tdmrep_json and not (opt_outs and how.rejects):
        if (rules := find(TDMREP, origin + TDMREP.path)) is None:
            return None
        reserved, missing = rules.reserves(url), NO_TDMREP if rules.passing else None
    ordered, delay_s = ordered_opt_outs(opt_outs), robots.crawl_delay_s()
    return Stated(ordered, refusal, delay_s, reserved, missing, license)
