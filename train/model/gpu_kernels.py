"""Layers that compute the same in fewer operations, for a GPU and for code that is compiled. The
model can be understood without them.

`train/model/kernels.py` says where they are used.
"""

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.align.modeling_align import AlignTextSelfAttention

from alignset.train.model.batch_norm import GhostBatchNorm2d


def use_gpu_kernels(model: nn.Module) -> None:
    """Changes the layers of `model` in place; its parameters and their names stay."""
    for module in model.modules():
        if isinstance(module, GhostBatchNorm2d):
            module.__class__ = GpuGhostBatchNorm2d
        elif isinstance(module, AlignTextSelfAttention):
            module.__class__ = FusedSelfAttention


def fused_mask(mask: torch.Tensor) -> torch.Tensor:
    """int64[b, t], 1 for a token -> bool[b, 1, 1, t], which transformers hands on as it is. Of the
    first it asks whether all are tokens, and the host would wait for the GPU at each pass."""
    return mask[:, None, None, :].bool()


class FusedSelfAttention(AlignTextSelfAttention):
    """By torch's scaled-dot-product attention, which keeps no float[b, heads, t, t] of weights."""

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: Any
    ) -> tuple[torch.Tensor, None]:
        """float[b, t, hidden], the same.

        Args:
          attention_mask: bool[b, 1, 1, t], false where nothing is looked at; or of floats, which
            are added to the scores.
        """
        b, t, _hidden = hidden_states.shape
        query, key, value = (
            layer(hidden_states).view(b, t, -1, self.attention_head_size).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )  # float[b, heads, t, size]
        if attention_mask is not None and attention_mask.is_floating_point():
            attention_mask = attention_mask.to(query.dtype)
        dropout = self.dropout.p if self.training else 0.0
        attended = F.scaled_dot_product_attention(
            query, key, value, attn_mask=attention_mask, dropout_p=dropout
        )
        return attended.transpose(1, 2).reshape(b, t, -1), None


class GpuGhostBatchNorm2d(GhostBatchNorm2d):
    """All groups at once: in channels-last memory they are one view, float[groups, n, c]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # float[b, c, h, w], the same
        n = self.group_size * x.shape[2] * x.shape[3]  # values of a channel in a group
        grouped = self.training and len(x) > self.group_size
        if not grouped or len(x) % self.group_size or n == 1:
            return super().forward(x)
        # Else float32 operations below would be those of a lower precision.
        with torch.autocast(x.device.type, enabled=False):
            out, means, variances = _NormalisedGroups.apply(
                x, self.weight, self.bias, self.group_size, self.eps
            )
            if self.track_running_stats:
                self._track(means, variances * (n / (n - 1)))
        return out

    @torch.no_grad()
    def _track(self, means: torch.Tensor, variances: torch.Tensor) -> None:
        """float[groups, c]: each group is taken in behind the one before it, with the momentum."""
        momentum, groups = self.momentum, len(means)
        assert momentum is not None  # `use_ghost_groups` sets it
        assert self.num_batches_tracked is not None  # since the statistics are tracked
        # How many groups come behind each.
        later = torch.arange(groups - 1, -1, -1, dtype=means.dtype, device=means.device)
        weights = (momentum * (1 - momentum) ** later)[:, None]
        for running, new in ((self.running_mean, means), (self.running_var, variances)):
            assert running is not None
            running.mul_((1 - momentum) ** groups).add_((weights * new).sum(0))
        self.num_batches_tracked.add_(groups)


class _Groups(Protocol):
    """What torch hands from the pass forward to the one backward."""

    saved_tensors: tuple[torch.Tensor, ...]
    group_size: int

    def save_for_backward(self, *tensors: torch.Tensor) -> None: ...
    def mark_non_differentiable(self, *tensors: torch.Tensor) -> None: ...


class _NormalisedGroups(torch.autograd.Function):
    """It keeps the input and two float[groups, c], where torch's own derivative keeps more and goes
    through the map 16 times where this does so 10 times."""

    @staticmethod
    def forward(
        ctx: _Groups,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        group_size: int,
        eps: float,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """float[b, c, h, w], and float[groups, c] of means and of variances."""
        wide = torch.promote_types(x.dtype, weight.dtype)  # float32 where x is bfloat16
        rows = _grouped(x, group_size).to(wide)
        variances, means = torch.var_mean(rows, dim=1, correction=0)
        inverse_stds = (variances + eps).rsqrt()
        scale = weight * inverse_stds
        shift = bias - means * scale
        out = torch.addcmul(shift[:, None], rows, scale[:, None]).to(x.dtype)
        ctx.save_for_backward(x, weight, means, inverse_stds)
        ctx.group_size = group_size
        ctx.mark_non_differentiable(means, variances)
        return _as_map(out, x), means, variances

    @staticmethod
    def backward(
        ctx: _Groups, gradient: torch.Tensor, *_: torch.Tensor
    ) -> tuple[torch.Tensor | None, ...]:
        x, weight, means, inverse_stds = ctx.saved_tensors
        rows, of_rows = (_grouped(whole, ctx.group_size).to(means.dtype) for whole in (x, gradient))
        n = rows.shape[1]
        # float[groups, c]: each group's part of the gradients of bias and weight
        part_bias = of_rows.sum(1)
        part_weight = (rows - means[:, None]).mul_(of_rows).sum(1) * inverse_stds
        # The gradient of x is
        # scale * (of_rows - (part_bias + (rows - mean) * inverse_std * part_weight) / n).
        scale = weight * inverse_stds
        slope = scale * inverse_stds * part_weight / -n
        rest = -slope * means - scale * part_bias / n
        of_x = torch.addcmul(rest[:, None], rows, slope[:, None]).addcmul_(of_rows, scale[:, None])
        of_x = _as_map(of_x.to(x.dtype), x)
        return of_x, part_weight.sum(0), part_bias.sum(0), None, None


def _grouped(x: torch.Tensor, group_size: int) -> torch.Tensor:
    """float[b, c, h, w] -> float[groups, n, c]; a view where the channels are last in memory."""
    b, c, h, w = x.shape
    return x.permute(0, 2, 3, 1).reshape(b // group_size, group_size * h * w, c)


def _as_map(rows: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The reverse."""
    b, c, h, w = like.shape
    return rows.view(b, h, w, c).permute(0, 3, 1, 2)
