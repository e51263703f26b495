"""Inputs of the model: pixels as they were decoded, and texts in buckets of like length."""

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from alignset.train.data.batches import Batch
from alignset.train.data.position import Position
from alignset.train.settings import Settings

T = TypeVar("T")
R = TypeVar("R")


class TextBuckets(NamedTuple):
    """A batch's texts, sorted by length and cut into buckets, each padded to its own longest."""

    buckets: list[tuple[torch.Tensor, torch.Tensor]]  # of (ids, mask), both int64[b_i, t_i]
    place: torch.Tensor  # int64[b]: where in the buckets, put one behind the other, text i is

    def map(self, change: "Callable[[torch.Tensor], torch.Tensor]") -> "TextBuckets":
        buckets = [(change(ids), change(mask)) for ids, mask in self.buckets]
        return TextBuckets(buckets, change(self.place))


class Inputs(NamedTuple):
    """A micro-batch, on the CPU; the model takes it to its device."""

    pixels: torch.Tensor  # uint8[b, h, w, 3]: a quarter of the memory that floats take
    texts: TextBuckets
    captions: list[str]  # the texts as they are
    position: Position  # behind the last sample

    def map(self, change: "Callable[[torch.Tensor], torch.Tensor]") -> "Inputs":
        """With each tensor changed."""
        return self._replace(pixels=change(self.pixels), texts=self.texts.map(change))


def to_inputs(
    batch: Batch, tokenizer: PreTrainedTokenizerFast, settings: Settings, *, gpu: int | None = None
) -> Inputs:
    """
    Args:
      gpu: the number of the GPU that they are for, which reads them by itself: they are then in
        memory that stays where it is (pinned).
    """
    texts = encode_texts(batch.texts, tokenizer, settings)
    inputs = Inputs(torch.from_numpy(batch.pixels), texts, batch.texts, batch.position)
    if gpu is None:
        return inputs
    with torch.cuda.device(gpu):  # a thread begins with the first one, and would take memory there
        return inputs.map(torch.Tensor.pin_memory)


def encode_texts(
    texts: list[str], tokenizer: PreTrainedTokenizerFast, settings: Settings
) -> TextBuckets:
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
    return TextBuckets(buckets, torch.from_numpy(np.argsort(order)))


def on_device(inputs: Inputs, device: torch.device) -> Inputs:
    """Copies of its tensors; on a GPU they are made in the background, if they are pinned."""
    return inputs.map(lambda tensor: tensor.to(device, non_blocking=True))


def ahead(items: Generator[T, None, None], prepare: Callable[[T], R]) -> Generator[R, None, None]:
    """Results of `prepare` for each item, the next one made in a thread meanwhile; an error in its
    place. Closing it ends the thread, and closes `items`."""

    def make() -> list[R]:  # empty behind the last one
        return [prepare(item) for item in islice(items, 1)]

    with closing(items), ThreadPoolExecutor(1, "ahead") as pool:
        future = pool.submit(make)
        while results := future.result():
            future = pool.submit(make)
            yield from results
