"""What hosts say that a fetcher may have: robots.txt and X-Robots-Tag."""

import time
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import NamedTuple

from protego import Protego

# RFC 9309: a cached file is not used for longer than a day, and 500 KiB of it are read.
_KEPT_S = 24 * 3600.0
_READ_BYTES = 512_000
_KEPT_HOSTS = 20_000  # a parsed file takes 2 to 20 KB
# Then the image would fail in the same way, so that tells more than "robots".
_NO_HOST = frozenset({"dns", "refused", "unreachable", "tls", "timeout", "forbidden_address"})
# Directives whose own value stands behind a colon, where else the name of a fetcher stands.
_VALUED = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})


class Robots(NamedTuple):
    """What one origin's robots.txt says.

    Attributes:
      rules: None where there are none.
      refusal: why nothing of the origin may be had, where the file could not be had.
    """

    rules: Protego | None
    refusal: str | None = None

    def refusal_of(self, url: str, token: str) -> str | None:
        """The detail for which this URL may not be fetched, or None."""
        if self.refusal or self.rules is None:
            return self.refusal
        return None if self.rules.can_fetch(url, token) else "robots"

    def crawl_delay_s(self, token: str) -> float:
        """Seconds that the origin asks for between requests; 0 where it does not."""
        return float((self.rules and self.rules.crawl_delay(token)) or 0.0)


def read_robots(body: bytes | None, detail: str | None) -> Robots:
    """What the answer to a request for robots.txt means.

    Args:
      body: of a 200 answer. detail: else one of FETCH_DETAILS.

    Source: RFC 9309, section 2.3.1: a 4xx allows all, what cannot be reached allows nothing.
    """
    if body is not None:
        try:
            return Robots(Protego.parse(body[:_READ_BYTES].decode("utf-8", "replace")))
        except Exception:  # whatever is in there: nobody can say what it forbids
            return Robots(None)
    assert detail is not None
    if detail.startswith("http_4") and detail != "http_429":
        return Robots(None)
    return Robots(None, detail if detail in _NO_HOST else "robots")


class RobotsCache:
    """What is known of origins, for all threads of a process."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[float, Robots]] = OrderedDict()
        self._lock = Lock()

    def get(self, origin: str) -> Robots | None:
        """What its robots.txt says, or None where that has to be asked for (again)."""
        with self._lock:
            until, robots = self._known.get(origin, (0.0, None))
            return robots if time.monotonic() < until else None

    def put(self, origin: str, robots: Robots) -> None:
        # What could not be had may soon be there again.
        kept_s = _KEPT_S if robots.refusal is None else 60.0
        with self._lock:
            self._known[origin] = (time.monotonic() + kept_s, robots)
            self._known.move_to_end(origin)
            while len(self._known) > _KEPT_HOSTS:
                self._known.popitem(last=False)


def is_disallowed(headers: Sequence[bytes], token: str, directives: frozenset[str]) -> bool:
    """Whether an X-Robots-Tag among the header lines has one of these directives for everybody or
    for this token."""
    if b"x-robots-tag" not in b"".join(headers).lower():  # as in nearly all answers
        return False
    for line in headers:
        name, _, value = line.partition(b":")
        if name.strip().lower() != b"x-robots-tag":
            continue
        meant = True
        for part in value.decode("latin-1").lower().split(","):
            before, colon, directive = (word.strip() for word in part.partition(":"))
            if colon and before not in _VALUED:
                meant, before = before == token.lower(), directive
            if meant and before in directives:
                return True
    return False
