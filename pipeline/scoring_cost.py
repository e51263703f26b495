"""What the scoring of unsafe images will cost, said before it begins."""

from __future__ import annotations

from alignset.transforms.safety.classifier import open_classifier
from alignset.transforms.safety.model_files import UnsafeModel

DECODE_S = 0.0015  # CPU-seconds of a photograph of 640x480 on its way to the model


def scoring_cost(model: UnsafeModel, pairs: int) -> str:
    """One line about the scoring of so many images, by what it costs on this machine."""
    off = "--max_unsafe_score=1 turns it off"
    classifier = open_classifier(model)
    if classifier.on_gpu:
        return f"unsafe images are scored on a GPU; {off}"
    core_s = pairs * (classifier.cpu_s_an_image() + DECODE_S)
    return f"unsafe images are scored: about {_core_time(core_s)}; {off}"


def _core_time(core_s: float) -> str:
    """As "12 core-seconds", "3 core-minutes", "1.4 core-hours", "35,200 core-hours"."""
    for unit, unit_s in (("hour", 3600), ("minute", 60), ("second", 1)):
        if core_s >= unit_s or unit == "second":
            break
    amount = core_s / unit_s
    shown = f"{amount:.1f}" if unit == "hour" and amount < 10 else f"{max(1, round(amount)):,}"
    return f"{shown} core-{unit}{'' if shown == '1' else 's'}"
