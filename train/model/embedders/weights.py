"""What the kinds of embedders have in common: where they run, their digests, rows of length 1."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from alignset.train.model.embedder import Embeddings


def usual_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def unit_rows(rows: torch.Tensor) -> Embeddings:
    """float32[..., d] of length 1 each. What is not finite stays so, for the task to refuse."""
    unit: Embeddings = torch.nn.functional.normalize(rows.float(), dim=-1).cpu().numpy()
    return unit


def model_digest(tensors: Iterable[tuple[str, torch.Tensor]], *described: object) -> str:
    """Hex SHA-256 of named weights, and of what else decides on an embedding."""
    whole = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode())
    for name, tensor in tensors:
        whole.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        plain = tensor.detach().cpu().contiguous()
        whole.update(plain.view(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()


def tokenizer_text(tokenizer: Any) -> str:
    """All that a tokenizer of transformers does, as text."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        return str(backend.to_str())
    return json.dumps([type(tokenizer).__name__, sorted(tokenizer.get_vocab().items())])


def in_parts(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (items[first : first + size] for first in range(0, len(items), size))


def stacked(parts: list[Embeddings], width: int) -> Embeddings:
    return np.concatenate(parts) if parts else np.zeros((0, width), np.float32)
