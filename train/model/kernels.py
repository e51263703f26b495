"""Which code the layers of the model run: the one switch between what is plain and what is fast."""

from collections.abc import Callable

import torch
from torch import nn

from alignset.train.model.cpu_kernels import use_cpu_kernels
from alignset.train.model.gpu_kernels import fused_mask, use_gpu_kernels

PLAIN, CPU, GPU = "plain", "cpu", "gpu"


def kernels_of(device: str, *, compiled: bool = False) -> str:
    """Those that are fastest on a device, "cpu" or "cuda". Code that is compiled should have few
    operations, as on a GPU."""
    return CPU if device == "cpu" and not compiled else GPU


def use_kernels(model: nn.Module, kernels: str) -> None:
    """Has the layers of an AlignModel, or of its image tower, compute the same by other code, in
    place. Parameters and their names stay.

    Args:
      kernels: PLAIN leaves the layers as transformers and `train/model/batch_norm.py` have them;
        CPU and GPU are for these devices.
    """
    if kernels == CPU:
        use_cpu_kernels(model)
    elif kernels == GPU:
        use_gpu_kernels(model)


def attention_mask(kernels: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """What makes of int64[b, t], 1 for a token, the mask that these kernels take."""
    return fused_mask if kernels == GPU else lambda mask: mask
