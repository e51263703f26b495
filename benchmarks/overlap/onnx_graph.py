"""ONNX files of a few nodes, written as the protocol buffers that they are.

A graph is built up node by node, and `model` gives the file's bytes. Field numbers are those of
`onnx.proto`, and so few of them are needed that this project does without the `onnx` package.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

IR_VERSION, OPSET = 8, 15
ELEMENT_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int64": 7}
VARINT, LENGTH, FIXED32 = 0, 2, 5  # kinds of fields
# Fields of AttributeProto and the value of its `type`.
FLOAT, INT, INTS = (2, 1), (3, 2), (8, 7)


class Graph:
    """Nodes in the order in which they run, and the constants that they use."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._nodes: list[bytes] = []
        self._constants: list[bytes] = []
        self._count = 0

    def constant(self, array: npt.NDArray[Any]) -> str:
        """The name under which nodes can use the array."""
        name = self._next("constant")
        array = np.ascontiguousarray(array)
        tensor = b"".join(_integer(1, length) for length in array.shape)
        tensor += _integer(2, ELEMENT_TYPES[array.dtype.name])
        self._constants.append(tensor + _text(8, name) + _bytes(9, array.tobytes()))
        return name

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """The name of what the operator makes of its inputs.

        Attributes are floats, integers or lists of integers.
        """
        output = output or self._next(operator)
        node = b"".join(_text(1, name) for name in inputs) + _text(2, output)
        node += _text(3, output) + _text(4, operator)
        node += b"".join(_bytes(5, _attribute(*named)) for named in attributes.items())
        self._nodes.append(node)
        return output

    def model(
        self, given: tuple[str, str, tuple[int, ...]], made: tuple[str, str, tuple[int, ...]]
    ) -> bytes:
        """The file of a model with one input and one output, of any number of rows.

        Args:
          given, made: name, element type, and the shape of a row.
        """
        graph = b"".join(_bytes(1, node) for node in self._nodes) + _text(2, self.name)
        graph += b"".join(_bytes(5, constant) for constant in self._constants)
        graph += _bytes(11, _value(*given)) + _bytes(12, _value(*made))
        opset = _text(1, "") + _integer(2, OPSET)
        return _integer(1, IR_VERSION) + _bytes(7, graph) + _bytes(8, opset)

    def _next(self, kind: str) -> str:
        self._count += 1
        return f"{kind.lower()}_{self._count}"


def _value(name: str, element_type: str, row: tuple[int, ...]) -> bytes:
    dimensions = [_text(2, "n"), *(_integer(1, length) for length in row)]
    shape = b"".join(_bytes(1, dimension) for dimension in dimensions)
    tensor = _integer(1, ELEMENT_TYPES[element_type]) + _bytes(2, shape)
    return _text(1, name) + _bytes(2, _bytes(1, tensor))


def _attribute(name: str, value: float | int | list[int]) -> bytes:
    if isinstance(value, float):
        field, kind = FLOAT
        encoded = _key(field, FIXED32) + struct.pack("<f", value)
    elif isinstance(value, int):
        field, kind = INT
        encoded = _integer(field, value)
    else:
        field, kind = INTS
        encoded = b"".join(_integer(field, item) for item in value)
    return _text(1, name) + encoded + _integer(20, kind)


def _text(field: int, text: str) -> bytes:
    return _bytes(field, text.encode())


def _bytes(field: int, body: bytes) -> bytes:
    return _key(field, LENGTH) + _varint(len(body)) + body


def _integer(field: int, value: int) -> bytes:
    return _key(field, VARINT) + _varint(value)


def _key(field: int, kind: int) -> bytes:
    return _varint(field << 3 | kind)


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; a negative number as the 64 bits of its complement."""
    value &= (1 << 64) - 1
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
