"""What hosts say that a fetcher may have: robots.txt and X-Robots-Tag."""

import re
import time
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import NamedTuple

from protego import Protego

from transforms.workers.unexpected import tell_once

# RFC 9309: a cached file is not used for longer than a day, and 500 KiB of it are read.
_KEPT_S = 24 * 3600.0
_READ_BYTES = 512_000
_KEPT_HOSTS = 20_000
_KEPT_CHARACTERS = 1 << 22  # of the rules of all hosts; parsed they take up to 50 times as much
# A URL's length times that of all rules with a wildcard: a rule such as `/*aa…ab` may be compared
# at each place of the URL, 30 ms for so many. Of 150 characters are most URLs, so that 200 KB of
# such rules are heeded.
_MOST_COMPARED = 1 << 25
# Then the image would fail in the same way, so that tells more than "robots".
_NO_HOST = frozenset(
    {"dns", "refused", "unreachable", "timeout", "forbidden_address"}
    | {"tls", "tls_expired", "tls_wrong_name", "tls_unknown_issuer"}
)
# Directives whose own value stands behind a colon, where else the name of a fetcher stands.
_VALUED = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})


class Robots(NamedTuple):
    """What one origin's robots.txt says.

    Attributes:
      rules: for one fetcher; None where there are none.
      refusal: why nothing of the origin may be had, where the file could not be had.
      size: characters of the rules. wildcards: of those that have one.
    """

    rules: Protego | None
    refusal: str | None = None
    size: int = 0
    wildcards: int = 0

    def refusal_of(self, url: str) -> str | None:
        """The detail for which this URL may not be fetched, or None."""
        if self.refusal or self.rules is None:
            return self.refusal
        if len(url) * self.wildcards > _MOST_COMPARED:
            return "robots"  # nobody can say that it is allowed
        try:
            return None if self.rules.can_fetch(url, "*") else "robots"
        except Exception as error:
            tell_once("asking a robots.txt", error)
            return "robots"

    def crawl_delay_s(self) -> float:
        """Seconds that the origin asks for between requests; 0 where it does not."""
        return float((self.rules and self.rules.crawl_delay("*")) or 0.0)


# As Protego reads them, which also does so where the colon is missing.
_AGENT = frozenset({"user-agent", "useragent", "user agent"})
_OF_SITE = frozenset({"sitemap", "sitemaps", "site-map", "host"})
_DISALLOW = frozenset({"disallow", "dissallow", "dissalow", "disalow", "diasllow", "disallaw"})
_RULES = _DISALLOW | {"allow", "crawl-delay", "crawl delay"}
_FIELDS = _AGENT | _OF_SITE | _RULES
_FIELDS |= {"request-rate", "request rate", "visit-time", "visit time"}


def _field_and_value(line: str) -> tuple[str, str] | None:
    """What a line says, if anything."""
    line = line.partition("#")[0].strip()
    field, colon, value = line.partition(":")
    field = field.strip().lower()
    if colon and (field in _FIELDS or not value[:1].strip()):
        return field, value.strip()
    words = line.split()
    for count in (1, 2):
        candidate = " ".join(words[:count]).lower()
        if candidate in _FIELDS:
            return candidate, " ".join(words[count:])
    return (field, value.strip()) if colon else None


def _score(agent: str, token: str) -> int:
    """How well the name of a group is that of a fetcher; 0 where it is another's."""
    if agent == "*":
        return 1
    starts = [at for at in range(len(token)) if token.startswith(agent, at)] if agent else []
    is_name = any(at == 0 or not re.match(r"[\w-]", token[at - 1]) for at in starts)
    return len(agent) if is_name else 0


def _rules_for(text: str, token: str) -> list[str]:
    """The lines of the groups that are about one fetcher. Of all, n names that share n rules would
    be n * n for Protego: 12 s and 650 MB for a file of 80 KB."""
    token = token.strip().lower()
    of_agents: dict[str, list[str]] = {}
    group: list[str] = []
    in_rules = False
    for field, value in filter(None, map(_field_and_value, text.splitlines())):
        if field in _AGENT:
            group, in_rules = ([] if in_rules else group), False
            name = value.lower()
            for agent in (name, name.replace("*", "")):
                if _score(agent, token) and agent not in group:
                    of_agents.setdefault(agent, [])
                    group.append(agent)
        elif field not in _OF_SITE:
            in_rules = True
            rule = f"{field}: {value}"
            for agent in group if value and field in _RULES else ():
                of_agents[agent].append(rule)
    best = max(of_agents, key=lambda agent: _score(agent, token), default="")
    return of_agents.get(best, [])


def read_robots(body: bytes | None, detail: str | None, token: str) -> Robots:
    """What the answer to a request for robots.txt means for the fetcher of this name.

    Args:
      body: of a 200 answer. detail: else one of FETCH_DETAILS.

    Source: RFC 9309, section 2.3.1: a 4xx allows all, what cannot be reached allows nothing.
    """
    if body is not None:
        try:
            rules = _rules_for(body[:_READ_BYTES].decode("utf-8", "replace"), token)
            parsed = Protego.parse("\n".join(["user-agent: *", *rules]))
        except Exception as error:  # nobody can say that anything is allowed
            tell_once("reading a robots.txt", error)
            return Robots(None, "robots")
        wildcards = sum(len(rule) for rule in rules if "*" in rule)
        return Robots(parsed, None, sum(map(len, rules)), wildcards)
    assert detail is not None
    if detail.startswith("http_4") and detail != "http_429":
        return Robots(None)
    return Robots(None, detail if detail in _NO_HOST else "robots")


_NOTHING = Robots(None)


class RobotsCache:
    """What is known of origins, for all threads of a process."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], tuple[float, Robots]] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    def get(self, origin: str, token: str) -> Robots | None:
        """What its robots.txt says to a fetcher, or None where that has to be asked for (again)."""
        with self._lock:
            until, robots = self._known.get((origin, token), (0.0, _NOTHING))
            return robots if time.monotonic() < until else None

    def put(self, origin: str, token: str, robots: Robots) -> None:
        # What could not be had may soon be there again.
        kept_s = _KEPT_S if robots.refusal is None else 60.0
        with self._lock:
            self._size += robots.size - self._known.pop((origin, token), (0.0, _NOTHING))[1].size
            self._known[origin, token] = (time.monotonic() + kept_s, robots)
            while len(self._known) > _KEPT_HOSTS or self._size > _KEPT_CHARACTERS:
                self._size -= self._known.popitem(last=False)[1][1].size


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
