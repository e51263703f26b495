"""The image tower's initialisation; BatchNorm by groups; activations computed twice."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from alignset.train.model.dual_encoder import new_align
from alignset.train.model.tower_layers import tower_blocks, use_ghost_groups
from alignset.train.step import step_gradients
from tests.support.closeness import close, largest, summed_terms
from tests.support.small_training import (
    SETTINGS,
    in_float64,
    small_inputs,
    small_model,
    small_tokenizer,
)

pytestmark = pytest.mark.numeric


@pytest.mark.parametrize("micro_batch_size", [6, 3])
def test_activations_that_are_computed_twice_change_nothing(device, micro_batch_size: int):
    tokenizer = small_tokenizer()
    settings = replace(SETTINGS, micro_batch_size=micro_batch_size, text_dropout=0.3, drop_path=0.4)
    twice = replace(settings, checkpoint_activations=True)
    after = []
    with in_float64():
        for numbers in (settings, twice):
            model = small_model(numbers, vocabulary_size=len(tokenizer))
            model.double().to(device).train()
            texts = small_inputs(tokenizer).captions
            parts = [
                small_inputs(tokenizer, texts[i : i + micro_batch_size], numbers)
                for i in range(0, 6, micro_batch_size)
            ]
            step_gradients(model, iter(parts), numbers, 1)
            gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
            after.append(copy.deepcopy(gradients | dict(model.named_buffers())))
    assert after[0].keys() == after[1].keys()
    terms, scale = 2 * summed_terms(model), largest(after[0].values())
    for name, value in after[0].items():
        assert close(value, after[1][name], terms=terms, scale=scale), name


def test_first_weights_are_those_of_efficientnets_code():
    """By the sizes of each kind of kernel; squeeze-excite's second has few inputs."""
    torch.manual_seed(4)
    tower = new_align(replace(SETTINGS, image_tower="b0"), 100).vision_model
    block = list(tower_blocks(tower))[5]
    depthwise = block.depthwise_conv.depthwise_conv
    kernels = {
        tower.embeddings.convolution: 3 * 3 * 32,
        block.expansion.expand_conv: block.expansion.expand_conv.out_channels,
        depthwise: depthwise.kernel_size[0] ** 2,
        block.squeeze_excite.expand: block.squeeze_excite.expand.out_channels,
        block.projection.project_conv: block.projection.project_conv.out_channels,
    }
    for kernel, fan_out in kernels.items():
        deviation = kernel.weight.std(correction=0).item()
        spread = 4 / (2 * kernel.weight.numel()) ** 0.5
        assert deviation == pytest.approx((2 / fan_out) ** 0.5, rel=spread)
    assert not block.squeeze_excite.reduce.bias.any()


@pytest.fixture
def norm_of_groups(device):
    def make(group_size: int, *, batch_size: int = 12, momentum: float = 0.1) -> nn.Module:
        model = nn.Sequential(nn.BatchNorm2d(3))
        nn.init.uniform_(model[0].weight)
        nn.init.uniform_(model[0].bias)
        names = list(model.state_dict())
        sizes = {"group_size": group_size, "batch_size": batch_size}
        use_ghost_groups(model, **sizes, momentum=momentum)
        assert list(model.state_dict()) == names
        return model.to(device)

    return make


TERMS = 2 * 12 * 5 * 4  # the mean and the variance of at most all pixels of a channel


@pytest.fixture
def images(device):
    return lambda seed=0: scaled_noise(seed).to(device)


def scaled_noise(seed: int) -> torch.Tensor:
    noise = torch.randn(12, 3, 5, 4, generator=torch.Generator().manual_seed(seed))
    return (noise * torch.arange(1, 13)[:, None, None, None]).to(memory_format=torch.channels_last)


def test_each_group_is_normalised_by_itself(norm_of_groups, images):
    model, x = norm_of_groups(4), images()
    y = model(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    norm = model[0]
    for group, normalised in zip(x.split(4), y.split(4), strict=True):
        var, mean = torch.var_mean(group, dim=(0, 2, 3), keepdim=True, correction=0)
        scaled = (group - mean) / (var + norm.eps).sqrt()
        expected = scaled * norm.weight[:, None, None] + norm.bias[:, None, None]
        assert close(normalised, expected, terms=TERMS)


@pytest.mark.parametrize("group_size", [4, 12, 16])
def test_running_statistics_take_a_step_in_with_the_momentum(
    norm_of_groups, images, group_size: int
):
    model, x = norm_of_groups(group_size), images()
    model(x)
    groups = x.split(group_size)
    mean = torch.stack([g.mean(dim=(0, 2, 3)) for g in groups]).mean(0)
    var = torch.stack([g.var(dim=(0, 2, 3)) for g in groups]).mean(0)
    # Of the step's groups the last weighs a little more: up to the momentum's share of it.
    assert torch.allclose(model[0].running_mean, 0.1 * mean, atol=0.01)
    assert torch.allclose(model[0].running_var, 0.9 + 0.1 * var, rtol=0.1)
    # A step of all equal groups, which shows that they weigh 0.1 together and not each.
    same = x[:4].repeat(3, 1, 1, 1)
    model = norm_of_groups(4)
    model(same)
    expected = 0.9 + 0.1 * x[:4].var(dim=(0, 2, 3))
    assert close(model[0].running_var, expected, terms=TERMS)
