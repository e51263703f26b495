"""LAMB (the paper's) or AdamW, and the learning rate of each step."""

import math
from typing import Any

import torch

from alignset.train.optim.lamb import Lamb
from alignset.train.settings import Settings


def make_optimizer(model: torch.nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """Weight decay, and LAMB's trust ratio, for matrices and kernels only.

    Biases, normalisations and the temperature are exempt, as in LAMB's experiments with BERT
    (You et al., 2020); ALIGN does not say.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    lamb = settings.optimizer == "lamb"
    betas = settings.beta1, settings.kept_of_squares
    if lamb:
        groups[1]["trust_ratio"] = False
        return Lamb(groups, lr=settings.learning_rate, betas=betas)
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=betas, fused=True)


def learning_rate(step: int, settings: Settings) -> float:
    """Of steps 1, 2, ... `steps`: linear from 0 up to the peak, then to 0, linear (section 5) or by
    half a cosine."""
    warmup = min(settings.warmup_steps, settings.steps)
    if step <= warmup:
        return settings.learning_rate * step / warmup
    left = (settings.steps - step + 1) / (settings.steps - warmup + 1)
    if settings.schedule == "cosine":
        left = (1 - math.cos(math.pi * left)) / 2
    return settings.learning_rate * left


def set_learning_rate(optimizer: torch.optim.Optimizer, step: int, settings: Settings) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, settings)
