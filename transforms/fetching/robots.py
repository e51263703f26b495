"""Permissions of a host's robots.txt: which paths, and for which use."""

import re
import time
from collections import OrderedDict
from collections.abc import Iterator
from threading import Lock
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import quote

from protego import Protego

from alignset.transforms.columns.pair_columns import CONTENT_USAGE, ROBOTS_TXT
from alignset.transforms.opt_outs.response_headers import combined, usage_allowed
from alignset.transforms.opt_outs.tdm_reservation import TdmRules
from alignset.transforms.workers.unexpected import tell_once

NO_ROBOTS_TXT = "no_robots_txt"
# RFC 9309: a cached file is not used for longer than a day, and 500 KiB of it are read.
_KEPT_S = 24 * 3600.0
READ_BYTES = 512_000
_KEPT_HOSTS = 20_000
_KEPT_CHARACTERS = 1 << 22  # of the rules of all hosts; parsed they take up to 50 times as much
# A URL's length times that of all rules with a wildcard: a rule such as `/*aa…ab` may be compared
# at each place of the URL, 30 ms for so many. Of 150 characters are most URLs, so that 200 KB of
# such rules are heeded.
_MOST_COMPARED = 1 << 25
# Then the image would fail in the same way, so that tells more than "no_robots_txt".
_NO_HOST = frozenset(
    {"dns", "refused", "unreachable", "timeout", "forbidden_address"}
    | {"tls", "tls_expired", "tls_wrong_name", "tls_unknown_issuer"}
)


class Robots(NamedTuple):
    """Rules of one origin's robots.txt.

    Attributes:
      rules: for one fetcher; None where there are none.
      refusal: why nothing of the origin may be had, where the file could not be had.
      size: characters of the rules. wildcards: of those that have one.
      uses: rules in which what is not offered for the use is disallowed; None where there are none.
    """

    rules: Protego | None
    refusal: str | None = None
    size: int = 0
    wildcards: int = 0
    uses: Protego | None = None

    @property
    def passing(self) -> bool:
        """Whether the file may soon be there again."""
        return self.refusal is not None

    def opt_outs(self, url: str) -> tuple[str, ...]:
        """Opt-outs against fetching this URL, or against its use: details of `opted_out`."""
        if self.rules is None:
            return ()
        if len(url) * self.wildcards > _MOST_COMPARED:
            return (ROBOTS_TXT,)  # nobody can say that it is allowed
        try:
            forbidden = not self.rules.can_fetch(url, "*")
            unusable = self.uses is not None and not self.uses.can_fetch(url, "*")
        except Exception as error:
            tell_once("asking a robots.txt", error)
            return (ROBOTS_TXT,)
        return (ROBOTS_TXT,) * forbidden + (CONTENT_USAGE,) * unusable

    def crawl_delay_s(self) -> float:
        """Seconds that the origin asks for between requests; 0 where it does not."""
        return float((self.rules and self.rules.crawl_delay("*")) or 0.0)


# As Protego reads them, which also does so where the colon is missing.
_AGENT = frozenset({"user-agent", "useragent", "user agent"})
_OF_SITE = frozenset({"sitemap", "sitemaps", "site-map", "host"})
_DISALLOW = frozenset({"disallow", "dissallow", "dissalow", "disalow", "diasllow", "disallaw"})
_CONTENT_USAGE = "content-usage"
_RULES = _DISALLOW | {"allow", _CONTENT_USAGE}
_DELAYS = frozenset({"crawl-delay", "crawl delay"})
_FIELDS = _AGENT | _OF_SITE | _RULES | _DELAYS
_FIELDS |= {"request-rate", "request rate", "visit-time", "visit time"}
_BYTE_ORDER_MARK = re.compile(rb"\A\xef(?:\xbb\xbf?)?")  # or its beginning
# Python's line breaks that RFC 9309 lacks: they are characters of a path.
_NO_BREAKS = re.compile("[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")


def field_and_value(line: str) -> tuple[str, str] | None:
    """Splits a line into its field in lower case and its value; None where it has neither."""
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
    """Rates how well a group's name fits a fetcher: 0 if it is another's, 1 if it is anyone's."""
    if agent == "*":
        return 1
    starts = [at for at in range(len(token)) if token.startswith(agent, at)] if agent else []
    is_name = any(at == 0 or not re.match(r"[\w-]", token[at - 1]) for at in starts)
    return 1 + len(agent) if is_name else 0


def _names(value: str, token: str) -> Iterator[str]:
    """Yields the names that a line for a user agent may mean."""
    for name in dict.fromkeys(map(str.strip, value.lower().split(","))):
        product = re.split(r"[/\s]", name, maxsplit=1)[0]  # and a version, or more, behind it
        yield from (name, name.replace("*", ""), product if product == token else name)


def _rules_for(text: str, token: str) -> list[str]:
    """Returns the rules of the groups that name one fetcher.

    Only a rule ends the names of a group: lines between them that are unknown, or not of RFC 9309,
    do not (2.2.4). Protego would end the names there, and keeps n * n rules of n names that share n
    rules: 12 s and 650 MB for a file of 80 KB.
    """
    token = token.strip().lower()
    of_agents: dict[str, list[str]] = {}
    group: list[str] = []
    in_rules = False
    lines = _NO_BREAKS.sub(lambda character: quote(character[0]), text).splitlines()
    for field, value in filter(None, map(field_and_value, lines)):
        if field in _AGENT:
            group, in_rules = ([] if in_rules else group), False
            for agent in _names(value, token):
                if _score(agent, token) and agent not in group:
                    of_agents.setdefault(agent, [])
                    group.append(agent)
        elif field in _RULES or field in _DELAYS:
            in_rules = in_rules or field in _RULES
            for agent in group if value else ():
                of_agents[agent].append(f"{field}: {value}")
    best = max(of_agents, key=lambda agent: _score(agent, token), default="")
    return of_agents.get(best, [])


def _text(body: bytes) -> str:
    """Decodes the part of a robots.txt that counts. Half a line may allow more than the whole."""
    text = _BYTE_ORDER_MARK.sub(b"", body[:READ_BYTES], count=1).decode("utf-8", "replace")
    return text if len(body) < READ_BYTES else text[: max(text.rfind("\n"), text.rfind("\r"))]


def read_robots(
    body: bytes | None, detail: str | None, token: str, categories: frozenset[str] = frozenset()
) -> Robots:
    """Rules that a response for robots.txt gives to the fetcher of this name.

    Args:
      body: of a 200 answer. detail: else one of FETCH_DETAILS.
      categories: of Content-Usage, that are honoured.

    Source: RFC 9309, section 2.3.1: a 4xx allows all, what cannot be reached allows nothing, and
    what is not reached after five redirects may be taken for a 4xx.
    """
    if body is not None:
        try:
            lines = _rules_for(_text(body), token)
            rules = [line for line in lines if not line.startswith(_CONTENT_USAGE)]
            uses = _uses(lines, categories) if categories and len(rules) < len(lines) else []
        except Exception as error:  # nobody can say that anything is allowed
            tell_once("reading a robots.txt", error)
            return Robots(None, NO_ROBOTS_TXT)
        wildcards = sum(len(rule) for rule in (*rules, *uses) if "*" in rule)
        size = sum(map(len, (*rules, *uses)))
        return Robots(_parsed(rules), None, size, wildcards, _parsed(uses) if uses else None)
    assert detail is not None
    if detail == "too_many_redirects" or (detail.startswith("http_4") and detail != "http_429"):
        return Robots(None)
    return Robots(None, detail if detail in _NO_HOST else NO_ROBOTS_TXT)


def _parsed(rules: list[str]) -> Protego:
    return Protego.parse("\n".join(["user-agent: *", *rules]))


def _uses(lines: list[str], categories: frozenset[str]) -> list[str]:
    """Rules by which what must not be used must not be fetched: of the rules for Content-Usage the
    longest that fits counts, as of others, and of several for one path the most restrictive.

    Source: draft-ietf-aipref-attach-05, section 3.
    """
    statements: dict[str, list[bool | None]] = {}
    for line in lines:
        field, _, value = line.partition(": ")
        if field == _CONTENT_USAGE:
            path, *rest = value.split(None, 1) if value.startswith("/") else ("", value)
            statement = rest[0].strip() if rest else ""
            is_allowed = usage_allowed(statement.encode(), categories)
            statements.setdefault(path, []).append(is_allowed)
    if "" in statements:  # which fits all, and is shorter than "/"
        statements.setdefault("/", statements.pop(""))
    return [
        f"{'disallow' if combined(is_allowed) is False else 'allow'}: {path}"
        for path, is_allowed in statements.items()
    ]


P = TypeVar("P", Robots, TdmRules)


class PolicyCache(Generic[P]):
    """Rules of origins' files, for all threads of a process."""

    def __init__(self) -> None:
        self._policies: OrderedDict[tuple[str, str], tuple[float, P]] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    def get(self, origin: str, reader: str) -> P | None:
        """Rules of its file for a fetcher, or None where it must be requested (again)."""
        with self._lock:
            until, policy = self._policies.get((origin, reader), (0.0, None))
            return policy if time.monotonic() < until else None

    def put(self, origin: str, reader: str, policy: P) -> None:
        # What could not be had may soon be there again.
        kept_s = 60.0 if policy.passing else _KEPT_S
        with self._lock:
            if (origin, reader) in self._policies:
                self._size -= self._policies.pop((origin, reader))[1].size
            self._size += policy.size
            self._policies[origin, reader] = (time.monotonic() + kept_s, policy)
            while len(self._policies) > _KEPT_HOSTS or self._size > _KEPT_CHARACTERS:
                self._size -= self._policies.popitem(last=False)[1][1].size
