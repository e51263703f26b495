"""The trained net as a file: whitened to 64 numbers, its weights in int8, read by onnxruntime.

Batch normalisation is folded into the weights before it. The weights of each output are multiples
of one step, stored as int8; the graph begins by making them float32, which onnxruntime does once,
as it opens the file.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from benchmarks.overlap.net import CONTRAST_FLOOR, Convolution, CopyNet
from benchmarks.overlap.onnx_graph import Graph
from benchmarks.overlap.tiles import PLANE_PX

Float32s = npt.NDArray[np.float32]

DESCRIPTOR_SIZE = 64
MIN_LENGTH = 1e-6  # of a vector that is divided by its length


class Whitening(NamedTuple):
    """What takes the net's vectors to uncorrelated numbers of equal spread."""

    mean: Float32s  # [96]
    axes: Float32s  # [96, 64]


def whitening(vectors: Float32s) -> Whitening:
    """By the 64 principal axes of the vectors, each divided by its standard deviation.

    Args:
      vectors: float32[n, 96] of many pictures.
    """
    mean = vectors.mean(0, dtype=np.float64)
    spreads, axes = np.linalg.eigh(np.cov(vectors.T.astype(np.float64)))
    # The sign of an axis is the solver's choice: here its largest component is positive.
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
    largest = np.argsort(spreads)[::-1][:DESCRIPTOR_SIZE]
    chosen = axes[:, largest] / np.sqrt(spreads[largest].clip(1e-9))
    return Whitening(mean.astype(np.float32), chosen.astype(np.float32))


def descriptor_file(net: CopyNet, white: Whitening, *, is_rounded: bool = True) -> bytes:
    """The bytes of the ONNX file; with `is_rounded` off, float32 weights, to compare it with."""
    net.eval()
    graph = Graph("copy_descriptor")
    features = _contrast_normalised(graph, graph.add("Cast", "planes", to=1))
    for part in net.stem:
        features = _convolved(graph, features, part, is_rounded=is_rounded)
    before = features
    for part in net.residual:
        features = _convolved(graph, features, part, is_rounded=is_rounded)
    features = graph.add("Relu", graph.add("Add", before, features))
    features = _convolved(graph, features, net.last, is_rounded=is_rounded)
    weight, bias = _folded_linear(net.linear, net.norm)
    weights = _weights(graph, weight, is_rounded=is_rounded)
    flat = graph.add("Flatten", features, axis=1)
    outputs = graph.add("Gemm", flat, weights, graph.constant(bias), transB=1)
    vectors = _unit(graph, outputs)
    centered = graph.add("Sub", vectors, graph.constant(white.mean))
    projected = graph.add("MatMul", centered, graph.constant(white.axes))
    _unit(graph, projected, output="descriptors")
    square = (PLANE_PX, PLANE_PX)
    return graph.model(("planes", "uint8", square), ("descriptors", "float32", (DESCRIPTOR_SIZE,)))


def _contrast_normalised(graph: Graph, planes: str) -> str:
    """float32[n, 64, 64] to float32[n, 1, 64, 64] as the net's first lines do it."""
    planes = graph.add("Unsqueeze", planes, graph.constant(np.array([1], np.int64)))
    centered = graph.add("Sub", planes, graph.add("ReduceMean", planes, axes=[2, 3]))
    squares = graph.add("Mul", centered, centered)
    variances = graph.add("ReduceMean", squares, axes=[2, 3])
    floor = graph.constant(np.array(CONTRAST_FLOOR, np.float32))
    return graph.add("Div", centered, graph.add("Sqrt", graph.add("Add", variances, floor)))


def _convolved(graph: Graph, features: str, part: nn.Module, *, is_rounded: bool) -> str:
    assert isinstance(part, Convolution)
    convolution, norm, rectifier = part
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    scale, bias = _scale_and_bias(norm)
    weight = _array(convolution.weight) * scale.reshape(-1, 1, 1, 1)
    weights = _weights(graph, weight, is_rounded=is_rounded)
    pad, stride = convolution.kernel_size[0] // 2, convolution.stride[0]
    constants = (weights, graph.constant(bias))
    made = graph.add("Conv", features, *constants, pads=[pad] * 4, strides=[stride] * 2)
    return graph.add("Relu", made) if isinstance(rectifier, nn.ReLU) else made


def _folded_linear(linear: nn.Linear, norm: nn.BatchNorm1d) -> tuple[Float32s, Float32s]:
    scale, bias = _scale_and_bias(norm)
    return _array(linear.weight) * scale[:, None], _array(linear.bias) * scale + bias


def _scale_and_bias(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Float32s, Float32s]:
    """What a batch normalisation multiplies by, and adds, once its statistics are settled."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = 1 / np.sqrt(_array(norm.running_var) + np.float32(norm.eps))
    if norm.affine:
        scale = scale * _array(norm.weight)
    bias = -_array(norm.running_mean) * scale
    return scale, bias + _array(norm.bias) if norm.affine else bias


def _weights(graph: Graph, weight: Float32s, *, is_rounded: bool) -> str:
    """The weights as a constant, or as int8 times a step for each output."""
    if not is_rounded:
        return graph.constant(weight.astype(np.float32))
    axes = tuple(range(1, weight.ndim))
    steps = np.abs(weight).max(axis=axes, keepdims=True).clip(1e-12) / 127
    whole = graph.constant(np.rint(weight / steps).astype(np.int8))
    # A cast and a product are folded as the file is opened; DequantizeLinear would run every time.
    return graph.add(
        "Mul", graph.add("Cast", whole, to=1), graph.constant(steps.astype(np.float32))
    )


def _unit(graph: Graph, vectors: str, output: str = "") -> str:
    lengths = graph.add("ReduceL2", vectors, axes=[1])
    floor = graph.constant(np.array(MIN_LENGTH, np.float32))
    return graph.add("Div", vectors, graph.add("Max", lengths, floor), output=output)


def _array(values: Tensor) -> Float32s:
    return values.detach().to(torch.float32).numpy()
