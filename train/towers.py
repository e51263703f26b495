"""The shapes of the two towers, by the names the paper gives them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ImageTower:
    """EfficientNet: B0's stages, and coefficients (floats, or HF refuses) of width and depth."""

    width: float
    depth: float
    channels: tuple[int, ...] = (16, 24, 40, 80, 112, 192, 320)
    kernels: tuple[int, ...] = (3, 3, 5, 3, 5, 5, 3)
    strides: tuple[int, ...] = (1, 2, 2, 2, 1, 2, 1)
    repeats: tuple[int, ...] = (1, 2, 2, 3, 3, 4, 1)
    expand: tuple[int, ...] = (1, 6, 6, 6, 6, 6, 6)


@dataclass(frozen=True)
class TextTower:
    """BERT. Heads are `heads` wide slices of `hidden`; the inner layer is 4 times `hidden`."""

    layers: int
    hidden: int
    heads: int


# Tan and Le, 2019 (B0 to B7) and Xie et al., 2020, table 7 (L2).
IMAGE_TOWERS = {
    "b0": ImageTower(1.0, 1.0),
    "b1": ImageTower(1.0, 1.1),
    "b2": ImageTower(1.1, 1.2),
    "b3": ImageTower(1.2, 1.4),
    "b4": ImageTower(1.4, 1.8),
    "b5": ImageTower(1.6, 2.2),
    "b6": ImageTower(1.8, 2.6),
    "b7": ImageTower(2.0, 3.1),
    "l2": ImageTower(4.3, 5.3),
    # Made for scenes of 64 px in seconds. Four stages, the first of them halves too, which takes
    # 0.41 of the time that a first stage of stride 1 takes; the last map is 4x4.
    "tiny": ImageTower(
        1.0,
        1.0,
        channels=(24, 48, 96, 192),
        kernels=(3, 3, 5, 3),
        strides=(2, 2, 2, 1),
        repeats=(1, 2, 2, 1),
        expand=(1, 4, 4, 4),
    ),
}

# Turc et al., 2019.
TEXT_TOWERS = {
    "tiny": TextTower(layers=2, hidden=128, heads=2),
    "mini": TextTower(layers=4, hidden=256, heads=4),
    "small": TextTower(layers=4, hidden=512, heads=8),
    "medium": TextTower(layers=8, hidden=512, heads=8),
    "base": TextTower(layers=12, hidden=768, heads=12),
    "large": TextTower(layers=24, hidden=1024, heads=16),
}
