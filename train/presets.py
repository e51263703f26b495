"""Every number of a training run: one frozen dataclass, and the named sets of its values."""

import math
from dataclasses import dataclass, field, replace

from train.errors import SettingsError
from train.towers import IMAGE_TOWERS, TEXT_TOWERS


def _free(default):
    """A field that may differ when a run is resumed: it does not change what is learned."""
    return field(default=default, metadata={"free": True})


@dataclass(frozen=True)
class Settings:
    """One training run. Each field is also a flag of `python -m train`. Defaults: the paper's."""

    # Model (sections 4.1 and 5): names in train/towers.py.
    image_tower: str = "b7"
    text_tower: str = "base"
    vocabulary_size: int = 100_000
    max_tokens: int = 64
    drop_path: float = 0.2
    text_dropout: float = 0.1
    # Weight of the *new* batch in the running statistics: PyTorch's sense, 1 - TensorFlow's 0.99.
    batch_norm_momentum: float = 0.01
    # Images (section 5): resized to resize_px squares, then a crop of crop_px.
    resize_px: int = 346
    crop_px: int = 289
    horizontal_flip: bool = True
    # Loss (section 4.1).
    label_smoothing: float = 0.1
    temperature: float = 1.0
    # Optimiser (section 5). batch_size counts pairs over all processes.
    optimizer: str = "lamb"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    warmup_steps: int = 10_000
    steps: int = 1_200_000
    batch_size: int = 16_384
    seed: int = 0
    shuffle_samples: int = 10_000
    # How it is run, not what is learned.
    cached_images: int = _free(0)
    decode_threads: int = _free(8)
    log_every: int = _free(100)
    samples_every: int = _free(1_000)  # steps between two looks at what is trained on; 0: none
    trackers: str = _free("train.trackers:TensorBoard")  # comma-separated, as module:name
    checkpoint_every: int = _free(1_000)
    keep_checkpoints: int = _free(2)

    def __post_init__(self):
        for name, (low, high, allowed) in _ALLOWED.items():
            value = getattr(self, name)
            if not low <= value < high:  # also refuses nan
                raise SettingsError(f"{name} must be {allowed}; got {value}")
        for name, names in _NAMES.items():
            if getattr(self, name) not in names:
                allowed = ", ".join(names)
                raise SettingsError(f"{name} must be one of {allowed}; got {getattr(self, name)!r}")
        if self.crop_px > self.resize_px:
            raise SettingsError(
                f"crop_px must be at most resize_px; got {self.crop_px} and {self.resize_px}"
            )


_NAMES = {
    "image_tower": IMAGE_TOWERS,
    "text_tower": TEXT_TOWERS,
    "optimizer": ("lamb", "adamw"),
}
_COUNT = (1, math.inf, "at least 1")
_NOT_NEGATIVE = (0, math.inf, "at least 0 and finite")
_POSITIVE = (math.ulp(0.0), math.inf, "larger than 0 and finite")
_FRACTION = (0, 1, "at least 0 and below 1")
_ALLOWED = {
    **dict.fromkeys(("vocabulary_size", "resize_px", "crop_px", "steps", "batch_size"), _COUNT),
    **dict.fromkeys(("shuffle_samples", "decode_threads", "log_every"), _COUNT),
    **dict.fromkeys(("checkpoint_every", "keep_checkpoints"), _COUNT),
    **dict.fromkeys(("weight_decay", "warmup_steps", "cached_images", "seed"), _NOT_NEGATIVE),
    "samples_every": _NOT_NEGATIVE,
    **dict.fromkeys(("temperature", "learning_rate"), _POSITIVE),
    **dict.fromkeys(("drop_path", "text_dropout", "label_smoothing"), _FRACTION),
    "max_tokens": (3, 513, "3 to 512"),
    "batch_norm_momentum": (math.ulp(0.0), 1.0, "larger than 0 and below 1"),
}


B7_BASE = Settings()
"""ALIGN's own recipe (Jia et al., 2021, sections 4 and 5) at the size most ablations use.

EfficientNet-B7 + BERT-Base; 1.2M steps of 16,384 pairs with LAMB.
    torchrun --nproc_per_node=8 -m -- train --shards OUT/shards --run RUNS/b7 --preset b7-base
Not run by us: it needs 1.8 billion pairs and hundreds of accelerators.
"""

L2_LARGE = replace(B7_BASE, image_tower="l2", text_tower="large")
"""The paper's largest model, EfficientNet-L2 + BERT-Large (sections 4.1 and 5).

Published: R@1 on Flickr30K zero-shot 88.6 / 75.7, ImageNet zero-shot 76.4. Not run by us.
"""

TINY = replace(
    B7_BASE,
    image_tower="tiny",
    text_tower="tiny",
    vocabulary_size=2_000,
    max_tokens=32,
    drop_path=0.0,
    text_dropout=0.0,
    batch_norm_momentum=0.1,
    resize_px=72,
    crop_px=64,
    horizontal_flip=False,
    temperature=0.1,
    optimizer="adamw",
    learning_rate=2e-3,
    weight_decay=0.05,
    warmup_steps=40,
    steps=400,
    batch_size=128,
    shuffle_samples=4_096,
    cached_images=8_000,
    decode_threads=2,
    log_every=50,
    samples_every=200,
    checkpoint_every=200,
)
"""For `make demo`: some thousand scenes of coloured shapes, about 90 s on 2 idle CPU cores.

    python -m train --shards OUT/shards --run RUNS/tiny --preset tiny

Seen on the demo's 3,771 kept pairs: R@1 85.5 in both directions among 200 unseen combinations
(chance 0.5). Where things lie is not learned: a text beat its twin with the opposite relation
("above" for "below") for 91 of 200 images.

No flip: "left of" and "right of" would change places. BatchNorm's momentum is not the paper's 0.01,
which needs thousands of steps: after 450 it gave R@1 0.5 (chance) where 0.1 gave 89, from the same
weights; with the running statistics measured afresh they gave 89 too. AdamW, and a temperature
that starts near where it ends, because there are no steps to spare for finding it.
"""

PRESETS = {"tiny": TINY, "b7-base": B7_BASE, "l2-large": L2_LARGE}
