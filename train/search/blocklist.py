"""Rows that must not be in an index: the lines that `remove` was given, which are kept with the
index, and the keys that were taken down from the datasets that the index is made of.

A line is `KIND:VALUE`, as `alignset takedown` reads them: `key:`, `url:` (that very URL),
`prefix:` (all URLs that begin so), `host:` (that very host), `domain:` (that host and those below
it), `md5:`, `sha1:` and `sha256:` (of the image's file). A line without a kind is a URL where it
has `://` in it, else a host. Empty lines and those that begin with `#` are left out.

A dataset's `taken_down.u64` holds the keys of all pairs that were ever taken out of it, as 64-bit
numbers, little-endian (docs/politeness.md). A sample's key is that number in 16 hexadecimal digits.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from alignset.train.data.whole_files import write_whole
from alignset.train.errors import SettingsError, TrainingError

DIGESTS = {"md5": 32, "sha1": 40, "sha256": 64}  # hex digits
KINDS = ("key", "url", "prefix", "host", "domain", *DIGESTS)
# Of takedown lists; an index holds nothing that they could be compared with.
_OTHER_KINDS = ("phash", "pdq", "text")
_LINE = re.compile(r"([a-z0-9]+):(?!//)\s*(.*)", re.DOTALL)
_MAX_BYTES = 1 << 30  # of a file
_FILE, TAKEN_DOWN = "blocklist.txt", "taken_down.u64"
FileMark = tuple[int, int, int] | None


@dataclass(frozen=True)
class Blocklist:
    """Rows that must not be in an index, by kind.

    Attributes:
      values: by each of KINDS.
      others: how many lines were of kinds that an index's rows cannot be compared with.
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

    def union(self, other: Blocklist) -> Blocklist:
        """Both lists."""
        return Blocklist({kind: self.values[kind] | other.values[kind] for kind in KINDS})

    def lines_of(self, row: Mapping[str, object]) -> set[str]:
        """The lines that name a row, by its key, url, host and digests (bytes)."""
        url, host = str(row["url"]), str(row["host"])
        labels = host.split(".")
        names: dict[str, set[str]] = {kind: {str(row[kind])} for kind in ("key", "url", "host")}
        names["domain"] = {".".join(labels[at:]) for at in range(len(labels))}
        names["prefix"] = {url[:length] for length in self._prefix_lengths}
        names |= {kind: {bytes(row[kind]).hex()} for kind in DIGESTS}  # type: ignore[call-overload]
        return {f"{kind}:{name}" for kind in KINDS for name in names[kind] & self.values[kind]}

    @cached_property
    def _prefix_lengths(self) -> set[int]:
        return {len(prefix) for prefix in self.values["prefix"]}


def read_blocklist(path: str | Path) -> Blocklist:
    """The list in a text file, or in a dataset's `taken_down.u64`.

    Raises:
      SettingsError: it cannot be read, is empty, or a line is none.
      TrainingError: it ends in .u64, and holds no keys.
    """
    try:
        if str(path).endswith(".u64"):
            return Blocklist.of_keys(_read_keys(path))
        if Path(path).stat().st_size > _MAX_BYTES:
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
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        kind, value = _parse(entry)
        if kind in _OTHER_KINDS:
            others += 1
        elif kind not in KINDS or not _is_valid(kind, value):
            raise SettingsError(
                f"{name}, line {number}: {entry[:80]!r} is none of {', '.join(KINDS)} with a "
                "value, as in sha256:HEX or host:a.example"
            )
        else:
            values[kind].add(value)
    return Blocklist(values, others)


def _parse(line: str) -> tuple[str, str]:
    """The kind and the value of a line."""
    match = _LINE.fullmatch(line)
    if match and (match[1] in KINDS or match[1] in _OTHER_KINDS):
        kind, value = match.groups()
    elif match and not match[2].isdigit():  # a host may have a port
        return match[1], ""
    else:
        kind, value = ("url" if "://" in line else "host"), line
    if kind in ("host", "domain"):
        value = value.lower().partition(":")[0]
    return kind, value.lower() if kind in DIGESTS else value


def _is_valid(kind: str, value: str) -> bool:
    if kind in DIGESTS:
        return bool(re.fullmatch(f"[0-9a-f]{{{DIGESTS[kind]}}}", value))
    if kind in ("host", "domain"):
        return bool(re.fullmatch(r"[^\s/]+", value))
    return bool(value)


def stored_blocklist(folder: Path) -> Blocklist:
    """The list that an index keeps; empty where nothing was taken out of it."""
    path = folder / _FILE
    return read_blocklist(path) if path.exists() else Blocklist()


def store_blocklist(folder: Path, blocklist: Blocklist) -> None:
    """Has an index keep the list."""
    text = "".join(f"{line}\n" for line in blocklist.lines())
    write_whole(folder / _FILE, text)


def datasets_of(shards: Iterable[str]) -> list[str]:
    """The folders of the finished datasets that hold these shards, absolute, each once; only local
    ones, since a store cannot be asked before each answer."""
    folders = {
        os.path.dirname(os.path.dirname(path))
        for shard in shards
        if os.path.exists(shard)
        for path in (os.path.abspath(shard), os.path.realpath(shard))
    }
    return sorted(folder for folder in folders if os.path.exists(f"{folder}/manifest.json"))


def file_mark(path: str | Path) -> FileMark:
    """Another one for each state of a file that is replaced as a whole; None: it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def taken_down_marks(datasets: Iterable[str]) -> tuple[FileMark, ...]:
    """The same of each dataset's file of takedowns."""
    return tuple(file_mark(f"{folder}/{TAKEN_DOWN}") for folder in datasets)


def taken_down_keys(datasets: Iterable[str]) -> set[str]:
    """The keys that were taken down from these datasets; one that is gone has none.

    Raises:
      TrainingError: a file of them cannot be read.
    """
    paths = [Path(folder, TAKEN_DOWN) for folder in datasets]
    return {key for path in paths if path.exists() for key in _read_keys(path)}


def _read_keys(path: str | Path) -> set[str]:
    try:
        size = os.stat(path).st_size
        if size % 8 or size > _MAX_BYTES:
            raise TrainingError(
                f"{path} is not a list of keys ({size} bytes): run the takedown from its dataset "
                "again"
            )
        return {f"{key:016x}" for key in np.fromfile(path, "<u8").tolist()}
    except OSError as error:
        raise TrainingError(f"{path} cannot be read ({error.strerror}): put it right") from error
