"""Which classifier scores the images of a run, checked before anything is fetched."""

from __future__ import annotations

from pipeline.job import OPENNSFW, Job
from pipeline.options import UsageError
from pipeline.rules import Rules
from transforms.safety.classifier import open_classifier
from transforms.safety.model_files import (
    OPEN_NSFW,
    ModelError,
    UnsafeModel,
    describe_model,
    open_nsfw_path,
)


def find_unsafe_model(job: Job, rules: Rules) -> UnsafeModel | None:
    """The model to score images with, None where none is to be scored.

    Raises:
      UsageError: it is not there, or no model that can be used.
    """
    if job.text_only or not job.unsafe_model or rules.max_unsafe_score >= 1:
        return None
    try:
        if job.unsafe_model == OPENNSFW:
            open_nsfw_path()
            return OPEN_NSFW
        model = describe_model(job.unsafe_model)
        open_classifier(model)
        return model
    except ModelError as error:
        raise UsageError(str(error)) from error
