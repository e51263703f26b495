"""Licence files of Really Simple Licensing: what may not be used for training without payment, or
without a licence that somebody gives.

Source: RSL 1.0 with its errata (https://rslstandard.org/rsl), sections 3.1.1 and 3.3 to 3.7.
"""

from contextlib import suppress
from xml.parsers import expat

from alignset.transforms.opt_outs.host_statements import (
    MOST_RULES,
    Reservations,
    Rule,
    path_rule,
    words_of,
)

_NAMESPACES = ("", "//rslstandard.org/rsl")
_USES = frozenset({"all", "ai-all", "ai-train", "train-ai"})  # ours; the last is of draft 0.9
_WITHOUT_PAYMENT = ("", "free", "attribution")
_DEEPEST, _MOST_ELEMENTS = 32, 20_000
# What a licence says of our use: the greatest of several counts.
_SILENT, _UNLISTED, _PERMITTED, _PROHIBITED = range(4)


def read_license(body: bytes | None) -> Reservations:
    """The rules of a licence file, or of the beginning of one; none where it is another file.

    For each `content` that says something of training there is a rule, the longest path first: a
    narrower one comes before a wider one, and where it is silent the wider one counts.

    Args:
      body: of a 200 answer, or its beginning; None where there was none.
    """
    reader = _Reader()
    with suppress(expat.ExpatError, ValueError, LookupError):  # what was whole before counts
        reader.parser.Parse((body or b"").removeprefix(b"\xef\xbb\xbf").lstrip(), True)
    rules = sorted(reader.rules, key=lambda rule: (-rule.length, not rule.reserved))
    return Reservations.of(rules)


class _Reader:
    """Reads a file without a tree. An entity or a default in a DTD ends the reading, and nothing
    that the file names is opened."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self._depth = self._count = 0
        self._url = self._payment = ""
        self._said = self._use = _SILENT  # of the content; of its licence
        self._is_free = True
        self._words: list[str] | None = None  # of an element whose text counts
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.EntityDeclHandler = self.parser.AttlistDeclHandler = self._refuse
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._add_text

    def _refuse(self, *_: object) -> None:
        raise ValueError("it declares an entity, or a default")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth, self._count = self._depth + 1, self._count + 1
        if self._depth > _DEEPEST or self._count > _MOST_ELEMENTS or len(self.rules) >= MOST_RULES:
            raise ValueError("it is too deep or too long")
        kind = attributes.get("type", "").strip().lower()
        match _local(name):
            case "content":
                # A server gives licences, without which nothing may be accessed, free or not (3.3).
                is_locked = "server" in attributes or (
                    attributes.get("encrypted", "").strip().lower() in ("true", "1")
                )
                self._url = attributes.get("url", "").strip()
                self._said = _PROHIBITED if is_locked else _SILENT
            case "license":
                self._use, self._is_free = _SILENT, True
            case "permits" | "prohibits" if kind in ("usage", ""):
                self._words = []
            case "payment":
                self._payment = kind
                self._is_free &= kind in _WITHOUT_PAYMENT
            # In a payment; a licence of others in one without a type is often the RSL Collective's,
            # which costs. Nobody sends the reports that a licence asks for (3.12).
            case "amount" | "custom" | "accepts" | "reporting":
                self._is_free = False
            case "standard":
                self._is_free &= self._payment != ""

    def _add_text(self, text: str) -> None:
        if self._words is not None:
            self._words.append(text)

    def _end(self, name: str) -> None:
        self._depth -= 1
        match _local(name):
            case ("permits" | "prohibits") as element if self._words is not None:
                names_ours = not _USES.isdisjoint(words_of("".join(self._words)))
                self._words = None
                if element == "permits":
                    self._use = max(self._use, _PERMITTED if names_ours else _UNLISTED)
                elif names_ours:
                    self._use = _PROHIBITED
            case "license":
                if not self._is_free and self._use < _PROHIBITED:
                    self._use = _UNLISTED
                self._said = max(self._said, self._use)
            case "content" if self._said != _SILENT:
                if (rule := path_rule(self._url, self._said != _PERMITTED)) is not None:
                    self.rules.append(rule)
                self._said = _SILENT


def _local(name: str) -> str:
    """The name of an element of RSL; "" of another."""
    namespace, _, local = name.rpartition(" ")
    namespace = namespace.removeprefix("http:").removeprefix("https:").removesuffix("/")
    return local if namespace in _NAMESPACES else ""
