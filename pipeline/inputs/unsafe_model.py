"""Which classifier scores the images of a run, checked before anything is fetched."""

from __future__ import annotations

from alignset.pipeline.errors import UsageError
from alignset.pipeline.job import OPENNSFW, OPENNSFW_QUICK, Job
from alignset.pipeline.rules import Rules
from alignset.transforms.rules.unsafe import MAX_UNSAFE_SCORE
from alignset.transforms.safety.classifier import open_classifier
from alignset.transforms.safety.model_files import (
    OPEN_NSFW,
    OPEN_NSFW_QUICKLY,
    ModelError,
    UnsafeModel,
    describe_model,
    open_nsfw_path,
)

# The lowest max_unsafe_score with a quick look: of the pictures that it was measured on it settled
# some with a whole score above 0.2, and none with a higher one than this.
QUICK_LOOK_FROM = 0.3


def find_unsafe_model(job: Job, rules: Rules) -> UnsafeModel | None:
    """The model to score images with, None where none is to be scored.

    Raises:
      UsageError: it is not there, or no model that can be used.
    """
    if job.text_only or not job.unsafe_model or MAX_UNSAFE_SCORE.is_off(rules.max_unsafe_score):
        return None
    try:
        if job.unsafe_model in (OPENNSFW, OPENNSFW_QUICK):
            open_nsfw_path()
            return _quickly(rules) if job.unsafe_model == OPENNSFW_QUICK else OPEN_NSFW
        model = describe_model(job.unsafe_model)
        open_classifier(model)
        return model
    except ModelError as error:
        raise UsageError(str(error)) from error


def _quickly(rules: Rules) -> UnsafeModel:
    if rules.max_unsafe_score < QUICK_LOOK_FROM:
        raise UsageError(
            f"unsafe_model={OPENNSFW_QUICK} needs a max_unsafe_score of {QUICK_LOOK_FROM} or more, "
            f"since images up to there may be settled by the quick look; got "
            f"{rules.max_unsafe_score}: give --unsafe_model={OPENNSFW} with it (docs/safety.md)"
        )
    return OPEN_NSFW_QUICKLY
