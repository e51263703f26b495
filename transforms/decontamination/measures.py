"""The measure of overlap that settings name, ready to be used."""

from __future__ import annotations

from alignset.transforms.decontamination.overlap_measure import OverlapMeasure
from alignset.transforms.decontamination.overlap_settings import OverlapSettings


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
    from alignset.transforms.decontamination.embedding_overlap import embedding_measure

    return embedding_measure(settings.overlap_model)
