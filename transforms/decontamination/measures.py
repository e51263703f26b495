"""The measure of overlap that settings name, ready to be used."""

from __future__ import annotations

import os
from functools import lru_cache

from alignset.transforms.decontamination.overlap_measure import OverlapMeasure
from alignset.transforms.decontamination.overlap_settings import OverlapSettings
from alignset.transforms.storage.files import is_local


def measure_of(settings: OverlapSettings) -> OverlapMeasure:
    """Makes the measure that settings name. A model of embeddings is opened, once in a process.

    Raises:
      ValueError: the model cannot be used.
    """
    # Each only now: a run without evaluation images needs neither cv2, faiss nor onnxruntime.
    if settings.overlap_measure == "phash":
        from alignset.transforms.decontamination.perceptual_overlap import PerceptualMeasure

        return PerceptualMeasure()
    if settings.overlap_measure == "copy":
        from alignset.transforms.decontamination.copy_overlap import CopyMeasure

        return CopyMeasure()
    return _embedding_measure(settings.overlap_model, settings.overlap_search)


@lru_cache(maxsize=1)
def _embedding_measure(name: str, search: str) -> OverlapMeasure:
    from alignset.transforms.decontamination.embedding_model import describe_embedding_model
    from alignset.transforms.decontamination.embedding_overlap import EmbeddingMeasure

    is_file = name.endswith((".onnx", ".pt")) and is_local(name)
    model = describe_embedding_model(os.path.abspath(name) if is_file else name)
    return EmbeddingMeasure(model, search)
