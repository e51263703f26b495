"""What must not be in an index: the lines that `remove` was given, which are kept with the index.

A line is `KIND:VALUE`, as `alignset takedown` takes them: `key:`, `url:` (that very URL),
`prefix:` (all URLs that begin so), `host:` (that very host), `domain:` (that host and those below
it), `md5:`, `sha1:` and `sha256:` (of the picture's file). A line without a kind is a URL where it
has `://` in it, else a host. Empty lines and those that begin with `#` are left out.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from alignset.train.errors import SettingsError
from alignset.train.search.index_files import publish
from alignset.train.search.taken_down import read_keys

if TYPE_CHECKING:
    from alignset.train.search.pictures import Picture

DIGESTS = {"md5": 32, "sha1": 40, "sha256": 64}  # hex digits
KINDS = ("key", "url", "prefix", "host", "domain", *DIGESTS)
# Of takedown lists; an index holds nothing by which they could be told.
_OTHERS = ("phash", "pdq", "text")
_LINE = re.compile(r"([a-z0-9]+):(?!//)\s*(.*)", re.DOTALL)
_LONGEST_FILE = 1 << 30  # bytes
_FILE = "blocklist.txt"


@dataclass(frozen=True)
class Blocklist:
    """What must not be in an index, by kind.

    Attributes:
      values: by each of KINDS.
      others: how many lines were of kinds by which an index's rows cannot be told.
    """

    values: dict[str, set[str]] = field(default_factory=lambda: {kind: set() for kind in KINDS})
    others: int = 0

    @classmethod
    def of_keys(cls, keys: set[str]) -> Blocklist:
        return cls({kind: keys if kind == "key" else set() for kind in KINDS})

    def __len__(self) -> int:
        return sum(map(len, self.values.values()))

    def lines(self) -> list[str]:
        return sorted(f"{kind}:{value}" for kind in KINDS for value in self.values[kind])

    def joined(self, other: Blocklist) -> Blocklist:
        """Both lists."""
        return Blocklist({kind: self.values[kind] | other.values[kind] for kind in KINDS})

    def blocks(self, picture: Picture, host: str) -> bool:
        """Whether a picture must not come in. Its file is hashed only where the list has hashes."""
        if not len(self):
            return False
        data = picture.data or b""
        digests = {
            kind: hashlib.new(kind, data, usedforsecurity=False).hexdigest()
            for kind in DIGESTS
            if self.values[kind]
        }
        return self.blocks_row(picture.key, picture.url, host, digests)

    def blocks_row(self, key: str, url: str, host: str, digests: dict[str, str]) -> bool:
        """The same of a row.

        Args:
          digests: the file's hashes in hexadecimal digits, by their names in DIGESTS.
        """
        values = self.values
        if key in values["key"] or url in values["url"] or host in values["host"]:
            return True
        if any(digest in values[kind] for kind, digest in digests.items()):
            return True
        if values["domain"] and any(name in values["domain"] for name in _names_above(host)):
            return True
        return self._has_prefix(url)

    def lines_of_row(self, key: str, url: str, host: str, digests: dict[str, str]) -> set[str]:
        """All lines that name this row; arguments as above."""
        names = {"key": {key}, "url": {url}, "host": {host}, "domain": {*_names_above(host)}}
        names["prefix"] = {url[:length] for length in self._prefix_lengths}
        names |= {kind: {digest} for kind, digest in digests.items()}
        return {f"{kind}:{name}" for kind in names for name in names[kind] & self.values[kind]}

    @cached_property
    def _prefix_lengths(self) -> list[int]:
        return sorted({len(prefix) for prefix in self.values["prefix"]})

    def _has_prefix(self, url: str) -> bool:
        at = bisect_right(self._prefixes, url)
        return at > 0 and url.startswith(self._prefixes[at - 1])

    @cached_property
    def _prefixes(self) -> list[str]:
        """Sorted, without those that begin with another: the one before a URL alone may be its."""
        shortest: list[str] = []
        for prefix in sorted(self.values["prefix"]):
            if not shortest or not prefix.startswith(shortest[-1]):
                shortest.append(prefix)
        return shortest


def _names_above(host: str) -> list[str]:
    labels = host.split(".")
    return [".".join(labels[at:]) for at in range(len(labels))]


def read_blocklist(path: str | Path) -> Blocklist:
    """The list in a text file, or in a set's `taken_down.u64`.

    Raises:
      SettingsError: it cannot be read, is empty, or a line is none.
      TrainingError: it ends in .u64, and holds no keys.
    """
    try:
        if str(path).endswith(".u64"):
            return Blocklist.of_keys(read_keys(path))
        if Path(path).stat().st_size > _LONGEST_FILE:
            raise SettingsError(f"{path} has more than 1 GiB: split it, and give one after another")
        with open(path, encoding="utf-8-sig") as lines:
            blocklist = parse_blocklist(lines, str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read as a blocklist ({error})") from error
    if not len(blocklist) and not blocklist.others:
        raise SettingsError(
            f"{path} has no line: give one a line, such as url:https://a.example/b.jpg"
        )
    return blocklist


def parse_blocklist(lines: Iterable[str], name: str) -> Blocklist:
    """The list of these lines. Raises SettingsError where one is none, with its number."""
    values: dict[str, set[str]] = {kind: set() for kind in KINDS}
    others = 0
    for number, line in enumerate(lines, 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        kind, value = _parsed(stripped)
        if kind in _OTHERS:
            others += 1
        elif kind not in KINDS or not _is_right(kind, value):
            raise SettingsError(
                f"{name}, line {number}: {stripped[:80]!r} is none of {', '.join(KINDS)} with a "
                "value, as in sha256:HEX or host:a.example"
            )
        else:
            values[kind].add(value)
    return Blocklist(values, others)


def _parsed(line: str) -> tuple[str, str]:
    matched = _LINE.fullmatch(line)
    if matched and (matched[1] in KINDS or matched[1] in _OTHERS):
        kind, value = matched.groups()
    elif matched and not matched[2].isdigit():  # a host may have a port
        return matched[1], ""
    else:
        kind, value = ("url" if "://" in line else "host"), line
    if kind in ("host", "domain"):
        value = value.lower().partition(":")[0]
    return kind, value.lower() if kind in DIGESTS else value


def _is_right(kind: str, value: str) -> bool:
    if kind in DIGESTS:
        return bool(re.fullmatch(f"[0-9a-f]{{{DIGESTS[kind]}}}", value))
    if kind in ("host", "domain"):
        return bool(re.fullmatch(r"[^\s/]+", value))
    return bool(value)


def kept_blocklist(folder: Path) -> Blocklist:
    """The list that an index keeps; empty where nothing was taken out of it."""
    path = folder / _FILE
    return read_blocklist(path) if path.exists() else Blocklist()


def keep_blocklist(folder: Path, blocklist: Blocklist) -> None:
    text = "".join(f"{line}\n" for line in blocklist.lines())
    publish(folder / _FILE, lambda file: file.write(text.encode()))
