"""Every number of classification fine-tuning (section 5.3), and the named sets of its values."""

import math
from dataclasses import dataclass, replace
from typing import Any

from alignset.settings import between, setting
from alignset.train.settings import (
    COUNT,
    FRACTION,
    MOMENTUM,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    RunSettings,
    choice,
)


@dataclass(frozen=True)
class ClassifySettings(RunSettings):
    """Two stages: the classification layer alone, then all layers. Defaults: the paper's ImageNet.
    Each field is also a flag of `alignset classify`."""

    model: str = setting("", "a saved AlignModel, or a published name", group="model and images")
    images: str = setting("", "a folder of images for each class")
    validation: str = setting("", "the same, to evaluate with")
    stages: int = setting(
        2, "2; 1: the classification layer alone", allowed=between(1, 2, "1 or 2")
    )
    batch_size: int = setting(
        1024, "images of a step, over all processes", allowed=COUNT, group="optimizer, SGD"
    )
    micro_batch_size: int = setting(
        64, "images that go through the model, and BatchNorm, at once", allowed=COUNT
    )
    momentum: float = setting(0.9, "of SGD", allowed=FRACTION)
    weight_decay: float = setting(0.0, "of all weights", allowed=NOT_NEGATIVE)
    schedule: str = setting(
        "staircase", "staircase, or cosine to zero", allowed=choice("staircase", "cosine")
    )
    decay_epochs: int = setting(30, "epochs of a step of the staircase", allowed=COUNT)
    decay_ratio: float = setting(
        0.2, "what each step of the staircase multiplies the rate by", allowed=SHARE
    )
    epochs: int = setting(100, "of each stage", allowed=COUNT)
    steps: int = setting(0, "of each stage; 0: as many as epochs says", allowed=NOT_NEGATIVE)
    frozen_train_px: int = setting(
        289, "px, the side of a crop of the first stage", allowed=COUNT, group="first stage"
    )
    frozen_eval_px: int = setting(
        360, "px, the side at which the first stage is evaluated", allowed=COUNT
    )
    frozen_learning_rate: float = setting(0.1, "of the first stage", allowed=POSITIVE)
    train_px: int = setting(
        475, "px, the side of a crop of the second stage", allowed=COUNT, group="second stage"
    )
    eval_px: int = setting(
        600, "px, the side at which the second stage is evaluated", allowed=COUNT
    )
    learning_rate: float = setting(0.01, "of the layer in the second stage", allowed=POSITIVE)
    tower_share: float = setting(
        0.1, "the image tower's learning rate, of the layer's", allowed=POSITIVE
    )
    train_statistics: bool = setting(True, "update BatchNorm's running statistics")
    batch_norm_momentum: float = setting(0.01, "weight of a new batch in them", allowed=MOMENTUM)
    drop_path: float = setting(
        0.2, "stochastic depth of the image tower's last block", allowed=FRACTION
    )
    min_area: float = setting(
        0.08, "of a random crop, as a share of the image's area, at least", allowed=SHARE
    )
    horizontal_flip: bool = setting(True, "mirror an image with probability 0.5, at random")
    seed: int = setting(0, "of all random numbers", allowed=NOT_NEGATIVE)
    keep_checkpoints: int = setting(1, "checkpoints to keep", decides=False, allowed=COUNT)

    def stage(self, frozen: bool) -> tuple[int, int, float]:
        """The sides of crops that a stage is trained and evaluated with, and its learning rate."""
        if frozen:
            return self.frozen_train_px, self.frozen_eval_px, self.frozen_learning_rate
        return self.train_px, self.eval_px, self.learning_rate

    def rate_share(self, step: int, steps: int, an_epoch: int) -> float:
        """The learning rate of a stage's steps 1, 2, ... `steps`, of its first one's."""
        if self.schedule == "cosine":
            return (1 + math.cos(math.pi * (step - 1) / steps)) / 2
        return self.decay_ratio ** ((step - 1) // an_epoch // self.decay_epochs)


SIDES = ("frozen_train_px", "frozen_eval_px", "train_px", "eval_px")
_SIDES_64: dict[str, Any] = dict.fromkeys(SIDES, 64)


IMAGENET = ClassifySettings()
"""ImageNet (Jia et al., 2021, section 5.3): 289 px frozen, then 475 px; evaluated at 360 and 600.

    alignset classify --preset imagenet --model=M --images=train --validation=val --output=C
Published, from EfficientNet-L2: top-1 85.5 with the tower frozen; then 88.64, top-5 98.67. Not run
by us.
"""

FINE_GRAINED = replace(
    IMAGENET,
    batch_size=256,
    weight_decay=1e-5,
    schedule="cosine",
    steps=20_000,
    frozen_learning_rate=1e-2,
    learning_rate=1e-3,
    train_px=289,
    eval_px=360,
    train_statistics=False,
)
"""Flowers, Pets, Cars, Food101 (section 5.3): small sets, BatchNorm's statistics left as they are.

Published, from EfficientNet-L2: top-1 99.65, 96.19, 96.13, 95.88 (table 7). Not run by us.
"""

TINY = replace(
    FINE_GRAINED,
    batch_size=64,
    weight_decay=0.0,
    steps=0,
    epochs=20,
    **_SIDES_64,
    frozen_learning_rate=0.3,
    learning_rate=0.003,
    min_area=0.6,
    drop_path=0.0,
    horizontal_flip=False,
    decode_threads=2,
    log_every=20,
    samples_every=100,
    checkpoint_every=100,
)
"""For a run of `alignset train --preset tiny`: some hundred images, in a minute on a laptop.

BatchNorm's statistics stay: trained for 60 steps at 0.01 they were stale, and top-1 was at chance
where 58 % of the training images came out right.
"""

PRESETS = {"imagenet": IMAGENET, "fine-grained": FINE_GRAINED, "tiny": TINY}
