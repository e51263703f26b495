"""What the model is fed: pixels as they were decoded, and texts in buckets of like length."""

import functools
import tempfile
from collections.abc import Callable, Iterator
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

    def mapped(self, change: "Callable[[torch.Tensor], torch.Tensor]") -> "Texts":
        buckets = [(change(ids), change(mask)) for ids, mask in self.buckets]
        return Texts(buckets, change(self.place))


class Inputs(NamedTuple):
    """A micro-batch, on the CPU; the model takes it to its device."""

    pixels: torch.Tensor  # uint8[b, h, w, 3]: a quarter of the memory that floats take
    texts: Texts
    captions: list[str]  # the texts as they are
    position: Position  # behind the last sample

    def mapped(self, change: "Callable[[torch.Tensor], torch.Tensor]") -> "Inputs":
        """With each tensor changed."""
        return self._replace(pixels=change(self.pixels), texts=self.texts.mapped(change))


def to_inputs(
    batch: Batch, tokenizer: PreTrainedTokenizerFast, settings: Settings, *, pinned: bool = False
) -> Inputs:
    """
    Args:
      pinned: in memory that stays where it is, which a GPU reads by itself.
    """
    texts = encode_texts(batch.texts, tokenizer, settings)
    inputs = Inputs(torch.from_numpy(batch.pixels), texts, batch.texts, batch.position)
    return inputs.mapped(torch.Tensor.pin_memory) if pinned else inputs


def on_device(inputs: Inputs, device: torch.device) -> Inputs:
    """Copies of its tensors; on a GPU they are made while it computes what it was asked for
    before, where the tensors are pinned."""
    if device.type != "cuda" or inputs.pixels.is_cuda:
        return inputs.mapped(lambda tensor: tensor.to(device))
    copying, computing = _copy_stream(device), torch.cuda.current_stream(device)
    with torch.cuda.stream(copying):
        copies = inputs.mapped(lambda tensor: tensor.to(device, non_blocking=True))
    computing.wait_stream(copying)

    def used(tensor: torch.Tensor) -> torch.Tensor:
        tensor.record_stream(computing)  # its memory is not given away while it is computed with
        return tensor

    return copies.mapped(used)


@functools.cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # it has no types


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
    """Micro-batches, to be gone through again. Their pixels wait in memory as long as there is
    `memory` for them, and the others in a temporary file, or memory would grow with the batch
    (16,384 crops of 289 px are 4.1 GB).

    Args:
      memory: bytes.
    """

    def __init__(self, memory: int = 0):
        self._left = memory

    def __enter__(self) -> "KeptInputs":
        self._file = tempfile.TemporaryFile()
        self._kept: list[Inputs] = []  # with pixels, or with none that stand for those in the file
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._kept.clear()

    def append(self, inputs: Inputs) -> None:
        self._left -= inputs.pixels.nbytes
        if self._left < 0:
            np.save(self._file, inputs.pixels.numpy())
            inputs = inputs._replace(pixels=torch.empty(0))
        self._kept.append(inputs)

    def __iter__(self) -> Iterator[Inputs]:
        self._file.seek(0)
        for inputs in self._kept:
            if inputs.pixels.numel():
                yield inputs
            else:
                yield inputs._replace(pixels=torch.from_numpy(np.load(self._file)))
