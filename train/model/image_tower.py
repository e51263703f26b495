"""transformers' image tower: its blocks, and the weights that it begins with."""

import math
from collections.abc import Iterator

import torch
from torch import nn
from transformers import AlignVisionModel
from transformers.models.align.modeling_align import AlignVisionBlock


def tower_blocks(vision_model: AlignVisionModel) -> Iterator[AlignVisionBlock]:
    for block in vision_model.encoder.blocks:
        assert isinstance(block, AlignVisionBlock)
        yield block


class Mean2d(nn.Module):
    """AdaptiveAvgPool2d(1). A sum's gradient is a view, and a mean's as large as the map: 5 % of a
    step on a CPU."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # float[b, c, h, w] -> float[b, c, 1, 1]
        return x.sum(dim=(2, 3), keepdim=True) / (x.shape[2] * x.shape[3])


def use_sums(vision_model: AlignVisionModel) -> None:
    """Has squeeze-excite take its means by Mean2d, in place."""
    for block in tower_blocks(vision_model):
        block.squeeze_excite.set_submodule("squeeze", Mean2d())


@torch.no_grad()
def draw_first_weights(vision_model: AlignVisionModel) -> None:
    """Those of EfficientNet's own code, of the stem and of squeeze-excite too: normal, of variance
    2 / fan-out, where transformers has a standard deviation of 0.02 for all. A depthwise kernel's
    fan-out is its area alone.

    Source: Tan and Le, 2019, `conv_kernel_initializer` of the code.
    """
    for module in vision_model.modules():
        if isinstance(module, nn.Conv2d):
            height, width = module.kernel_size
            fan_out = height * width * module.out_channels // module.groups
            module.weight.normal_(0.0, math.sqrt(2 / fan_out))
            if module.bias is not None:
                module.bias.zero_()
