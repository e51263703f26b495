"""How images are compared with evaluation images, and where the index of these is kept."""

# No `from __future__ import annotations` here: options.py reads the fields' types.
import os
from dataclasses import dataclass, field
from functools import lru_cache

from transforms.decontamination.copy_overlap import CopyMeasure
from transforms.decontamination.embedding_model import (
    PACKAGED,
    EmbeddingModel,
    describe_embedding_model,
)
from transforms.decontamination.embedding_overlap import EmbeddingMeasure
from transforms.decontamination.overlap_measure import OverlapMeasure
from transforms.decontamination.perceptual_overlap import PerceptualMeasure
from transforms.storage.files import is_local

MEASURES = ("copy", "phash", "embedding")
SEARCHES = ("exact", "buckets")


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
    overlap_model: str = field(
        default=PACKAGED,
        metadata={
            "help": f"of the measure embedding: {PACKAGED}, FILE.onnx, FILE.pt (TorchScript) "
            "or timm:NAME"
        },
    )
    overlap_search: str = field(
        default="exact",
        metadata={
            "help": "of the measure embedding: exact, or buckets of clusters as in the paper"
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
        if self.overlap_search not in SEARCHES:
            raise ValueError(
                f"overlap_search must be one of {', '.join(SEARCHES)}; got {self.overlap_search!r}"
            )

    @property
    def measure(self) -> OverlapMeasure:
        """What does it. Of embeddings the model is opened, once in a process.

        Raises:
          ValueError: the model cannot be used.
        """
        if self.overlap_measure == "phash":
            return PerceptualMeasure()
        if self.overlap_measure == "copy":
            return CopyMeasure()
        return EmbeddingMeasure(_model(self.overlap_model), self.overlap_search)


@lru_cache(maxsize=1)
def _model(name: str) -> EmbeddingModel:
    is_file = name.endswith((".onnx", ".pt")) and is_local(name)
    return describe_embedding_model(os.path.abspath(name) if is_file else name)
