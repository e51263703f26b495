"""How far apart rounding alone can bring two computations of the same numbers."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch


def close(
    found: Any,
    expected: Any,
    *,
    terms: int,
    scale: float | None = None,
    precision: torch.dtype | None = None,
) -> bool:
    """Compares two results that were computed in another order; prints how far apart they are.

    Each addition rounds by at most half an eps of the largest number on the way, on either side.
    A chain of n additions can therefore differ by n eps of it, whatever the instruction set.

    Args:
      terms: how many numbers are added up on the way to one number, all steps together.
      scale: the largest number on the way; by default the largest of the results.
      precision: the coarsest on the way; by default the coarser of the two results' own.
    """
    eps = torch.finfo(precision).eps if precision else max(_eps(found), _eps(expected))
    one, other = _exact(found), _exact(expected)
    if one.shape != other.shape:
        print(f"shapes {one.shape} and {other.shape}")
        return False
    if not other.size:
        return True
    allowed = terms * eps * (np.abs(other).max() if scale is None else scale)
    apart = np.abs(one - other).max()  # NaN is close to nothing
    print(f"apart by {apart:.2g}, allowed is {allowed:.2g}")
    return bool(apart <= allowed)


def summed_terms(module: torch.nn.Module) -> int:
    """Adds up how many products each layer sums for one output, as if all layers were in a row."""
    return sum(p[0].numel() for p in module.parameters() if p.ndim > 1)


def largest(tensors: Iterable[torch.Tensor]) -> float:
    """The largest absolute value of any of these."""
    return max(float(tensor.abs().max()) for tensor in tensors)


def _eps(numbers: Any) -> float:
    if isinstance(numbers, torch.Tensor):
        return torch.finfo(numbers.dtype).eps if numbers.is_floating_point() else 0.0
    kind = np.asarray(numbers).dtype
    return float(np.finfo(kind).eps) if kind.kind == "f" else 0.0


def _exact(numbers: Any) -> np.ndarray:
    if isinstance(numbers, torch.Tensor):
        numbers = numbers.detach().cpu().double()
    return np.asarray(numbers, np.float64)
