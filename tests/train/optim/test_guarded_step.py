"""A step that one bad batch cannot spoil: left out whole, counted, bounded; long gradients cut."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from alignset.train.errors import Diverged
from alignset.train.loss import contrastive_loss
from alignset.train.optim.guarded_step import GuardedStep
from alignset.train.optim.optimizer import make_optimizer
from alignset.train.step import step_gradients
from tests.support.closeness import close
from tests.support.small_training import SETTINGS, TEXTS, small_inputs, small_model, small_tokenizer

pytestmark = pytest.mark.numeric


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


TERMS = 4 * 3 * 3  # no sum over the gradients of `Model` has more


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
        "is 2): try a lower --learning_rate or more --warmup_steps, in a new --run"
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
    guard = GuardedStep(model, make_optimizer(model, settings), settings)
    rows = torch.randn(5, 3).to(device)
    model.layer(model.norm(rows)).square().sum().backward()
    before = {name: p.grad.clone() for name, p in model.named_parameters()}
    length = torch.cat([g.flatten() for g in before.values()]).norm()
    guard.step(1)
    share = longest / length if longest == 0.5 else 1.0
    for name, p in model.named_parameters():
        assert close(p.grad, before[name] * share, terms=TERMS)
    assert close(guard.norm, length, terms=TERMS)  # as it came


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
