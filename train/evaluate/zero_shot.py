"""A class as a point among the embeddings: the mean of its prompts', CLIP's or one's own."""

import json
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from alignset.train.errors import SettingsError
from alignset.train.evaluate.classes import IMAGENETS, Classes
from alignset.train.evaluate.embedding import Embedding
from alignset.train.evaluate.feature_store import Features

PLAIN = "a photo of a {}."
_MOST = 10_000
LOGIT_SCALE = 100.0  # changes no order; clip_benchmark multiplies by it, and so rounds as we do


def usual_prompts(classes: Classes) -> str:
    """Which prompts a dataset's classes get where none are asked for, by a name of
    `find_prompts`."""
    if classes.some:  # an English sentence around a word of another language says little
        return "{}"
    return "imagenet" if classes.of in IMAGENETS or "ImageNet" in classes.of else PLAIN


def class_weights(
    embedding: Embedding, names: list[str], prompts: tuple[str, ...]
) -> npt.NDArray[np.float32]:
    """float32[d, classes]: of each class's prompts the embeddings' mean, L2-normalised."""
    texts = [prompt.replace("{}", name) for name in names for prompt in prompts]
    return mean_weights(embedding.texts(texts), len(prompts))


def mean_weights(
    features: Features | npt.NDArray[np.float32], prompts: int
) -> npt.NDArray[np.float32]:
    """float32[d, classes] of float32[classes * prompts, d], L2-normalised."""
    means = []
    for first in range(0, len(features), prompts):
        mean = torch.from_numpy(features[first : first + prompts]).mean(dim=0)
        means.append(mean / mean.norm())
    weights: npt.NDArray[np.float32] = torch.stack(means, dim=1).numpy()
    return weights


def logits(images: torch.Tensor, weights: npt.NDArray[np.float32]) -> torch.Tensor:
    """float32[n, classes] of float32[n, d] images."""
    return LOGIT_SCALE * images @ torch.from_numpy(weights)


@cache
def published_prompts() -> dict[str, tuple[str, ...]]:
    """Those of CLIP by set, which the paper uses too; "imagenet" has 80.

    Source: Radford et al., 2021, prompts.md and the notebook on prompts of its repository.
    """
    text = Path(__file__).with_name("prompts.json").read_text(encoding="utf-8")
    return {name: tuple(prompts) for name, prompts in json.loads(text).items()}


def find_prompts(where: str) -> tuple[str, ...]:
    """The prompts that `where` names: a dataset's, one sentence with {}, a file of such lines, or a
    JSON list of them.

    Raises:
      SettingsError: there are none, or one has no {} or several.
    """
    if where in published_prompts():
        return published_prompts()[where]
    prompts = (where,) if "{}" in where else _of_file(where)
    wrong = next((prompt for prompt in prompts if prompt.count("{}") != 1), None)
    if wrong is not None:
        raise SettingsError(f"a prompt has one {{}}, where the class's name goes; got {wrong!r}")
    return prompts


def _of_file(where: str) -> tuple[str, ...]:
    names = ", ".join(published_prompts())
    try:
        text = Path(where).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"no prompts at {where!r:.200} ({error!s:.200}): pass a sentence with {{}}, a file of "
            f"such lines, or one of {names}"
        ) from error
    lines: object = text.splitlines()
    if text.lstrip()[:1] in ("[", '"'):
        with suppress(ValueError):  # or a line may begin so
            lines = json.loads(text)
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise SettingsError(f"{where} is JSON, and not a list of prompts: write each on a line")
    prompts = tuple(line.strip() for line in lines if line.strip())
    if not 0 < len(prompts) <= _MOST:
        raise SettingsError(f"{where} has {len(prompts)} prompts: write 1 to {_MOST}, a line each")
    return prompts
