"""The optimisers: LAMB against its formula, what is exempt, and the learning rate by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from alignset.train.optim.optimizer import learning_rate, make_optimizer, set_learning_rate
from alignset.train.presets import TINY
from tests.support.closeness import close
from tests.support.small_training import SETTINGS, small_model

pytestmark = pytest.mark.numeric

LAMB = replace(SETTINGS, optimizer="lamb", weight_decay=0.1, learning_rate=0.01)


@pytest.mark.parametrize(("name", "beta2"), [("lamb", 0.999), ("adamw", 0.98)])
def test_what_decays_and_by_which_betas(name: str, beta2: float):
    model, settings = small_model(), replace(LAMB, optimizer=name)
    decayed, exempt = groups = make_optimizer(model, settings).param_groups
    assert (decayed["weight_decay"], exempt["weight_decay"]) == (0.1, 0.0)
    names = {p: name for name, p in model.named_parameters()}
    free = {names[p] for p in exempt["params"]}
    assert "log_temperature" in free
    assert {"bias"} <= {name.rsplit(".", 1)[-1] for name in free}
    assert not any(
        name.endswith("weight") and "orm" not in name and "bn" not in name for name in free
    )
    assert min(p.ndim for p in decayed["params"]) == 2
    trained = {p for p in model.parameters() if p.requires_grad}
    assert {*decayed["params"], *exempt["params"]} == trained
    assert [group["betas"] for group in groups] == [(0.9, beta2)] * 2
    others = make_optimizer(model, replace(settings, beta1=0.8, beta2=0.95)).param_groups
    assert [group["betas"] for group in others] == [(0.8, 0.95)] * 2


@pytest.mark.parametrize("decay", [0.1, 0.0])
def test_lamb_by_its_formula(device, decay: float):
    # You et al., 2020, algorithm 2: Adam's direction plus decay, as long as the weights times lr.
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3).double().to(device)
    optimizer = make_optimizer(model, replace(LAMB, weight_decay=decay))
    kept = {name: p.detach().clone() for name, p in model.named_parameters()}
    moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in kept.items()}
    for step in range(1, 6):
        for name, p in model.named_parameters():
            p.grad = torch.randn_like(p)
            w, g = kept[name], p.grad
            m, v = (old.mul(b) for old, b in zip(moments[name], (0.9, 0.999), strict=True))
            moments[name] = m, v = m + 0.1 * g, v + 0.001 * g * g
            direction = (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-6)
            if name == "weight":
                direction += decay * w
                direction *= w.norm() / direction.norm()
            kept[name] = w - 0.01 * direction
        optimizer.step()
    for name, p in model.named_parameters():
        assert close(p, kept[name], terms=5 * 20), name  # 5 steps, each with norms of 12 numbers


def test_lamb_moves_weights_of_zero_and_none_without_a_gradient(device):
    model = torch.nn.Linear(4, 3, device=device)
    torch.nn.init.zeros_(model.weight)
    optimizer = make_optimizer(model, replace(LAMB, weight_decay=0.0))
    model.weight.grad, model.bias.grad = (
        torch.ones(3, 4, device=device),
        torch.ones(3, device=device),
    )
    optimizer.step()
    assert close(model.weight, np.full((3, 4), -0.01), terms=3 * 4)
    untouched = torch.nn.Linear(4, 3, device=device)
    before = untouched.weight.clone()
    optimizer = make_optimizer(untouched, replace(LAMB, weight_decay=0.0))
    untouched.weight.grad = torch.zeros(3, 4, device=device)
    optimizer.step()
    assert torch.equal(untouched.weight, before)


def test_learning_rate_by_hand():
    settings = replace(TINY, learning_rate=1.0, warmup_steps=4, steps=8)
    rates = [learning_rate(step, settings) for step in range(1, 9)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 0.8, 0.6, 0.4, 0.2])
    cosine = [learning_rate(step, replace(settings, schedule="cosine")) for step in range(1, 9)]
    assert cosine[:4] == rates[:4]
    halves = [(1 + math.cos(math.pi * part)) / 2 for part in (0.2, 0.4, 0.6, 0.8)]
    assert cosine[4:] == pytest.approx(halves)
    assert learning_rate(1, replace(settings, warmup_steps=0)) == pytest.approx(8 / 9)
    assert learning_rate(8, replace(settings, warmup_steps=100)) == 1.0
    optimizer = make_optimizer(torch.nn.Linear(2, 2), settings)
    set_learning_rate(optimizer, 2, settings)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]
