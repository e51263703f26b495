"""What the model is fed: pixels as they were decoded, and texts in buckets of like length."""

import tempfile
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from train.data.batches import Batch
from train.data.position import Position
from train.settings import Settings


class Texts(NamedTuple):
    """A batch's texts, sorted by length and cut into buckets, each padded to its own longest."""

    buckets: list[tuple[torch.Tensor, torch.Tensor]]  # of (ids, mask), both int64[b_i, t_i]
    place: torch.Tensor  # int64[b]: where in the buckets, put one behind the other, text i is


class Inputs(NamedTuple):
    """A micro-batch, on the CPU; the model takes it to its device."""

    pixels: torch.Tensor  # uint8[b, h, w, 3]: a quarter of the memory that floats take
    texts: Texts
    captions: list[str]  # the texts as they are
    position: Position  # behind the last sample


def to_inputs(batch: Batch, tokenizer: PreTrainedTokenizerFast, settings: Settings) -> Inputs:
    texts = encode_texts(batch.texts, tokenizer, settings)
    return Inputs(torch.from_numpy(batch.pixels), texts, batch.texts, batch.position)


def encode_texts(texts: list[str], tokenizer: PreTrainedTokenizerFast, settings: Settings) -> Texts:
    """Wordpieces, at most max_tokens of each text."""
    pieces = tokenizer(texts, truncation=True, max_length=settings.max_tokens)["input_ids"]
    lengths = np.array([len(ids) for ids in pieces])
    order = np.argsort(lengths, kind="stable")
    buckets = []
    for rows in np.array_split(order, min(settings.text_buckets, len(texts))):
        ids = np.full((len(rows), lengths[rows].max()), tokenizer.pad_token_id)  # int64[b_i, t_i]
        mask = np.arange(ids.shape[1]) < lengths[rows, None]  # bool[b_i, t_i]
        ids[mask] = np.concatenate([pieces[i] for i in rows])
        buckets.append((torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64))))
    return Texts(buckets, torch.from_numpy(np.argsort(order)))


class KeptInputs:
    """Micro-batches, to be gone through again: their pixels wait in a temporary file, or memory
    would grow with the batch (16,384 crops of 289 px are 4.1 GB)."""

    def __enter__(self) -> "KeptInputs":
        self._pixels = tempfile.TemporaryFile()
        self._rest: list[tuple[Texts, list[str], Position]] = []
        return self

    def __exit__(self, *_: object) -> None:
        self._pixels.close()

    def append(self, inputs: Inputs) -> None:
        np.save(self._pixels, inputs.pixels.numpy())
        self._rest.append((inputs.texts, inputs.captions, inputs.position))

    def __iter__(self) -> Iterator[Inputs]:
        self._pixels.seek(0)
        for rest in self._rest:
            yield Inputs(torch.from_numpy(np.load(self._pixels)), *rest)
