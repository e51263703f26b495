"""How images are compared with evaluation images, and what a run's documents say of these."""

# No `from __future__ import annotations` here: options.py reads the fields' types.
from dataclasses import dataclass, field

COPY_DISTANCE = 0.25  # docs/overlap.md
# What is nearer than this to an evaluation image is a copy of it, where no flag says otherwise: by
# the check of pairs, in bits of 64, and 1 less the cosine of the paper's 0.975.
MIN_DISTANCES = {"copy": COPY_DISTANCE, "phash": 6.0, "embedding": 0.025}
MEASURES = tuple(MIN_DISTANCES)


@dataclass(frozen=True)
class EvaluationFile:
    """A file of evaluation images: an image, a tar of them, or Parquet with a column of them."""

    name: str  # of the evaluation set
    path: str
    bytes: int = 0


@dataclass(frozen=True)
class EvaluationSet:
    """How many images a dataset has, and how many more cannot be decoded."""

    images: int = 0
    unreadable: int = 0


@dataclass(frozen=True)
class OverlapSettings:
    """How near an image is to an evaluation image. Flags are named after these fields."""

    overlap_measure: str = field(
        default="copy",
        metadata={
            "help": "how copies of evaluation images are found: copy, by a small descriptor and a "
            "check of each pair; phash, by perceptual hashes; embedding, by an image model"
        },
    )
    decontaminate_only: bool = field(
        default=False,
        metadata={
            "help": "drop copies of evaluation images and nothing else: each other rule is off, "
            "unless its flag is given"
        },
    )
    score_only: bool = field(
        default=False,
        metadata={
            "help": "add NSFW scores, hashes and distances to evaluation images, and drop none "
            "that is a pair with an image: each rule is off, unless its flag is given"
        },
    )
    overlap_model: str = field(
        default="",
        metadata={"help": "of the measure embedding: the image model, a file FILE.onnx"},
    )
    eval_index: str = field(
        default="",
        metadata={
            "help": "a folder for the index of evaluation images, which later runs use too "
            "(default: OUT.eval_index); without --eval_images, an index to use as it is"
        },
    )

    def __post_init__(self) -> None:
        if self.decontaminate_only and self.score_only:
            raise ValueError("decontaminate_only drops what score_only keeps: pass one of them")
        if self.overlap_measure not in MEASURES:
            raise ValueError(
                f"overlap_measure must be one of {', '.join(MEASURES)}; "
                f"got {self.overlap_measure!r}"
            )
        if self.overlap_measure == "embedding" and not self.overlap_model:
            raise ValueError(
                "overlap_measure=embedding needs a model: pass overlap_model=FILE.onnx"
            )
