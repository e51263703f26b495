"""A class as a point among the embeddings: the mean of its prompts'."""

import numpy as np
import numpy.typing as npt
import torch

from alignset.train.evaluate.classes import IMAGENETS, Classes
from alignset.train.evaluate.embedding import Embedding
from alignset.train.evaluate.feature_store import Features
from alignset.train.evaluate.prompts import PLAIN

LOGIT_SCALE = 100.0  # changes no order; clip_benchmark multiplies by it, and so rounds as we do


def usual_prompts(classes: Classes) -> str:
    """Which prompts a set's classes get where none are asked for, by a name of `find_prompts`."""
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
