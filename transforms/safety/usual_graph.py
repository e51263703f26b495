"""The usual classifier's network before onnxruntime opens it: its numbers for less, or smaller.

These edits fit one known file, open_nsfw's. They are made on the protocol buffers as they lie
there, so that the `onnx` package is not needed. Field numbers are those of `onnx.proto`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

_VARINT, _LENGTH = 0, 2  # kinds of fields; the file has others in its weights alone
_GRAPH = 7  # of a model
_NODE, _INPUT = 1, 11  # of a graph
_READS, _MAKES, _OPERATOR, _ATTRIBUTE = 1, 2, 4, 5  # of a node
_NAME, _INTS, _TYPE, _TYPE_OF_INTS = 1, 8, 20, 7  # of an attribute
_FLOAT32 = 1

Fields = list[tuple[int, "int | bytes"]]


class _Node:
    """An operator of the graph, and the lists of integers that set it."""

    def __init__(self, operator: str, reads: list[str], makes: str, **ints: list[int]) -> None:
        self.operator, self.reads, self.makes, self.ints = operator, reads, makes, ints
        self._others: Fields = []

    @classmethod
    def read(cls, encoded: bytes) -> _Node:
        node = cls("", [], "")
        for number, value in _fields(encoded):
            if number == _OPERATOR:
                node.operator = _text(value)
            elif number == _READS:
                node.reads.append(_text(value))
            elif number == _MAKES:
                node.makes = _text(value)
            elif number == _ATTRIBUTE and (ints := _all(inner := _fields(value), _INTS)):
                node.ints[_text(*_all(inner, _NAME))] = [int(number) for number in ints]
            else:
                node._others.append((number, value))
        return node

    def written(self) -> bytes:
        fields: Fields = [(_READS, name.encode()) for name in self.reads]
        fields += [(_MAKES, self.makes.encode()), (_OPERATOR, self.operator.encode())]
        for name, ints in self.ints.items():
            attribute: Fields = [(_NAME, name.encode()), *((_INTS, value) for value in ints)]
            fields.append((_ATTRIBUTE, _written([*attribute, (_TYPE, _TYPE_OF_INTS)])))
        return _written(fields + self._others)


class _Network:
    """A model's file, with its graph in parts."""

    def __init__(self, model: bytes) -> None:
        self._file = _fields(model)
        (graph,) = _all(self._file, _GRAPH)
        self.graph = _fields(graph)
        self.nodes = [_Node.read(bytes(node)) for node in _all(self.graph, _NODE)]

    def written(self) -> bytes:
        graph = _replaced(self.graph, _NODE, [node.written() for node in self.nodes])
        return _written(_replaced(self._file, _GRAPH, [_written(graph)]))


def without_unread_sums(model: bytes) -> bytes:
    """The same model without what it computes and never reads: 0.93 of its time, the same bits.

    Stages 1 to 3 begin with convolutions of 1x1 px that read every second row and column of the
    sum before them. Only those are computed here: the 3x3 convolution before takes their stride,
    and the way around it is thinned out. Of 1,069 million products an image 94 go.
    """
    network = _Network(model)
    maker = {node.makes: node for node in network.nodes}
    readers = [
        node
        for node in network.nodes
        if (node.ints.get("kernel_shape"), node.ints.get("strides")) == ([1, 1], [2, 2])
    ]
    for read in dict.fromkeys(node.reads[0] for node in readers):
        added = maker[maker[read].reads[0]]
        (branch,) = (name for name in added.reads if maker[name].operator == "Conv")
        (around,) = (name for name in added.reads if name != branch)
        maker[maker[maker[branch].reads[0]].reads[0]].ints["strides"] = [2, 2]
        thin = _Node("MaxPool", [around], f"{around}/thin", kernel_shape=[1, 1], strides=[2, 2])
        added.reads = [branch, thin.makes]
        network.nodes.insert(network.nodes.index(added), thin)
    for node in readers:
        node.ints["strides"] = [1, 1]
    return network.written()


def for_size(model: bytes, size: int) -> bytes:
    """The same network, with its weights, for pictures of another size.

    Args:
      size: px, a multiple of 32: a place before the last pooling stands for so many.
    """
    network = _Network(model)
    (pooling,) = (node for node in network.nodes if node.operator == "AveragePool")
    pooling.ints["kernel_shape"] = [size // 32] * 2
    (given,) = _all(network.graph, _INPUT)
    name = _text(*_all(_fields(given), 1))
    network.graph = _replaced(network.graph, _INPUT, [_pictures(name, size)])
    return network.written()


def _pictures(name: str, size: int) -> bytes:
    """An input of float32[n, size, size, 3]."""
    sides = [_written([(2, b"n")]), *(_written([(1, side)]) for side in (size, size, 3))]
    tensor: Fields = [(1, _FLOAT32), (2, _written([(1, side) for side in sides]))]
    return _written([(1, name.encode()), (2, _written([(1, _written(tensor))]))])


def _all(fields: Fields, number: int) -> list[int | bytes]:
    return [value for has, value in fields if has == number]


def _replaced(fields: Fields, number: int, values: Iterable[bytes]) -> Fields:
    others = [field for field in fields if field[0] != number]
    return others + [(number, value) for value in values]


def _text(value: int | bytes) -> str:
    assert isinstance(value, bytes)
    return value.decode()


def _fields(encoded: int | bytes) -> Fields:
    """Number and value of each field of a protocol buffer."""
    assert isinstance(encoded, bytes)
    return list(_each(encoded))


def _each(encoded: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(encoded):
        key, at = _integer(encoded, at)
        value, at = _integer(encoded, at)
        if key & 7 == _VARINT:
            yield key >> 3, value
        else:
            assert key & 7 == _LENGTH, "other kinds are in attributes that this file has not"
            yield key >> 3, encoded[at : at + value]
            at += value


def _integer(encoded: bytes, at: int) -> tuple[int, int]:
    """An integer of seven bits a byte, the lowest first, and where it ends."""
    value = shift = 0
    while encoded[at] & 0x80:
        value |= (encoded[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | encoded[at] << shift, at + 1


def _written(fields: Fields) -> bytes:
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts += [_seven_bits(number << 3 | _VARINT), _seven_bits(value)]
        else:
            parts += [_seven_bits(number << 3 | _LENGTH), _seven_bits(len(value)), value]
    return b"".join(parts)


def _seven_bits(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
