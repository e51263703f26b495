"""Whether a C2PA manifest store allows training and data mining. An opt-out counts,
whoever has written it: no signature is checked.

Source: C2PA technical specification 1.4 (`c2pa.training-mining`); CAWG training and data mining
assertion 1.1 (`cawg.training-mining`); ISO/IEC 19566-5 (JUMBF); RFC 8949 (CBOR).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

_LABELS = (b"c2pa.training-mining", b"cawg.training-mining")
_WORD = b"training-mining"  # in each of them
# Uses that are training or mining; inference is neither.
_USES = ("data_mining", "ai_training", "ai_generative_training")
# What is constrained needs leave, which nobody has given.
_REFUSALS = ("notallowed", "constrained")
_MOST_BOXES, _DEEPEST = 10_000, 8
_DEEPEST_CBOR, _BREAK = 16, object()
_MOST_BYTES = 1 << 16  # of all assertions, which have some hundred each; CBOR takes 1 us a byte


def forbids_training(store: bytes) -> bool:
    """Whether an assertion in a manifest store, which is a JUMBF superbox, does not allow training
    or data mining. The manifests of ingredients count too, since these are in the image."""
    if _WORD not in store:
        return False
    waiting, boxes_left, bytes_left = [(0, len(store), 0)], _MOST_BOXES, _MOST_BYTES
    while waiting:
        begin, end, depth = waiting.pop()
        children = []
        for child in boxes(store, begin, end):
            boxes_left -= 1
            if boxes_left < 0:
                return False
            children.append(child)
        label = _label(store, children)
        if label.partition(b"__")[0] in _LABELS:
            bytes_left -= sum(stop - at for _, at, stop in children)
            if bytes_left < 0:
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
    """The label of a superbox in its description box, which comes first: behind its UUID and
    flags."""
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
    if not isinstance(assertion, dict):
        return False
    entries = assertion.get("entries")
    if not isinstance(entries, dict):
        entries = assertion  # the first writers put them at the top
    return any(
        name.rpartition(".")[2] in _USES
        and str(value.get("use") if isinstance(value, dict) else value).lower() in _REFUSALS
        for name, value in entries.items()
    )


def decode_cbor(data: bytes) -> Any:
    """The first value in these bytes: texts, numbers, lists, dicts; None for what is none of these.

    A map keeps entries with a text or a number as key: the text of a map as key may double with
    each map around it.

    Raises:
      ValueError: they are not CBOR, end too early, or are nested too deep.
    """
    return _Reader(data).value(0)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def _take(self, size: int) -> bytes:
        if size > len(self._data) - self._at:
            raise ValueError("it ends too early")
        self._at += size
        return self._data[self._at - size : self._at]

    def value(self, depth: int) -> Any:
        """The next value; `_BREAK` at the end of what has no length of its own."""
        if depth > _DEEPEST_CBOR:
            raise ValueError("it is nested too deep")
        (initial,) = self._take(1)
        kind, low = initial >> 5, initial & 31
        if initial == 0xFF:
            return _BREAK
        if low == 31:
            return self._endless(kind, depth)
        if low > 27:
            raise ValueError("a length that there is not")
        number = low if low < 24 else int.from_bytes(self._take(1 << (low - 24)), "big")
        if kind < 2:
            return number if kind == 0 else -1 - number
        if kind < 4:
            string = self._take(number)
            return string if kind == 2 else string.decode("utf-8", "replace")
        if kind < 6:
            many = range(min(number << (kind - 4), len(self._data)))  # each takes a byte
            return _joined(kind, [self._item(depth) for _ in many])
        if kind == 6:  # a tag
            return self._item(depth)
        return {20: False, 21: True}.get(number) if low < 24 else None

    def _item(self, depth: int) -> Any:
        value = self.value(depth + 1)
        if value is _BREAK:
            raise ValueError("it ends where nothing has begun")
        return value

    def _endless(self, kind: int, depth: int) -> Any:
        if kind not in (2, 3, 4, 5):
            raise ValueError("this has a length")
        items = []
        while (value := self.value(depth + 1)) is not _BREAK:
            items.append(value)
        if kind > 3:
            return _joined(kind, items)
        empty: Any = b"" if kind == 2 else ""
        if not all(isinstance(item, type(empty)) for item in items):
            raise ValueError("a string of other things")
        return empty.join(items)


def _joined(kind: int, items: list[Any]) -> Any:
    if kind == 4:
        return items
    pairs = zip(items[::2], items[1::2], strict=False)
    return {str(name): value for name, value in pairs if isinstance(name, str | int)}
