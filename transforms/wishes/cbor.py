"""CBOR, as far as small maps of texts need it.

Source: RFC 8949.
"""

from __future__ import annotations

from typing import Any

_DEEPEST = 16
_BREAK = object()


def decode_cbor(data: bytes) -> Any:
    """The first value in these bytes: texts, numbers, lists, dicts; None for what is none of these.

    Of a map is kept what has a text or a number as its key: the text of a map that is a key may
    double with each map that it lies in.

    Raises:
      ValueError: they are no CBOR, end too early, or are nested too deep.
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
        if depth > _DEEPEST:
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
            taken = self._take(number)
            return taken if kind == 2 else taken.decode("utf-8", "replace")
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
