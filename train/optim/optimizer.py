"""LAMB (the paper's) or AdamW, and the learning rate of each step."""

import math
from typing import Any

import torch
from torch.optim.adamw import adamw
from torch.optim.optimizer import ParamsT

from alignset.train.settings import Settings


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
    (section 5) or by half a cosine."""
    warmup = min(settings.warmup_steps, settings.steps)
    if step <= warmup:
        return settings.learning_rate * step / warmup
    share = (settings.steps - step + 1) / (settings.steps - warmup + 1)
    if settings.schedule == "cosine":
        share = (1 - math.cos(math.pi * share)) / 2
    return settings.learning_rate * share


def set_learning_rate(optimizer: torch.optim.Optimizer, step: int, settings: Settings) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, settings)
