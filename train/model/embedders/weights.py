"""What the kinds of embedders have in common: where they run, their digests, rows of length 1."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

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
