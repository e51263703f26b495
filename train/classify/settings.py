"""Every number of classification fine-tuning (section 5.3), and the named sets of its values."""

import math
from dataclasses import dataclass, replace

from train.ranges import (
    COUNT,
    FRACTION,
    MOMENTUM,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    check_fields,
    free,
)


@dataclass(frozen=True)
class Stage:
    name: str
    train_px: int
    eval_px: int
    learning_rate: float  # of the classification layer
    frozen: bool  # the image tower


@dataclass(frozen=True)
class ClassifySettings:
    """Two stages: the classification layer alone, then all layers. Defaults: the paper's ImageNet.

    Each field is also a flag of `python -m train.classify`.
    """

    model: str = ""  # folder of a saved AlignModel, or the name of a published one
    images: str = ""  # folder with a folder of images for each class
    validation: str = ""  # the same, of images to evaluate with
    stages: int = 2  # 1: the classification layer alone
    # SGD; batch_size counts images over all processes.
    batch_size: int = 1024
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "staircase"  # or cosine, to zero
    decay_epochs: int = 30
    decay_ratio: float = 0.2
    epochs: int = 100  # of each stage
    steps: int = 0  # of each stage; 0: as many as `epochs` says
    # The first stage.
    frozen_train_px: int = 289
    frozen_eval_px: int = 360
    frozen_learning_rate: float = 0.1
    # The second stage.
    train_px: int = 475
    eval_px: int = 600
    learning_rate: float = 0.01
    tower_share: float = 0.1  # the image tower's learning rate, of the classification layer's
    train_statistics: bool = True  # of BatchNorm
    batch_norm_momentum: float = 0.01  # weight of the new batch in them
    drop_path: float = 0.2
    min_area: float = 0.08  # of a random crop, of the image's
    horizontal_flip: bool = True
    seed: int = 0
    # How it is run, not what is learned.
    decode_threads: int = free(8)
    log_every: int = free(100)
    samples_every: int = free(1_000)
    trackers: str = free("tensorboard")
    checkpoint_every: int = free(1_000)
    keep_checkpoints: int = free(1)
    # Images that go through the model at once; BatchNorm's statistics are of so many.
    micro_batch_size: int = 64

    def __post_init__(self):
        check_fields(self, _RANGES, _NAMES)

    def stage_list(self) -> list[Stage]:
        """The stages, in order."""
        frozen = self.frozen_train_px, self.frozen_eval_px, self.frozen_learning_rate
        both = [
            Stage("frozen", *frozen, frozen=True),
            Stage("fine_tuned", self.train_px, self.eval_px, self.learning_rate, frozen=False),
        ]
        return both[: self.stages]

    def rate_share(self, step: int, steps: int, an_epoch: int) -> float:
        """The learning rate of a stage's steps 1, 2, ... `steps`, of its first one's."""
        if self.schedule == "cosine":
            return (1 + math.cos(math.pi * (step - 1) / steps)) / 2
        return self.decay_ratio ** ((step - 1) // an_epoch // self.decay_epochs)


_NAMES = {"schedule": ("staircase", "cosine")}
_RANGES = {
    **dict.fromkeys(("batch_size", "micro_batch_size", "epochs", "decay_epochs"), COUNT),
    **dict.fromkeys(("frozen_train_px", "frozen_eval_px", "train_px", "eval_px"), COUNT),
    **dict.fromkeys(("decode_threads", "log_every", "checkpoint_every"), COUNT),
    "keep_checkpoints": COUNT,
    **dict.fromkeys(("weight_decay", "steps", "seed", "samples_every"), NOT_NEGATIVE),
    **dict.fromkeys(("frozen_learning_rate", "learning_rate", "tower_share"), POSITIVE),
    **dict.fromkeys(("momentum", "drop_path"), FRACTION),
    "min_area": SHARE,
    "decay_ratio": SHARE,
    "batch_norm_momentum": MOMENTUM,
    "stages": (1, 3, "1 or 2"),
}


IMAGENET = ClassifySettings()
"""ImageNet (Jia et al., 2021, section 5.3): 289 px frozen, then 475 px; evaluated at 360 and 600.

    python -m train.classify --preset imagenet --model=M --images=train --validation=val --run=C
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
    frozen_train_px=64,
    frozen_eval_px=64,
    train_px=64,
    eval_px=64,
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
"""For a run of `python -m train --preset tiny`: some hundred images, in a minute on a laptop.

BatchNorm's statistics stay: trained for 60 steps at 0.01 they were stale, and top-1 was at chance
where 58 % of the training images came out right.
"""

PRESETS = {"imagenet": IMAGENET, "fine-grained": FINE_GRAINED, "tiny": TINY}
