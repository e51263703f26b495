"""Permissions of a host's robots.txt: which paths, for which use, and for which crawler."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import NamedTuple
from urllib.parse import quote

from protego import Protego

from alignset.transforms.columns.pair_columns import (
    CONTENT_SIGNAL,
    CONTENT_USAGE,
    ROBOTS_TXT,
    ordered_opt_outs,
)
from alignset.transforms.opt_outs.host_statements import combined, signal_allowed, usage_allowed
from alignset.transforms.workers.unexpected import tell_once

NO_ROBOTS_TXT = "no_robots_txt"
READ_BYTES = 512_000  # RFC 9309: 500 KiB are read
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
      others: by detail, the rules of other crawlers, and rules in which what is not offered for a
        use is disallowed.
      licenses: what `License` names: as it stands there, and then URLs.
    """

    rules: Protego | None
    refusal: str | None = None
    size: int = 0
    wildcards: int = 0
    others: tuple[tuple[str, Protego], ...] = ()
    licenses: tuple[str, ...] = ()

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
            of_all = ((ROBOTS_TXT, self.rules), *self.others)
            details = [detail for detail, rules in of_all if not rules.can_fetch(url, "*")]
            return ordered_opt_outs(details) if details else ()
        except Exception as error:
            tell_once("asking a robots.txt", error)
            return (ROBOTS_TXT,)

    def crawl_delay_s(self) -> float:
        """Seconds that the origin asks for between requests; 0 where it does not."""
        return float((self.rules and self.rules.crawl_delay("*")) or 0.0)


# As Protego reads them, which also does so where the colon is missing.
_AGENT = frozenset({"user-agent", "useragent", "user agent"})
_OF_SITE = frozenset({"sitemap", "sitemaps", "site-map", "host"})
_DISALLOW = frozenset({"disallow", "dissallow", "dissalow", "disalow", "diasllow", "disallaw"})
_CONTENT_USAGE, _CONTENT_SIGNAL, _LICENSE = "content-usage", "content-signal", "license"
_RULES = _DISALLOW | {"allow", _CONTENT_USAGE, _CONTENT_SIGNAL}
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


def _names(value: str, tokens: Collection[str]) -> Iterator[str]:
    """Yields the names that a line for a user agent may mean."""
    for name in dict.fromkeys(map(str.strip, re.split("[,;]", value.lower()))):
        yield from (name, name.replace("*", ""))
        products = (word.partition("/")[0] for word in name.split())  # and a version behind it
        yield from (product for product in products if product in tokens)


_Blocks = dict[str, list[list[str]]]  # by the name of a crawler, the lines of its groups


def _groups_of(text: str, token: str, crawlers: Collection[str]) -> tuple[_Blocks, list[str]]:
    """Returns the groups that name one fetcher, or one of some other crawlers, and all that
    `License` names. Names are in lower case.

    A Content-Signal before all groups is for everybody. Only a rule or a licence ends the names of
    a group: lines between them that are unknown, or not of RFC 9309, do not (2.2.4). Protego would
    end the names there, and keeps n * n rules of n names that share n rules: 12 s and 650 MB for a
    file of 80 KB. Here names share a list of lines.
    """
    tokens = {token, *crawlers}
    names: list[str] = []
    block, in_rules, licenses = list[str](), False, list[str]()
    lines = _NO_BREAKS.sub(lambda character: quote(character[0]), text).splitlines()
    fields = [*filter(None, map(field_and_value, lines))]
    before = takewhile(lambda one: one[0] not in _AGENT, fields)
    signals = [": ".join(one) for one in before if one[0] == _CONTENT_SIGNAL]
    blocks: _Blocks = {"*": [signals]} if signals else {}
    for field, value in fields:
        if field in _AGENT:
            if in_rules:
                names, block, in_rules = [], [], False
            for name in _names(value, tokens):
                if name not in names and (name in crawlers or _score(name, token)):
                    names.append(name)
                    blocks.setdefault(name, []).append(block)
        elif field in _RULES:
            in_rules = True
            if names and value:
                block.append(f"{field}: {value}")
        elif field in _DELAYS:  # of the names before it alone
            for name in names if value else ():
                blocks[name].append([f"{field}: {value}"])
        elif field == _LICENSE and value.lower().startswith(("http://", "https://", "/")):
            in_rules = True
            licenses.append(value)
            if names:
                block.append(f"{field}: {value}")
    return blocks, licenses


def _text(body: bytes) -> str:
    """Decodes the part of a robots.txt that counts. Half a line may allow more than the whole."""
    text = _BYTE_ORDER_MARK.sub(b"", body[:READ_BYTES], count=1).decode("utf-8", "replace")
    return text if len(body) < READ_BYTES else text[: max(text.rfind("\n"), text.rfind("\r"))]


_Allows = Callable[[str], bool | None]  # whether a statement allows what is honoured
_NOTHING = Protego.parse("user-agent: *\ndisallow: /")


def read_robots(
    body: bytes | None,
    detail: str | None,
    token: str,
    categories: frozenset[str] = frozenset(),
    signals: frozenset[str] = frozenset(),
    crawlers: Sequence[str] = (),
) -> Robots:
    """Rules that a response for robots.txt gives to the fetcher of this name.

    Args:
      body: of a 200 answer. detail: else one of FETCH_DETAILS.
      categories: of Content-Usage, that are honoured. signals: of Content-Signal.
      crawlers: others, whose groups count too, where no group names this fetcher.

    Source: RFC 9309, section 2.3.1: a 4xx allows all, what cannot be reached allows nothing, and
    what is not reached after five redirects may be taken for a 4xx.
    """
    if body is not None:
        statements: dict[str, tuple[str, _Allows]] = {}
        if categories:
            statements[_CONTENT_USAGE] = (
                CONTENT_USAGE,
                lambda statement: usage_allowed(statement.encode(), categories),
            )
        if signals:
            statements[_CONTENT_SIGNAL] = (
                CONTENT_SIGNAL,
                lambda statement: signal_allowed(statement, signals),
            )
        try:
            return _read(_text(body), token.strip().lower(), statements, crawlers)
        except Exception as error:  # nobody can say that anything is allowed
            tell_once("reading a robots.txt", error)
            return Robots(None, NO_ROBOTS_TXT)
    assert detail is not None
    if is_missing(detail):
        return Robots(None)
    return Robots(None, detail if detail in _NO_HOST else NO_ROBOTS_TXT)


def is_missing(detail: str) -> bool:
    """Whether a failure says that a host has no such file; else it may be had later."""
    return detail == "too_many_redirects" or (detail[:6] == "http_4" and detail != "http_429")


def _read(
    text: str, token: str, statements: Mapping[str, tuple[str, _Allows]], crawlers: Sequence[str]
) -> Robots:
    lower = {name.lower(): name for name in crawlers if name.lower() != token}
    blocks, licenses = _groups_of(text, token, lower)
    best = max(blocks, key=lambda name: _score(name, token), default="")
    is_ours = _score(best, token)
    own = blocks.get(best, []) if is_ours else []
    own_lines = [line for block in own for line in block]
    parts = [*_parts(own_lines, "", statements)]
    # Names that share their groups say one thing, which counts once. All that is parsed for others
    # is at most as long as a file may be.
    seen, left, others = {tuple(map(id, own))}, READ_BYTES, list[tuple[str, Protego]]()
    for name in lower if is_ours < 2 else ():
        groups = blocks.get(name, [])
        if (same := tuple(map(id, groups))) in seen:
            continue
        seen.add(same)
        left -= sum(len(line) for block in groups for line in block)
        if left < 0:
            others.append((f"{ROBOTS_TXT}:{lower[name]}", _NOTHING))
            break
        parts += _parts([line for block in groups for line in block], lower[name], statements)
    rules = next(rules for detail, rules in parts if detail == ROBOTS_TXT)
    of_all = [rule for _, rules in parts for rule in rules]
    others += [
        (detail, _parsed(rules)) for detail, rules in parts if rules and detail != ROBOTS_TXT
    ]
    own_licenses = [line.partition(": ")[2] for line in own_lines if line.startswith(_LICENSE)]
    return Robots(
        _parsed(rules),
        size=sum(map(len, of_all)),
        wildcards=sum(len(rule) for rule in of_all if "*" in rule),
        others=tuple(others),
        licenses=tuple(own_licenses or licenses),
    )


def _parts(
    lines: list[str], crawler: str, statements: Mapping[str, tuple[str, _Allows]]
) -> Iterator[tuple[str, list[str]]]:
    """Yields the rules of a crawler by the detail of what they do not allow; "" is this fetcher."""
    suffix = f":{crawler}" if crawler else ""
    of_uses = (_CONTENT_USAGE, _CONTENT_SIGNAL, _LICENSE)
    yield ROBOTS_TXT + suffix, [line for line in lines if not line.startswith(of_uses)]
    for field, (detail, allows) in statements.items():
        if values := [line.partition(": ")[2] for line in lines if line.startswith(field)]:
            yield detail + suffix, _uses(values, allows, silence_counts=field == _CONTENT_USAGE)


def _parsed(rules: list[str]) -> Protego:
    return Protego.parse("\n".join(["user-agent: *", *rules]))


def _uses(values: list[str], allows: _Allows, *, silence_counts: bool) -> list[str]:
    """Rules by which what must not be used must not be fetched: of the statements the longest path
    that fits counts, as of others, and of several for one path the most restrictive.

    Args:
      silence_counts: whether a path whose statement says nothing of the use is free of the others.

    Sources: draft-ietf-aipref-attach-05, section 3; of Content-Signal: https://contentsignals.org.
    """
    answers: dict[str, list[bool | None]] = {}
    for value in values:
        path, *rest = value.split(None, 1) if value.startswith("/") else ("/", value)
        is_allowed = allows(rest[0].strip() if rest else "")
        if is_allowed is not None or silence_counts:
            answers.setdefault(path, []).append(is_allowed)
    return [
        f"{'disallow' if combined(is_allowed) is False else 'allow'}: {path}"
        for path, is_allowed in answers.items()
    ]
