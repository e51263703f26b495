"""Flags that cannot have an effect in a run are refused, with the flag that they need."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from typing import NamedTuple

from pipeline.rules import Rules
from transforms.decontamination.overlap_settings import OverlapSettings
from transforms.fetching.fetch import FetchSettings
from transforms.images.resize import ResizeSettings
from transforms.pairs.language import ENGLISH


class _Needless(NamedTuple):
    """Flags that have no effect, because of what is set, and what would give them one."""

    flags: tuple[str, ...]
    because: str
    needed: str


def _names(settings: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(settings))


_OF_IMAGES = (
    *(name for name in _names(FetchSettings) if name != "contact"),  # the card names it
    *_names(ResizeSettings),
    *("min_image_side", "max_image_aspect", "min_evaluation_distance"),
    *("eval_images", "samples_per_shard", "holdout", *_names(OverlapSettings)),
)
_OF_ENCODING = ("encode_format", "encode_quality")
_OF_SIZE = (
    *("image_size", "resize_only_if_bigger", "upscale_interpolation", "downscale_interpolation"),
)
_OF_LANGDETECT = ("min_unsure_language_score", "min_langdetect_probability")
_OF_LANGUAGE = ("min_language_score", *_OF_LANGDETECT)


def _needless(
    text_only: bool, evaluation: bool, rules: Rules, fetch: FetchSettings, resize: ResizeSettings
) -> Iterator[_Needless]:
    if text_only:
        yield _Needless(_OF_IMAGES, "--text_only fetches no image", "leave --text_only out")
    modes = "--resize_mode=keep_ratio, or another mode that resizes"
    if resize.resize_mode == "original":
        why = "--resize_mode=original keeps each file as it came"
        yield _Needless((*_OF_SIZE, *_OF_ENCODING), why, f"give {modes}")
    if resize.resize_mode == "no":
        yield _Needless(_OF_SIZE, "--resize_mode=no keeps each image's size", f"give {modes}")
    if not evaluation:  # --eval_index alone may be an index
        why = "there are no evaluation images"
        flags = ("min_evaluation_distance", *_names(OverlapSettings))
        yield _Needless(flags, why, "give --eval_images=NAME=PATH")
    if not rules.language:
        yield _Needless(_OF_LANGUAGE, "--language= keeps all languages", "give a --language")
    if rules.language == ENGLISH:
        why = "English is judged by eldc and by its words alone"
        yield _Needless(_OF_LANGDETECT, why, "give --min_language_score, or another --language")
    if not fetch.retries:
        yield _Needless(("max_retry_after_s",), "--retries=0 tries nothing again", "give --retries")


def needless_flag(
    given: Collection[str],
    *,
    text_only: bool,
    evaluation: bool,
    rules: Rules,
    fetch: FetchSettings,
    resize: ResizeSettings,
) -> str | None:
    """What is wrong with the first flag that cannot have an effect, or None.

    Args:
      given: the names of the flags of the command line.
      evaluation: whether there are evaluation images.
    """
    for needless in _needless(text_only, evaluation, rules, fetch, resize):
        for flag in needless.flags:
            if flag in given:
                return f"--{flag} has no effect, since {needless.because}: {needless.needed}"
    return None
