"""Small classifiers as ONNX files, written by hand: the package that writes such is not needed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# What describes `mean_colour`: the share of red is how unsafe an image is.
RED_IS_UNSAFE = {
    "input": "picture",
    "layout": "NHWC",
    "size": 8,
    "channels": "RGB",
    "mean": [0, 0, 0],
    "scale": [1 / 255, 1 / 255, 1 / 255],
    "output": "scores",
    "unsafe_classes": [0],
}


def mean_colour(
    shape: Sequence[int | str] = ("n", 8, 8, 3), axes: Sequence[int] = (1, 2), kind: int = 1
) -> bytes:
    """A model whose scores are the means of its input over some axes, float32[n, 3].

    Args:
      shape: of the input; a name stands for any number. kind: ONNX's number of its type.
    """
    attributes = [
        _text(1, "axes") + b"".join(_number(8, axis) for axis in axes) + _number(20, 7),
        _text(1, "keepdims") + _number(3, 0) + _number(20, 2),
    ]
    node = _text(1, "picture") + _text(2, "scores") + _text(4, "ReduceMean")
    node += b"".join(_part(5, attribute) for attribute in attributes)
    given = _value("picture", shape, kind)
    made = _value("scores", [shape[0], 3], kind)
    graph = _part(1, node) + _text(2, "graph") + _part(11, given) + _part(12, made)
    return _number(1, 8) + _part(7, graph) + _part(8, _text(1, "") + _number(2, 13))


def write_model(folder: Path, model: bytes | None = None, **described: Any) -> Path:
    """FILE.onnx, and FILE.json: `RED_IS_UNSAFE` with what differs. Returns the model's path."""
    path = folder / "model.onnx"
    path.write_bytes(mean_colour() if model is None else model)
    path.with_suffix(".json").write_text(json.dumps(RED_IS_UNSAFE | described))
    return path


def _varint(number: int) -> bytes:
    low, high = number & 127, number >> 7
    return bytes([low | 128]) + _varint(high) if high else bytes([low])


def _number(field: int, number: int) -> bytes:
    return _varint(field << 3) + _varint(number)


def _part(field: int, body: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(body)) + body


def _text(field: int, text: str) -> bytes:
    return _part(field, text.encode())


def _value(name: str, shape: Sequence[int | str], kind: int) -> bytes:
    sides = [_text(2, side) if isinstance(side, str) else _number(1, side) for side in shape]
    tensor = _number(1, kind) + _part(2, b"".join(_part(1, side) for side in sides))
    return _text(1, name) + _part(2, _part(1, tensor))
