"""Whether a C2PA manifest store allows training and data mining. No signature is checked: a wish
counts, whoever has written it.

Source: C2PA technical specification 1.4 (`c2pa.training-mining`); CAWG training and data mining
assertion 1.1 (`cawg.training-mining`); ISO/IEC 19566-5 (JUMBF).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from alignset.transforms.wishes.cbor import decode_cbor

_LABELS = (b"c2pa.training-mining", b"cawg.training-mining")
_WORD = b"training-mining"  # in each of them
# Uses that are training or mining; inference is neither.
_USES = ("data_mining", "ai_training", "ai_generative_training")
# What is constrained needs leave, which nobody has given.
_REFUSALS = ("notallowed", "constrained")
_MOST_BOXES, _DEEPEST = 10_000, 8
_MOST_BYTES = 1 << 16  # of all assertions, which have some hundred each; CBOR takes 1 us a byte


def forbids_training(store: bytes) -> bool:
    """Whether an assertion in a manifest store, which is a JUMBF superbox, does not allow training
    or data mining. The manifests of ingredients count too, since these are in the picture."""
    if _WORD not in store:
        return False
    waiting, left, unread = [(0, len(store), 0)], _MOST_BOXES, _MOST_BYTES
    while waiting:
        begin, end, depth = waiting.pop()
        children = []
        for child in boxes(store, begin, end):
            left -= 1
            if left < 0:
                return False
            children.append(child)
        label = _label(store, children)
        if label.partition(b"__")[0] in _LABELS:
            unread -= sum(stop - at for _, at, stop in children)
            if unread < 0:
                return False
            if any(_refuses(store, child) for child in children):
                return True
        elif depth < _DEEPEST:
            waiting += [(at, stop, depth + 1) for kind, at, stop in children if kind == b"jumb"]
    return False


def boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, begin and end of its content) of each box; one that claims to be longer ends where
    what it lies in does."""
    while at + 8 <= end:
        size, head = int.from_bytes(data[at : at + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        stop = min(at + size, end) if size else end
        if stop < at + head:
            return
        yield data[at + 4 : at + 8], at + head, stop
        at = stop


def _label(data: bytes, children: list[tuple[bytes, int, int]]) -> bytes:
    """What the description box, which comes first, calls a superbox: behind its UUID and flags."""
    if not children or children[0][0] != b"jumd":
        return b""
    _, begin, end = children[0]
    return data[begin + 17 : min(end, begin + 17 + 256)].partition(b"\0")[0]


def _refuses(data: bytes, child: tuple[bytes, int, int]) -> bool:
    kind, begin, end = child
    if kind not in (b"cbor", b"json"):
        return False
    try:
        content = data[begin:end]
        assertion = decode_cbor(content) if kind == b"cbor" else json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(assertion, dict) and any(map(_is_refusal, _entries(assertion)))


def _entries(assertion: dict[str, Any]) -> list[tuple[str, Any]]:
    """By use; the first writers put them at the top."""
    entries = assertion.get("entries")
    return list((entries if isinstance(entries, dict) else assertion).items())


def _is_refusal(entry: tuple[str, Any]) -> bool:
    name, value = entry
    use = value.get("use") if isinstance(value, dict) else value
    return name.rpartition(".")[2] in _USES and str(use).lower() in _REFUSALS
