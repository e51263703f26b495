"""Documents are read as they were written, and whatever else is there is a fault that says so."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec import UNSET, UnsetType

from alignset.transforms.storage.documents import (
    DocumentError,
    encode_document,
    find_document,
    read_document,
    write_document,
)


@dataclass(frozen=True)
class Part:
    name: str
    size: int = 0


@dataclass(frozen=True)
class Whole:
    second: float
    first: str | None
    parts: list[Part] = field(default_factory=list)
    by_name: dict[str, Part] | UnsetType = UNSET
    by_number: dict[int, int] = field(default_factory=dict)


def test_what_is_written_is_read(tmp_path: Path):
    path = str(tmp_path / "deep" / "whole.json")
    for whole in (
        Whole(0.5, None),
        Whole(1.0, "é", [Part("a")], {"b": Part("c", 2)}, {3: 40}),
        Whole(math.inf, ""),
    ):
        write_document(path, whole)
        assert read_document(path, Whole) == whole
    assert find_document(path, Whole) == whole
    assert find_document(f"{path}.no", Whole) is None


def test_fields_stand_in_their_order_and_unset_ones_not_at_all():
    text = encode_document(Whole(0.5, "é", [Part("a", 1)])).decode()
    assert text.index("second") < text.index("first") < text.index("parts")
    assert "by_name" not in text
    assert "é" in text
    assert text.endswith("}\n")


def test_what_is_no_such_document_is_an_error(tmp_path: Path):
    path = tmp_path / "whole.json"
    for encoded in (
        *(b"", b"[]", b"null", b"{}", b'{"second": 1}', b'{"second": "1", "first": null}'),
        b'{"second": 1, "first": null, "parts": [{"size": 1}]}',
        *(b'{"second": 1, "first": "\xff"}', b"[" * 100_000),
    ):
        path.write_bytes(encoded)
        with pytest.raises(DocumentError, match=r"whole\.json is not as it was written"):
            read_document(str(path), Whole)
