"""Which classifier scores the images of a run, checked before anything is fetched."""

from __future__ import annotations

from alignset.pipeline.errors import UsageError
from alignset.pipeline.job import OPENNSFW, Job
from alignset.pipeline.rules import Rules
from alignset.transforms.rules.unsafe import MAX_UNSAFE_SCORE
from alignset.transforms.safety.classifier import open_classifier
from alignset.transforms.safety.model_files import (
    ModelError,
    UnsafeModel,
    describe_model,
    open_nsfw_path,
    usual_model,
)


def find_unsafe_model(job: Job, rules: Rules) -> UnsafeModel | None:
    """The model to score images with, None where none is to be scored.

    Raises:
      UsageError: it is not there, or no model that can be used.
    """
    if job.text_only or not job.unsafe_model or MAX_UNSAFE_SCORE.is_off(rules.max_unsafe_score):
        return None
    try:
        if job.unsafe_model == OPENNSFW:
            open_nsfw_path()
            return usual_model(rules.max_unsafe_score)
        model = describe_model(job.unsafe_model)
        open_classifier(model)
        return model
    except ModelError as error:
        raise UsageError(str(error)) from error
