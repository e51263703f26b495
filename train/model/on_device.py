"""Inputs on the device that computes with them."""

import functools

import torch

from alignset.train.data.inputs import Inputs


def on_device(inputs: Inputs, device: torch.device) -> Inputs:
    """Copies of its tensors; on a GPU they are made while it computes what it was asked for
    before, where the tensors are pinned."""
    if device.type != "cuda" or inputs.pixels.is_cuda:
        return inputs.mapped(lambda tensor: tensor.to(device))
    copying, computing = _copy_stream(device), torch.cuda.current_stream(device)
    with torch.cuda.stream(copying):
        copies = inputs.mapped(lambda tensor: tensor.to(device, non_blocking=True))
    computing.wait_stream(copying)

    def used(tensor: torch.Tensor) -> torch.Tensor:
        tensor.record_stream(computing)  # its memory is not given away while it is computed with
        return tensor

    return copies.mapped(used)


@functools.cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # it has no types
