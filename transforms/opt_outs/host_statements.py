"""What hosts state: the TDM Reservation Protocol, and opt-outs in the header of a response, with
directives such as `noai` in it or in a page.

Sources: TDM Reservation Protocol, final report of the W3C community group, May 2024; of
Content-Usage: draft-ietf-aipref-vocab-08, draft-ietf-aipref-attach-05, and RFC 9651 for the
grammar; of Content-Signal: https://contentsignals.org; of links to licences: RSL 1.0, section 4.5.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice, pairwise
from string import punctuation
from typing import Any, NamedTuple, cast
from urllib.parse import quote, urlsplit

import http_sf
import msgspec

from alignset.transforms.columns.pair_columns import (
    CONTENT_SIGNAL,
    CONTENT_USAGE,
    TDM_RESERVATION,
    X_ROBOTS_TAG,
)
from alignset.transforms.columns.web_urls import parse_url, request_url
from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings

# The most in a file; further rules are not read. A URL is compared with each.
MOST_RULES, _LONGEST_PATTERN, _MOST_WILDCARDS = 1_000, 2_048, 8
_ENCODED = re.compile(r"%([0-9A-Fa-f]{2})")
# Letters that need no code, and those that mean themselves in a pattern only by their code.
_DECODED = re.compile(r"[A-Za-z0-9._~$*-]")
_WHOLE_URL = re.compile(r"https?://([^/:?#]*+)(?::[0-9]*+)?", re.I)


def is_reserved(value: object) -> bool | None:
    """Whether a value of `tdm-reservation` reserves the rights; None where it is neither 0 nor 1,
    as number or text."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return {"1": True, "0": False}.get(str(value).strip())


class Rule(NamedTuple):
    """A pattern, as the parts between its asterisks; host: the only one where it holds, or ""."""

    parts: tuple[str, ...]
    to_end: bool
    reserved: bool
    host: str = ""

    @property
    def length(self) -> int:
        return sum(map(len, self.parts)) + self.to_end

    def fits(self, path: str) -> bool:
        first, *others = self.parts
        if not path.startswith(first):
            return False
        at = len(first)
        if not others:
            return not self.to_end or at == len(path)
        for part in others[:-1]:
            place = path.find(part, at)
            if place < 0:
                return False
            at = place + len(part)
        last = others[-1]
        if self.to_end:
            return path.endswith(last) and len(path) - len(last) >= at
        return path.find(last, at) >= 0


class Reservations(NamedTuple):
    """Rules of a tdmrep.json or of a licence file.

    Attributes:
      rules: in the order in which they count; none where the file could not be had.
      size: of them, in characters; a rule of few takes as much memory as one of ten.
      passing: whether the file could not be had for a reason that may pass.
    """

    rules: tuple[Rule, ...] = ()
    size: int = 0
    passing: bool = False

    @classmethod
    def of(cls, rules: Sequence[Rule]) -> Reservations:
        """These rules."""
        return cls(tuple(rules), sum(10 + sum(map(len, rule.parts)) for rule in rules))

    def reserves(self, url: str) -> bool:
        """Whether the first rule whose pattern fits this URL reserves the rights."""
        if not self.rules:
            return False
        parts = urlsplit(url)
        path = _normal(parts.path + (f"?{parts.query}" if parts.query else ""))
        for rule in self.rules:
            if rule.host in ("", parts.hostname) and rule.fits(path):
                return rule.reserved
        return False


def read_tdmrep(body: bytes | None) -> Reservations:
    """The rules of a tdmrep.json; none where it is not as it should be.

    Args:
      body: of a 200 answer, or its beginning; None where there was none.
    """
    if body is None:
        return Reservations()
    try:
        entries = msgspec.json.decode(body.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Reservations()
    entries = [entries] if isinstance(entries, dict) else entries
    if not isinstance(entries, list):
        return Reservations()
    return Reservations.of([*filter(None, map(_rule, entries[:MOST_RULES]))])


def _rule(entry: Any) -> Rule | None:
    if not isinstance(entry, dict):
        return None
    location, reserved = entry.get("location"), is_reserved(entry.get("tdm-reservation"))
    if not isinstance(location, str) or reserved is None:
        return None
    return path_rule(location, reserved)


def path_rule(location: str, reserved: bool) -> Rule | None:
    """The rule for the paths that fit a pattern, on any host, or on one where it is a whole URL;
    None where it is too long. Behind the last of _MOST_WILDCARDS asterisks a reservation fits any
    path, so that none is missed, and what frees from one does not count."""
    if len(location) > _LONGEST_PATTERN:
        return None
    host = ""
    if match := _WHOLE_URL.match(location):
        parsed = parse_url(f"https://{match[1]}/")  # other letters in ASCII, as in a request
        host, location = parsed.hostname if parsed else match[1], location[match.end() :]
    to_end = location.endswith("$")
    location = "/" + quote(location.removesuffix("$").lstrip("/"), safe=punctuation)
    parts = re.sub(r"\*+", "*", location).split("*")
    if len(parts) - 1 > _MOST_WILDCARDS:
        if not reserved:
            return None
        parts, to_end = [*parts[:_MOST_WILDCARDS], ""], False
    return Rule(tuple(map(_normal, parts)), to_end, reserved, "" if "*" in host else host)


def _normal(path: str) -> str:
    """Decodes what a path need not encode, `$` and `*` too."""
    return _ENCODED.sub(_decoded, path) if "%" in path else path


def _decoded(match: re.Match[str]) -> str:
    letter = chr(int(match[1], 16))
    return letter if _DECODED.fullmatch(letter) else match[0].upper()


_MOST_BYTES = 1 << 14  # of one statement; more is none
_PREFERENCES = {"y": True, "n": False}


def usage_allowed(statement: bytes, categories: Collection[str]) -> bool | None:
    """Preference of a statement for some categories of use.

    Returns:
      False where one is disallowed, else True where one is allowed; None where it says nothing of
      them, or breaks the grammar.
    """
    if len(statement) > _MOST_BYTES:
        return None
    try:
        members = cast(http_sf.DictionaryType, http_sf.parse(statement, tltype="dictionary"))
    except ValueError:
        return None
    return combined(_PREFERENCES.get(_token(members.get(name))) for name in categories)


def _token(member: object) -> str:
    """Returns the token that a member of a dictionary is, or "" where it is another type."""
    value = member[0] if isinstance(member, tuple) else None
    return str(value) if isinstance(value, http_sf.Token) else ""


def combined(preferences: Iterable[bool | None]) -> bool | None:
    """Combines several statements: the most restrictive counts."""
    values = set(preferences)
    return False if False in values else True if True in values else None


_ANSWERS = {"yes": True, "y": True} | dict.fromkeys(("no", "n", "false", "0"), False)


def words_of(text: str) -> list[str]:
    """The words of a list of uses, whatever separates them, in lower case and with hyphens."""
    return re.findall(r"[a-z0-9-]+", text.lower().replace("_", "-"))


def signal_allowed(statement: str, categories: Collection[str]) -> bool | None:
    """Answer of a Content-Signal for some categories of use, as `usage_allowed` gives it.

    It has no strict grammar: case, blanks, quotation marks and what separates make no difference.
    """
    answers = pairwise(words_of(statement))
    return combined(_ANSWERS.get(answer) for name, answer in answers if name in categories)


_MOST_LICENSES = 3  # of a robots.txt, or of a response


def license_urls(targets: Iterable[str], base: str) -> tuple[str, ...]:
    """The URLs to request licence files from, relative to the file or image that names them; the
    first three."""
    parsed = (parse_url(target, parse_url(base)) for target in targets)
    urls = (request_url(url.href) for url in parsed if url)
    return tuple(islice(dict.fromkeys(filter(None, urls)), _MOST_LICENSES))


RSL_TYPE = "application/rsl+xml"
_LINK = re.compile(r"<([^<>]*+)>([^<>]*+)")
_REL = re.compile(r"\brel\s*+=\s*+[\"']?+([^\"';,]*+)")
_MOST_LINKS = 100


class License(NamedTuple):
    """A licence file that somebody names.

    Fields:
      url: of the file. by: of the page or response that names it. judged: which it is for.
    """

    url: str
    by: str
    judged: tuple[str, ...]


def license_links(lines: Sequence[bytes], url: str) -> tuple[License, ...]:
    """The licence files of RSL that the header of a response to this URL links to."""
    if b"rsl+xml" not in b"".join(lines).lower():
        return ()
    fields = b",".join(field_values(lines, b"link")).decode("latin-1")
    links = [match.groups() for match in islice(_LINK.finditer(fields), _MOST_LINKS)]
    files = license_urls((target for target, more in links if _is_license(more.lower())), url)
    return tuple(License(file, url, (url,)) for file in files)


def _is_license(parameters: str) -> bool:
    rel = _REL.search(parameters)
    return rel is not None and "license" in rel[1].split() and RSL_TYPE in parameters


_X_ROBOTS_TAG = b"x-robots-tag"
_TDM_RESERVATION = b"tdm-reservation"
_CONTENT_USAGE, _CONTENT_SIGNAL = b"content-usage", b"content-signal"
# Directives whose own value stands behind a colon, where else the name of a fetcher stands.
_VALUED = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
_SEPARATORS = re.compile(r"\.?[^a-z0-9_.:-]+|\.$")  # a token may have a dot inside
_SAYS_NONE = frozenset({"none", "noindex", "nofollow"})  # what `none` stands for


def header_opt_outs(
    lines: Sequence[bytes],
    settings: OptOutSettings,
    directives: Collection[str],
    reserved_by_file: bool = False,
) -> tuple[str, ...]:
    """Which opt-outs an answer's header states, as details of `opted_out`.

    Args:
      lines: of the header, as they came.
      directives: of X-Robots-Tag, that are honoured.
      reserved_by_file: whether the host's tdmrep.json reserves the rights; what the header says of
        that comes before it.
    """
    text = b"".join(lines).lower()
    opt_outs = []
    if directives and _X_ROBOTS_TAG in text:
        values = (value.decode("latin-1") for value in field_values(lines, _X_ROBOTS_TAG))
        if any(has_directive(value, settings.user_agent_token, directives) for value in values):
            opt_outs.append(X_ROBOTS_TAG)
    if settings.tdm_reservation:
        reserved = reserved_by_file
        if _TDM_RESERVATION in text:
            fields = field_values(lines, _TDM_RESERVATION)
            statements = {is_reserved(field.decode("latin-1")) for field in fields} - {None}
            reserved = True in statements if statements else reserved
        if reserved:
            opt_outs.append(TDM_RESERVATION)
    if settings.content_usage and _CONTENT_USAGE in text:
        statement = b", ".join(field_values(lines, _CONTENT_USAGE))
        if usage_allowed(statement, settings.usage_categories) is False:
            opt_outs.append(CONTENT_USAGE)
    if settings.content_signal and _CONTENT_SIGNAL in text:
        statement = b", ".join(field_values(lines, _CONTENT_SIGNAL))
        if signal_allowed(statement.decode("latin-1"), settings.signal_categories) is False:
            opt_outs.append(CONTENT_SIGNAL)
    return tuple(opt_outs)


MOST_RECORDED = 1 << 13  # characters of an image's responses; one more says that it was cut
_STATING = (_X_ROBOTS_TAG, _TDM_RESERVATION, _CONTENT_USAGE, _CONTENT_SIGNAL)


def stating_lines(lines: Sequence[bytes]) -> list[bytes]:
    """The lines of a header, as they came, that may state an opt-out."""
    text = b"".join(lines).lower()
    names = (*_STATING, b"link") if b"rsl+xml" in text else _STATING
    if not any(name in text for name in names):
        return []
    return [line for line in lines if line.partition(b":")[0].strip().lower() in names]


def record_response(recorded: str, lines: Sequence[bytes], location: str | None = None) -> str:
    """Adds a response to what is recorded of those before: lines of its header, and where it leads
    to."""
    if len(recorded) > MOST_RECORDED or not (lines or location):
        return recorded
    texts = [line.strip().decode("latin-1") for line in lines]
    texts += [f"Location: {location}"] if location else []
    return "".join([recorded, *(f"{text}\n" for text in texts)])[: MOST_RECORDED + 1]


_PAGE_LICENSE = re.compile(r"^Page-License: ([^ \n]+) ([^ \n]*)\n", re.M)


def record_page(file: str, page: str) -> str:
    """The line by which an image's record has a licence file that a page names."""
    return f"Page-License: {file} {page}\n"


def record_pages(pages: str | None, recorded: str) -> str:
    """A record with the lines of the pages that show the image now."""
    return ((pages or "") + _PAGE_LICENSE.sub("", recorded))[: MOST_RECORDED + 1]


def recorded_responses(url: str, recorded: str) -> Iterator[tuple[str, list[bytes]]]:
    """Yields the URL of each response of an image with its lines, as they were recorded; the last
    one may not have been requested."""
    lines: list[bytes] = []
    for line in filter(None, recorded.split("\n")):
        name, _, value = line.partition(": ")
        if name == "Location":
            yield url, lines
            url, lines = value, []
        else:
            lines.append(line.encode("latin-1", "replace"))
    yield url, lines


Request = tuple[str, list[bytes], tuple[License, ...]]


def recorded_requests(url: str, recorded: str) -> Iterator[Request]:
    """Yields each request of an image by its record: the URL, the response's lines, and the licence
    files that pages and earlier responses name. The last URL is yielded again, with all files, if
    its response names any. It may not have been requested."""
    licenses, own = list[License](), tuple[License, ...]()
    for named, page in _PAGE_LICENSE.findall(recorded):
        if file := request_url(named):
            judged = tuple(filter(None, (url, by := request_url(page))))
            licenses.append(License(file, by or file, judged))
    for place, lines in recorded_responses(url, recorded):
        if not (url := request_url(place) or ""):
            return
        yield url, lines, tuple(licenses)
        licenses += (own := license_links(lines, url))
    if own:
        yield url, lines, tuple(licenses)


def field_values(lines: Sequence[bytes], name: bytes) -> Iterator[bytes]:
    """The values of the header lines of this name, which is in lower case."""
    for line in lines:
        of, _, value = line.partition(b":")
        if of.strip().lower() == name:
            yield value.strip()


def has_directive(value: str, token: str, directives: Collection[str]) -> bool:
    """Whether the value of one X-Robots-Tag, or of a meta element, has one of these directives for
    everybody or for this token, as in "otherbot: noindex, alignset: noai".

    White space and any other punctuation separate directives as commas do: no opt-out is missed for
    its punctuation.
    """
    meant = True
    value = ":".join(part.strip() for part in value.lower().split(":"))
    for word in _SEPARATORS.split(value):
        before, colon, directive = word.partition(":")
        if colon and before in _VALUED:
            continue
        # "15:00:00" and "gmt+01:00" are of a date: no directive begins with a digit.
        if colon and (before == token.lower() or not directive[:1].isdigit()):
            meant, before = before == token.lower(), directive
        says_none = before == "none" and not _SAYS_NONE.isdisjoint(directives)
        if meant and (before in directives or says_none):
            return True
    return False
