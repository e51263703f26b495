"""A model, texts and images small enough for the trainer's tests."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from PIL import Image
from transformers import BertTokenizerFast

from alignset.train.data.batches import Batch, Inputs, make_inputs
from alignset.train.data.images import resize_square
from alignset.train.data.order import Position
from alignset.train.model.dual_encoder import DualEncoder, new_align
from alignset.train.model.tokenizer import learn_tokenizer
from alignset.train.presets import TINY
from alignset.train.settings import Settings
from tests.support.train_shards import encoded, write_tar

TEXTS = [
    "two green stars",
    "a red heart",
    "Three blue circles above a star",
    "no",
    "a cross",
    "one",
]
SETTINGS = replace(TINY, resize_px=40, crop_px=32, batch_size=len(TEXTS), vocabulary_size=100)

torch.set_num_threads(1)  # more only get in each other's way on models this small


def small_tokenizer() -> BertTokenizerFast:
    return learn_tokenizer({"": TEXTS}, vocabulary_size=100, max_tokens=SETTINGS.max_tokens)


def small_model(
    settings: Settings = SETTINGS, *, vocabulary_size: int = 100, processes: int = 1
) -> DualEncoder:
    torch.manual_seed(1)
    align = new_align(settings, vocabulary_size)
    share = settings.batch_size // processes
    return DualEncoder(align, settings, batch_size=share)


@contextmanager
def in_float64() -> Iterator[None]:
    """The trainer's own casts are to float64, for a `small_model().double()`: two ways to one sum
    then differ by 1e-15 on any processor, where in float32 they may by as much as is looked for."""
    with mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
        yield


def pictures(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(3)
    noise = [rng.integers(0, 256, (6, 7, 3)).astype(np.uint8) for _ in range(count)]
    return [Image.fromarray(pixels).resize((90, 70)) for pixels in noise]


def small_inputs(
    tokenizer: BertTokenizerFast, texts: Sequence[str] = TEXTS, settings: Settings = SETTINGS
) -> Inputs:
    """As the training loop gets them, but with the evaluation's crop."""
    crops = [resize_square(np.array(image), 40)[4:36, 4:36] for image in pictures(len(texts))]
    return make_inputs(Batch(np.stack(crops), list(texts), Position()), tokenizer, settings)


def held_out_shards(folder: Path) -> Path:
    """23 pairs: 20 images of noise, two of them a second time, and one that can't be decoded."""
    images = [encoded(image) for image in pictures(20)]
    files = {}
    for i, image in enumerate([*images, images[3], images[5]]):
        files |= {f"{i:03d}.png": image, f"{i:03d}.txt": f"{TEXTS[i % 6]} {i}".encode()}
    files |= {"bad.png": b"no image", "bad.txt": b"a star"}
    return write_tar(folder / "00000.tar", files).parent
