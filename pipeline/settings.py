"""All settings of a run in one object, and what a setting needs to have an effect."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from alignset.pipeline.job import Job
from alignset.pipeline.other_flags import beam_options
from alignset.settings import declared_fields
from alignset.transforms.decontamination.overlap_settings import OverlapSettings
from alignset.transforms.fetching.fetch_settings import FetchSettings
from alignset.transforms.images.resize_settings import ResizeSettings
from alignset.transforms.rules.language_codes import ENGLISH
from alignset.transforms.rules.rule import IMAGES
from alignset.transforms.rules.rule_settings import RuleSettings
from alignset.transforms.rules.unsafe import MAX_UNSAFE_SCORE

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

# By what they are about. Who needs some alone, such as a fetcher, is annotated with their class.
GROUPS: dict[str, type] = {
    "input and output": Job,
    "rules": RuleSettings,
    "evaluation images": OverlapSettings,
    "fetching": FetchSettings,
    "resizing": ResizeSettings,
}
# As documents of a dataset name them.
DOCUMENTED = {"job": Job, "rules": RuleSettings, "resize": ResizeSettings, "fetch": FetchSettings}
REPORTED = {"opt_outs": "report"}  # with --decontaminate_only, beside `Catalogue.opened`
DECLARED = {of.name: of for kind in GROUPS.values() for of in declared_fields(kind)}


@dataclass(frozen=True)
class Settings(ResizeSettings, FetchSettings, OverlapSettings, RuleSettings, Job):
    """All settings of a run, checked. Workers get them whole."""

    beam: PipelineOptions = field(default_factory=lambda: beam_options([], ()), compare=False)

    def check(self) -> None:
        if self.text_only:
            for limit in self.catalogue.custom:
                if limit.plane == IMAGES:
                    flag = "score_model" if self.score_model else "rules"
                    raise ValueError(
                        f"--{flag}: the rule {limit.name} looks at images, and --text_only fetches "
                        "none: leave it out (FILE.py:FLAG names one rule of a file), or leave "
                        "--text_only out"
                    )
        if self.keep_most_similar == 1:
            return
        if self.retry_failed:
            raise ValueError(
                "keep_most_similar is of a whole dataset, and --retry_failed adds to one: make "
                f"another with --input={self.output} --also_rejected=fetch_failed,less_similar "
                "--output=NEW"
            )
        if self.duplicates != "keep":
            raise ValueError(
                f"keep_most_similar and --duplicates={self.duplicates} are two runs: first the "
                "duplicates, and then that dataset as --input with --keep_most_similar"
            )


def deciding_settings(settings: Settings) -> dict[str, dict[str, Any]]:
    """The settings that decide what comes out, by the groups of documents."""
    return {
        name: {
            of.name: getattr(settings, of.name)
            for of in declared_fields(kind)
            if of.metadata["decides"]
        }
        for name, kind in DOCUMENTED.items()
    }


class Need(NamedTuple):
    """A condition without which some settings have no effect: why not, and what gives them one."""

    holds: Callable[[Settings], Any]
    otherwise: str
    remedy: str


_RESIZING = "give --resize_mode=keep_ratio, or another mode that resizes"
NEEDS = {
    "images": Need(
        lambda its: not its.text_only, "--text_only fetches no image", "leave --text_only out"
    ),
    "encoding": Need(
        lambda its: its.resize_mode != "original",
        "--resize_mode=original keeps each file as it came",
        _RESIZING,
    ),
    "sizing": Need(
        lambda its: its.resize_mode != "no", "--resize_mode=no keeps each image's size", _RESIZING
    ),
    "eval_images": Need(
        lambda its: its.eval_images or its.eval_index,  # which alone may be an index
        "there are no evaluation images",
        "give --eval_images=NAME=PATH",
    ),
    "unsafe_model": Need(
        lambda its: its.unsafe_model, "--unsafe_model= scores no image", "pass an --unsafe_model"
    ),
    "scores": Need(
        lambda its: its.score_only or not MAX_UNSAFE_SCORE.is_off(its.max_unsafe_score),
        "--max_unsafe_score=1 scores no image",
        "pass a lower --max_unsafe_score",
    ),
    "holdout": Need(lambda its: its.holdout, "nothing is held out", "give --holdout"),
    "blocklist": Need(lambda its: its.blocklist, "there is no blocklist", "give --blocklist=FILE"),
    "vote": Need(
        lambda its: its.has_vote,
        "the languages of texts are not found",
        "pass --language=all, or a list",
    ),
    "languages": Need(
        lambda its: its.languages,
        "--language= keeps all texts",
        "give --language",
    ),
    "english": Need(
        lambda its: its.languages == (ENGLISH,) and not its.language_detector,
        "it is of English by itself, and other languages are found by a vote",
        "leave --language and --language_detector out",
    ),
    "retries": Need(lambda its: its.retries, "--retries=0 tries nothing again", "give --retries"),
}


def needless_flag(names: Collection[str], settings: Settings) -> str | None:
    """Says of the first of some given flags that cannot have an effect what it needs; or None."""
    for name, need in NEEDS.items():
        if need.holds(settings):
            continue
        for flag, of in DECLARED.items():
            if flag in names and name in of.metadata["needs"]:
                return f"--{flag} has no effect, since {need.otherwise}: {need.remedy}"
    return None
