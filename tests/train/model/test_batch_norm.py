"""Ghost BatchNorm: each group of images by itself, and a step's groups weigh one momentum."""

import pytest
import torch
from torch import nn

from alignset.train.model.tower_layers import frozen_statistics, use_ghost_groups
from tests.support.closeness import close

pytestmark = pytest.mark.numeric


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
    return lambda seed=0: pictures(seed).to(device)


def pictures(seed: int) -> torch.Tensor:
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


def test_frozen_statistics_change_the_running_ones_alone(norm_of_groups, images):
    model, x = norm_of_groups(4), images()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with frozen_statistics(model):
        frozen = model(x)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(frozen, model(x))
    assert not torch.equal(model[0].running_mean, before["0.running_mean"])


def test_gradients_are_those_of_each_group_by_itself(norm_of_groups, images):
    model, weights = norm_of_groups(5), images(seed=1)  # the last of three groups has two images
    gradients, x = [], images().requires_grad_()
    for together in (True, False):
        parts = [x] if together else x.split(5)
        y = torch.cat([model(part) for part in parts])
        gradients.append(torch.autograd.grad((y * weights).sum(), [x, *model.parameters()]))
    for ours, expected in zip(*gradients, strict=True):
        assert close(ours, expected, terms=2 * TERMS)
    assert gradients[0][0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kind", ["of a larger map", "rows and columns exchanged", "expanded"])
def test_memory_of_any_kind(norm_of_groups, images, kind: str):
    model, x = norm_of_groups(5), images().contiguous()
    if kind == "of a larger map":
        strided = nn.functional.pad(x, (1, 2, 3, 0))[:, :, 3:, 1:-2]
    elif kind == "rows and columns exchanged":
        strided = x.mT.contiguous().mT
    else:
        x = x[:, :, :, :1].repeat(1, 1, 1, 4)
        strided = x[:, :, :, :1].expand_as(x)
    assert close(model(strided), model(x), terms=TERMS)


def test_a_group_of_one_value_is_refused(norm_of_groups, images):
    model = norm_of_groups(1)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        model(images()[:, :, :1, :1])
    assert model[0].running_var.isfinite().all()


def test_evaluation_uses_the_running_statistics(norm_of_groups, images):
    model, x = norm_of_groups(4), images()
    model[0].running_mean.fill_(2.0)
    model.eval()
    plain = nn.BatchNorm2d(3).to(x.device).eval()
    plain.load_state_dict(model[0].state_dict())
    assert close(model(x), plain(x), terms=2)  # a product and a sum
