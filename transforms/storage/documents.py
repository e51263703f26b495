"""Small documents of JSON, each one a dataclass: how they are written and read; and
counts in them, which add up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from alignset.transforms.storage.files import exists, open_to_read, write_atomically

Document = TypeVar("Document")


class DocumentError(ValueError):
    """A file is not the document that it should be; the message names it and what is wrong."""


def encode_document(document: object) -> bytes:
    """A dataclass as indented JSON, its fields in their order, without those that are UNSET."""
    fields = msgspec.to_builtins(document)
    return (json.dumps(fields, indent=2, ensure_ascii=False) + "\n").encode()


def write_document(path: str, document: object) -> None:
    """Writes a dataclass as JSON, whole or not at all."""
    write_atomically(path, encode_document(document))


def read_document(path: str, kind: type[Document]) -> Document:
    """The dataclass that was written there.

    Raises:
      DocumentError: the file is not such a document.
    """
    with open_to_read(path) as source:
        body = source.read()
    try:  # not by msgspec alone, which reads no `Infinity`
        return msgspec.convert(json.loads(body), kind, str_keys=True)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{path} is not as it was written: {error}") from error


def find_document(path: str, kind: type[Document]) -> Document | None:
    """The same, or None where there is no such file."""
    return read_document(path, kind) if exists(path) else None


def readable_document(path: str, kind: type[Document]) -> Document | None:
    """The same, or None where the file is not such a document."""
    try:
        return find_document(path, kind)
    except DocumentError:
        return None


@dataclass(frozen=True)
class Counts:
    """Outcomes of some pairs.

    Attributes:
      seen, kept: how many there were, and are left.
      dropped: how many went for each reason.
    """

    seen: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)


def add_by_name(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Adds up dicts of counts, key by key."""
    total: Counter[str] = Counter()
    for part in counts:
        total.update(part)
    return dict(sorted(total.items()))


def add_counts(counts: Iterable[Counts]) -> Counts:
    """The sum of the counts of parts."""
    parts = list(counts)
    return Counts(
        seen=sum(part.seen for part in parts),
        kept=sum(part.kept for part in parts),
        dropped=add_by_name(part.dropped for part in parts),
    )
