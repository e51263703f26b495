"""Networks that are shown images: their files, and ONNX in onnxruntime, run by the calling
thread."""

from __future__ import annotations

import hashlib
from typing import Any

from alignset.transforms.storage.files import open_to_read

GPU = "CUDAExecutionProvider"


def file_of_run(path: str, sha256: str) -> bytes:
    """A file that each worker must have alike.

    Raises:
      ValueError: it is another one.
    """
    with open_to_read(path) as source:
        content = source.read()
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise ValueError(
            f"{path} has the SHA-256 {found}, and the run was started with {sha256}; give each "
            "worker the same file"
        )
    return content


def open_session(model_bytes: bytes, *, may_use_gpu: bool = False) -> Any:
    """Opens a network's file.

    Raises:
      Exception: it is not a network; onnxruntime has a class of its own for each kind of fault.
    """
    import onnxruntime  # 0.1 s, which a run without networks has no use for

    options = onnxruntime.SessionOptions()
    # Workers have threads of their own: one image after the other on each core takes the least
    # time, and one thread adds in one order.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong is raised
    providers: list[Any] = ["CPUExecutionProvider"]
    if may_use_gpu and GPU in onnxruntime.get_available_providers():
        providers.insert(0, (GPU, {"use_tf32": "0"}))  # whose products have 10 bits
    return onnxruntime.InferenceSession(model_bytes, options, providers=providers)
