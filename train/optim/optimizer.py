"""LAMB (the paper's) or AdamW, the learning rate of each step, and a step that one bad batch cannot
spoil."""

import math
from typing import Any

import torch
from torch.optim.adamw import adamw
from torch.optim.optimizer import ParamsT

from alignset.train.errors import Diverged, counted
from alignset.train.settings import RunSettings, Settings

ADVICE = "try a lower --learning_rate or more --warmup_steps, in a new --output"


class Lamb(torch.optim.Optimizer):
    """LAMB (You et al., 2020, algorithm 2), over torch's fused Adam.

    Each weight matrix is moved in Adam's direction, with decay added, by as much as it is long
    itself, times the learning rate. Torch's fused Adam gets -decay * weights to move, at a learning
    rate of 1, and so leaves there the whole move. This is then added to the weights, times the
    learning rate and the ratio of both lengths, which is 1 where one of them is 0.

    A group whose `trust_ratio` is false has no such ratio, which is AdamW.

    A step holds a copy of the largest group.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ):
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        # fused: torch then loads the steps to the device of the weights, where its Adam wants them.
        super().__init__(params, defaults | {"trust_ratio": True, "fused": True})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # it takes no closure
        found_inf = getattr(self, "found_inf", None)  # float[]: 1 leaves the step out
        for group in self.param_groups:
            weights: list[torch.Tensor] = [p for p in group["params"] if p.grad is not None]
            if not group["trust_ratio"]:
                self._adam(weights, weights, group, lr=group["lr"], decay=group["weight_decay"])
                continue
            moves = list(torch._foreach_mul(weights, -group["weight_decay"]))
            self._adam(moves, weights, group, lr=1.0, decay=0.0)
            # float[parameters]: how many times as long as its move each of them is
            lengths = (torch.stack(torch._foreach_norm(each)) for each in (weights, moves))
            ratios = torch.div(*lengths)
            ratios = torch.where((ratios > 0) & ratios.isfinite(), ratios, 1.0)  # 1 where one is 0
            rates = group["lr"] * ratios
            if found_inf is not None:
                rates = torch.where(found_inf > 0, 0.0, rates)
            torch._foreach_addcmul_(weights, moves, list(rates))

    def _adam(
        self,
        moves: list[torch.Tensor],
        weights: list[torch.Tensor],
        group: dict[str, Any],
        *,
        lr: float,
        decay: float,
    ) -> None:
        """Adam's step of `moves`, with the gradients and the averages of `weights`."""
        for p in weights:
            if not self.state[p]:
                averages = {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
                self.state[p] = {"step": torch.zeros((), device=p.device), **averages}
        states = [self.state[p] for p in weights]
        beta1, beta2 = group["betas"]
        adamw(
            moves,
            [gradient for p in weights if (gradient := p.grad) is not None],  # of all of them
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=group["fused"],
            found_inf=getattr(self, "found_inf", None),
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=lr,
            weight_decay=decay,
            eps=group["eps"],
            maximize=False,
        )


def make_optimizer(model: torch.nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """Weight decay, and LAMB's trust ratio, for matrices and kernels only.

    Biases, normalisations and the temperature are exempt, as in LAMB's experiments with BERT
    (You et al., 2020); ALIGN does not say.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    betas = settings.beta1, settings.kept_of_squares
    if settings.optimizer == "lamb":
        groups[1]["trust_ratio"] = False
        return Lamb(groups, lr=settings.learning_rate, betas=betas)
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=betas, fused=True)


def learning_rate(step: int, settings: Settings) -> float:
    """The learning rate at steps 1, 2, ... `steps`: linear from 0 up to the peak, then to 0, linear
    (section 5) or by half a cosine; or constant, and linear in the cooldown.

    >>> settings = Settings(steps=4, warmup_steps=2, learning_rate=1.0)
    >>> [round(learning_rate(step, settings), 2) for step in (1, 2, 3, 4)]
    [0.5, 1.0, 0.67, 0.33]
    >>> settings = Settings(steps=6, warmup_steps=2, schedule="constant", cooldown_steps=2)
    >>> [round(1e3 * learning_rate(step, settings), 2) for step in (2, 3, 4, 5, 6)]
    [1.0, 1.0, 1.0, 0.67, 0.33]
    """
    warmup = min(settings.warmup_steps, settings.steps)
    if step <= warmup:
        return settings.learning_rate * step / warmup
    if settings.schedule == "constant":
        falls = min(settings.cooldown_steps, settings.steps - warmup)
        return settings.learning_rate * min(1, (settings.steps - step + 1) / (falls + 1))
    share = (settings.steps - step + 1) / (settings.steps - warmup + 1)
    if settings.schedule == "cosine":
        share = (1 - math.cos(math.pi * share)) / 2
    return settings.learning_rate * share


def set_learning_rate(optimizer: torch.optim.Optimizer, step: int, settings: Settings) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, settings)


class GuardedStep:
    """Takes an optimizer's step where loss and gradient are finite, and leaves weights, averages
    and statistics as they were where they aren't. It decides on the device: nothing waits for it.

    Every process decides alike, since the gradient is the same on all of them; one whose loss is
    not finite has sent back a gradient that is none (`train/step.py`).

    Args:
      optimizer: one that leaves a step out where its `found_inf` is 1, as torch's fused ones do.
      skipped: how many steps of the run were left out before.
      longest: a longer gradient is made this long; 0: none is.
      advice: what to try where the run diverges.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        settings: RunSettings,
        *,
        skipped: int = 0,
        longest: float = 0.0,
        advice: str = ADVICE,
    ):
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._buffers = list(model.buffers())
        self._last_buffers = [buffer.clone() for buffer in self._buffers]  # after the last step
        self._optimizer, self._most = optimizer, settings.max_skipped_steps
        self._longest, self._advice = longest, advice
        device = self._parameters[0].device
        self.norm = torch.zeros((), device=device)  # of the last gradient, as it came
        self._skip_count = torch.tensor(float(skipped), device=device)
        self._in_a_row = torch.zeros((), device=device)

    @torch.no_grad()
    def step(self, step: int) -> None:
        """Raises Diverged on a CPU; elsewhere `check` does, at times."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        self.norm = torch.nn.utils.get_total_norm(gradients)
        finite = self.norm.isfinite()
        bad = (~finite).float()
        if self._longest:
            factor = (self._longest / self.norm.clamp(min=1e-12)).clamp(max=1)
            torch._foreach_mul_(gradients, factor)
        # Its type knows neither; torch.amp's GradScaler sets it as well.
        self._optimizer.found_inf = bad  # type: ignore[attr-defined]
        self._optimizer.step()
        for buffer, last in zip(self._buffers, self._last_buffers, strict=True):
            torch.where(finite, buffer, last, out=last)
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._last_buffers)
        self._skip_count += bad
        self._in_a_row = (self._in_a_row + 1) * bad
        if self.norm.device.type == "cpu":
            self.check(step)

    @property
    def skipped(self) -> int:
        """Steps of the run that were left out; waits for the device."""
        return int(self._skip_count.item())

    @property
    def left_out(self) -> bool:
        """Whether the last step was; waits for the device."""
        return bool(self._in_a_row.item() > 0)

    def check(self, step: int) -> None:
        """Raises Diverged, on all processes alike, where too many steps were left out; waits for
        the device."""
        if (skipped := self.skipped) <= self._most:
            return
        in_a_row = int(self._in_a_row.item())
        last = f", the last {in_a_row} in a row," if in_a_row > 1 else ""
        raise Diverged(
            f"the loss or the gradient of {counted(skipped, 'step')} up to step {step}{last} was "
            f"not a finite number (max_skipped_steps is {self._most}): {self._advice}"
        )

    def measured(self, step: int, numbers: dict[str, float]) -> dict[str, float]:
        """Numbers of the last step, with its gradient's norm and, where there are any, the steps
        that were left out. A loss or norm that is not finite is missing where the step was.

        Raises:
          Diverged: a number of a step that was taken is not finite, or too many were left out.
        """
        self.check(step)
        numbers |= {"gradient_norm": self.norm.item()}
        bad = {name for name, value in numbers.items() if not math.isfinite(value)}
        if self.left_out and bad <= {"loss", "gradient_norm"}:
            numbers = {name: value for name, value in numbers.items() if name not in bad}
        for name, value in numbers.items():
            if name in bad:
                what = f"the {name.replace('_', ' ')} is {value} at step {step}"
                raise Diverged(f"{what}: {self._advice}")
        return numbers | ({"skipped_steps": skipped} if (skipped := self.skipped) else {})
