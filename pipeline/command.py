"""A whole command, in which a flag that cannot have an effect is refused, with what it needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from alignset.pipeline.job import Job
from alignset.pipeline.rules import Rules
from alignset.transforms.decontamination.overlap_settings import OverlapSettings
from alignset.transforms.fetching.fetch_settings import FetchSettings
from alignset.transforms.images.resize_settings import ResizeSettings
from alignset.transforms.rules.catalogue import (
    KEEP_MOST_SIMILAR,
    PRODUCT,
    Catalogue,
    RunRules,
    limits,
)
from alignset.transforms.rules.language import MIN_LANGUAGE_SCORE
from alignset.transforms.rules.language_codes import ENGLISH
from alignset.transforms.rules.overlap import MIN_EVALUATION_DISTANCE
from alignset.transforms.rules.unsafe import MAX_UNSAFE_SCORE

if TYPE_CHECKING:
    import pyarrow as pa
    from apache_beam.options.pipeline_options import PipelineOptions


@dataclass(frozen=True)
class Command:
    """A whole command, checked."""

    job: Job
    rules: Rules
    overlap: OverlapSettings
    fetch: FetchSettings
    resize: ResizeSettings
    beam: PipelineOptions
    carried: tuple[pa.Field, ...] = ()  # once the input was found: its columns that go with pairs

    @property
    def run_rules(self) -> RunRules:
        """Settings by which workers judge."""
        return replace(self.rules.run_rules, carried=self.carried)


class _Needless(NamedTuple):
    """Flags that have no effect, because of what is set, and what would give them one."""

    flags: tuple[str, ...]
    because: str
    need: str


def _names(settings: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(settings))


_OF_PAGES = (
    *("user_agent_token", "disallowed_page_directives", "tdm_reservation", "content_usage"),
    "opt_outs",
)
_OF_IMAGES = (
    # The card names the contact, and pages have opt-outs too.
    *(name for name in _names(FetchSettings) if name not in ("contact", *_OF_PAGES)),
    *_names(ResizeSettings),
    *("eval_images", "samples_per_shard", "holdout", "unsafe_model", "score_model"),
    *("duplicates", "holdout_copies", "verify_hash", KEEP_MOST_SIMILAR),
    *("min_blocked_phash_distance", "min_blocked_pdq_distance", "thumbnails"),
    *_names(OverlapSettings),
)
_OF_ENCODING = ("encode_format", "encode_quality", "exact_resize")
_OF_SIZE = (
    *("image_size", "resize_only_if_bigger", "upscale_interpolation", "downscale_interpolation"),
)


def _needless(command: Command) -> Iterator[_Needless]:
    if command.job.text_only:
        yield _Needless(
            of_images(command.rules.catalogue),
            "--text_only fetches no image",
            "leave --text_only out",
        )
    yield from _needless_to_resize(command.resize.resize_mode)
    yield from _needless_to_compare(command)
    yield from _needless_to_score(command)
    if not command.job.holdout:
        yield _Needless(("holdout_copies",), "nothing is held out", "give --holdout")
    if not command.job.blocklist:
        flags = ("forget_blocked", "min_blocked_phash_distance", "min_blocked_pdq_distance")
        yield _Needless(flags, "there is no blocklist", "give --blocklist=FILE")
    if not command.rules.language_rule.has_vote:
        why = "the languages of texts are not found"
        yield _Needless(("like", "words_per_language"), why, "pass --language=all, or a list")
    if not command.rules.language_rule.languages:
        yield _Needless(("language_detector",), "--language= keeps all texts", "give --language")
    if command.rules.language_rule.languages != (ENGLISH,) or command.rules.language_detector:
        why = "it is of English by itself, and other languages are found by a vote"
        need = "leave --language and --language_detector out"
        yield _Needless((MIN_LANGUAGE_SCORE.name,), why, need)
    if not command.fetch.retries:
        yield _Needless(("max_retry_after_s",), "--retries=0 tries nothing again", "give --retries")


def _needless_to_resize(mode: str) -> Iterator[_Needless]:
    modes = "--resize_mode=keep_ratio, or another mode that resizes"
    if mode == "original":
        why = "--resize_mode=original keeps each file as it came"
        yield _Needless((*_OF_SIZE, *_OF_ENCODING), why, f"give {modes}")
    if mode == "no":
        yield _Needless(_OF_SIZE, "--resize_mode=no keeps each image's size", f"give {modes}")


def _needless_to_compare(command: Command) -> Iterator[_Needless]:
    if (
        not command.job.eval_images and not command.overlap.eval_index
    ):  # which alone may be an index
        names = (name for name in _names(OverlapSettings) if name != "score_only")
        flags = (MIN_EVALUATION_DISTANCE.name, *names)
        yield _Needless(flags, "there are no evaluation images", "give --eval_images=NAME=PATH")


def _needless_to_score(command: Command) -> Iterator[_Needless]:
    if not command.job.unsafe_model:
        why = "--unsafe_model= scores no image"
        yield _Needless((MAX_UNSAFE_SCORE.name,), why, "pass an --unsafe_model")
    off = MAX_UNSAFE_SCORE.is_off(command.rules.max_unsafe_score)
    if off and not command.overlap.score_only:
        why = "--max_unsafe_score=1 scores no image"
        yield _Needless(("unsafe_model",), why, "pass a lower --max_unsafe_score")


def of_images(catalogue: Catalogue = PRODUCT) -> tuple[str, ...]:
    """The flags that concern images alone."""
    return (*_OF_IMAGES, *(limit.name for limit in limits(catalogue.images)))


def needless_flag(flag_names: Collection[str], command: Command) -> str | None:
    """The fault of the first flag that cannot have an effect, or None.

    Args:
      flag_names: the names of the flags of the command line. command: that they describe.
    """
    for needless in _needless(command):
        for flag in needless.flags:
            if flag in flag_names:
                return f"--{flag} has no effect, since {needless.because}: {needless.need}"
    return None
