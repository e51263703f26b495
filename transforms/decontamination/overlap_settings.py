"""How images are compared with evaluation images, and where the index of these is kept."""

# No `from __future__ import annotations` here: options.py reads the fields' types.
from dataclasses import dataclass, field

from transforms.decontamination.copy_overlap import CopyMeasure
from transforms.decontamination.overlap_measure import OverlapMeasure
from transforms.decontamination.perceptual_overlap import PerceptualMeasure

MEASURES = ("copy", "phash", "embedding")


@dataclass(frozen=True)
class OverlapSettings:
    """How near an image is to an evaluation image. Flags are named after these fields."""

    overlap_measure: str = field(
        default="copy",
        metadata={
            "help": "how copies of evaluation images are told: copy, by a small descriptor and a "
            "check of each pair; phash, by perceptual hashes; embedding, by an image model"
        },
    )
    eval_index: str = field(
        default="",
        metadata={
            "help": "a folder for the index of evaluation images, which later runs use too "
            "(default: OUT.eval_index); without --eval_images, an index to use as it is"
        },
    )

    def __post_init__(self) -> None:
        if self.overlap_measure not in MEASURES:
            raise ValueError(
                f"overlap_measure must be one of {', '.join(MEASURES)}; "
                f"got {self.overlap_measure!r}"
            )

    @property
    def measure(self) -> OverlapMeasure:
        """What does it."""
        return PerceptualMeasure() if self.overlap_measure == "phash" else CopyMeasure()
