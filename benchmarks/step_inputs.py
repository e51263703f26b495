"""Inputs of both sides of `train_step.py`: pixels, captions, towers."""

import argparse
import random

import numpy as np

MAX_TOKENS = 64
VOCABULARY = 100_000
WARM_UP = 2


def captions(count: int) -> list[str]:
    """3 to 20 words, as the paper keeps them, most often 8; each word is one or two wordpieces."""
    rng = random.Random(1)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(3000)]
    return [" ".join(rng.choices(words, k=round(rng.triangular(3, 20, 8)))) for _ in range(count)]


def tokenizer(texts: list[str]):
    from alignset.train.model.tokenizer import learn_tokenizer

    return learn_tokenizer({"": texts}, vocabulary_size=5_000, max_tokens=MAX_TOKENS)


def settings(flags: argparse.Namespace, optimizer: str):
    import torch

    from alignset.train.runs.processes import capability
    from alignset.train.settings import Settings

    return Settings(
        image_tower=flags.image_tower,
        text_tower=flags.text_tower,
        vocabulary_size=VOCABULARY,
        crop_px=flags.px,
        resize_px=flags.px,
        batch_size=flags.pairs or flags.batch_size,
        micro_batch_size=flags.batch_size,
        optimizer=optimizer,
        compile=flags.compile,
    ).resolve(flags.device, capability(torch.device(flags.device)))


def pixels(flags: argparse.Namespace) -> np.ndarray:  # uint8[b, px, px, 3]
    shape = (flags.batch_size, flags.px, flags.px, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
