"""The loss and optimisers by their formulas, and a step that one bad batch cannot spoil."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from alignset.train.errors import Diverged
from alignset.train.loss import contrastive_loss
from alignset.train.optim.optimizer import (
    GuardedStep,
    learning_rate,
    make_optimizer,
    set_learning_rate,
)
from alignset.train.presets import TINY
from alignset.train.step import step_gradients
from tests.support.closeness import close
from tests.support.small_training import SETTINGS, TEXTS, small_inputs, small_model, small_tokenizer

pytestmark = pytest.mark.numeric


TERMS = 100  # products of 5 numbers, sums over at most 7 rows and columns, in both directions


def test_two_pairs_by_hand(device):
    # Cosines: image 0 with texts 0, 1 is 1, 0; image 1 is 0.6, 0.8. Temperature 0.5 doubles them.
    images = torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=torch.float64, device=device)
    texts = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64, device=device)
    # Without smoothing a softmax of two costs log(1 + exp(other - right)).
    image_to_text = (math.log1p(math.exp(0 - 2)) + math.log1p(math.exp(1.2 - 1.6))) / 2
    text_to_image = (math.log1p(math.exp(1.2 - 2)) + math.log1p(math.exp(0 - 1.6))) / 2
    loss = contrastive_loss(images, texts, torch.tensor(0.5, device=device), label_smoothing=0.0)
    assert close(loss, (image_to_text + text_to_image) / 2, terms=TERMS)
    # Smoothing 0.1 over two classes moves 0.05 of the target to the wrong one: it adds 0.05 times
    # (right - other), averaged over both directions: (2, 0.4) and (0.8, 1.6).
    added = 0.05 * ((2 + 0.4) / 2 + (0.8 + 1.6) / 2) / 2
    smoothed = contrastive_loss(
        images, texts, torch.tensor(0.5, device=device), label_smoothing=0.1
    )
    assert close(smoothed, loss.item() + added, terms=TERMS)


def numpy_loss(images, texts, temperature, smoothing):
    scores = images @ texts.T / temperature
    n = len(scores)
    target = np.full((n, n), smoothing / n) + np.eye(n) * (1 - smoothing)
    total = 0.0
    for s in (scores, scores.T):
        log_softmax = s - np.log(np.exp(s).sum(axis=1, keepdims=True))
        total -= (target * log_softmax).sum(axis=1).mean()
    return total / 2


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("temperature", [1.0, 0.07])
def test_equals_numpy_in_float64(device, smoothing, temperature):
    images, texts = (unit_rows(7, seed=seed).double().to(device) for seed in (1, 2))
    loss = contrastive_loss(
        images, texts, torch.tensor(temperature).double().to(device), label_smoothing=smoothing
    )
    expected = numpy_loss(
        images.cpu().numpy(), texts.cpu().numpy(), np.float32(temperature), smoothing
    )
    # Both add up products of 5 numbers, times 1 / temperature, and 7 exponentials.
    assert close(loss, expected, terms=TERMS, scale=1 / temperature)


@pytest.mark.parametrize(("temperature", "bias"), [(0.1, -10.0), (1.0, 0.0), (0.05, -3.0)])
@pytest.mark.parametrize("rows", [3, 512])
def test_the_sigmoid_of_each_pair_equals_numpy(device, temperature, bias, rows, monkeypatch):
    """SigLIP's: each of the n * n scores has its own label, 1 or -1."""
    monkeypatch.setattr("alignset.train.loss.ROWS_AT_ONCE", rows)
    images, texts = (unit_rows(7, seed=seed).double().to(device) for seed in (1, 2))
    scale = torch.tensor([temperature, bias], dtype=torch.float64, device=device)
    scores = images.cpu().numpy() @ texts.cpu().numpy().T / temperature + bias
    expected = np.log1p(np.exp(-scores * (2 * np.eye(7) - 1))).sum() / 7
    loss = contrastive_loss(images, texts, *scale)
    assert close(loss, expected, terms=TERMS * 7, scale=1 / temperature)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_rows_that_are_scored_part_by_part_change_nothing(device, rows: int, monkeypatch):
    whole, parts = leaves(device), leaves(device)
    contrastive_loss(*whole).backward()
    monkeypatch.setattr("alignset.train.loss.ROWS_AT_ONCE", rows)
    loss = contrastive_loss(*parts)
    loss.backward()
    assert close(loss, contrastive_loss(*leaves(device)), terms=TERMS)
    for of_parts, expected in zip(parts, whole, strict=True):
        assert close(of_parts.grad, expected.grad, terms=TERMS)


def leaves(device: torch.device) -> list[torch.Tensor]:
    whole = unit_rows(6, seed=1), unit_rows(6, seed=2), torch.tensor(0.2)
    return [part.double().to(device).requires_grad_() for part in whole]


def unit_rows(n: int, *, seed: int) -> torch.Tensor:
    rows = torch.randn(n, 5, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=-1)


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


class Model(torch.nn.Module):
    """One layer behind a BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.layer = torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 2)

    def step(self, guard: GuardedStep, number: int, rows: torch.Tensor) -> None:
        self.zero_grad()
        self.layer(self.norm(rows)).square().sum().backward()
        guard.step(number)


LAYER_TERMS = 4 * 3 * 3  # no sum over the gradients of `Model` has more


def everything(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    averages = [value for state in optimizer.state.values() for value in state.values()]
    return [value.clone() for value in (*model.state_dict().values(), *averages)]


@pytest.mark.parametrize("name", ["lamb", "adamw"])
def test_a_bad_step_leaves_everything_as_it_was(device, name: str):
    settings = replace(SETTINGS, optimizer=name, max_skipped_steps=2)
    model = Model().to(device)
    optimizer = make_optimizer(model, settings)
    guard = GuardedStep(model, optimizer, settings)
    good, bad = torch.randn(5, 3).to(device), torch.tensor([[math.inf, 0.0, 1.0]] * 5).to(device)
    plain = copy.deepcopy(model)
    plain_optimizer = make_optimizer(plain, settings)
    for number in range(1, 4):
        model.step(guard, number, good)
        plain.zero_grad()
        plain.layer(plain.norm(good)).square().sum().backward()
        plain_optimizer.step()
        expected = everything(plain, plain_optimizer)
        for value, other in zip(everything(model, optimizer), expected, strict=True):
            assert torch.equal(value, other)  # a good step is as if nobody guarded it
        if number < 3:
            model.step(guard, number, bad)
            assert guard.left_out
            for value, other in zip(everything(model, optimizer), expected, strict=True):
                assert torch.equal(value, other)
    assert (guard.skipped, guard.left_out) == (2, False)

    def one_too_many() -> None:
        model.step(guard, 9, bad)
        guard.check(9)  # on a GPU nothing waits for a step

    with pytest.raises(Diverged) as raised:
        one_too_many()
    assert str(raised.value) == (
        "the loss or the gradient of 3 steps up to step 9 was not a finite number "
        "(max_skipped_steps "
        "is 2): try a lower --learning_rate or more --warmup_steps, in a new --output"
    )


def test_steps_in_a_row_count_like_others():
    model = Model()
    settings = replace(SETTINGS, max_skipped_steps=10)
    guard = GuardedStep(model, make_optimizer(model, settings), settings, skipped=7)
    bad = torch.full((5, 3), math.nan)
    for number in range(1, 4):
        model.step(guard, number, bad)
    assert guard.skipped == 10
    with pytest.raises(Diverged, match="of 11 steps up to step 4, the last 4 in a row, was no"):
        model.step(guard, 4, bad)


@pytest.mark.parametrize("longest", [0.0, 0.5, 1e9])
def test_a_long_gradient_is_made_shorter(device, longest: float):
    model = Model().to(device)
    settings = replace(SETTINGS, max_gradient_norm=longest)
    guard = GuardedStep(model, make_optimizer(model, settings), settings, longest=longest)
    rows = torch.randn(5, 3).to(device)
    model.layer(model.norm(rows)).square().sum().backward()
    before = {name: p.grad.clone() for name, p in model.named_parameters()}
    length = torch.cat([g.flatten() for g in before.values()]).norm()
    guard.step(1)
    share = longest / length if longest == 0.5 else 1.0
    for name, p in model.named_parameters():
        assert close(p.grad, before[name] * share, terms=LAYER_TERMS)
    assert close(guard.norm, length, terms=LAYER_TERMS)  # as it came


@pytest.mark.parametrize("micro_batch_size", [6, 3])
def test_a_loss_that_is_not_finite_makes_every_gradient_none(device, micro_batch_size, monkeypatch):
    """Also where the backward pass through the loss would give finite ones."""
    settings = replace(SETTINGS, micro_batch_size=micro_batch_size)
    tokenizer = small_tokenizer()
    model = small_model(settings, vocabulary_size=len(tokenizer))
    model.to(device).train()
    monkeypatch.setattr(
        "alignset.train.step.contrastive_loss",
        lambda *rows, **how: contrastive_loss(*rows, **how) + math.inf,
    )
    number, size = settings.micro_batches(1)
    rows = [slice(i * size, (i + 1) * size) for i in range(number)]
    parts = [small_inputs(tokenizer, TEXTS[part], settings) for part in rows]
    step_gradients(model, iter(parts), settings, 1)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert not any(gradient.isfinite().all() for gradient in gradients)
