"""All settings of a run in one object, and what a setting needs to have an effect."""

# No `from __future__ import annotations` here: options.py reads the fields' types.
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from alignset.pipeline.other_flags import beam_options
from alignset.settings import Allowed, Checked, between, declared_fields, matching, one_of, setting
from alignset.transforms.arrivals.image_settings import ImageSettings
from alignset.transforms.decontamination.overlap_settings import OverlapSettings
from alignset.transforms.fetching.fetch_settings import FETCH_DETAILS, GONE, FetchSettings
from alignset.transforms.images.resize_settings import ResizeSettings
from alignset.transforms.pages.page_files import PAGE_FORMATS
from alignset.transforms.rules.language_codes import ENGLISH
from alignset.transforms.rules.recipes import RECIPES
from alignset.transforms.rules.rule import IMAGES, TEXTS
from alignset.transforms.rules.rule_settings import RuleSettings
from alignset.transforms.rules.thresholds import MAX_UNSAFE_SCORE

FORMATS = ("auto", "parquet", "csv", "tsv", "jsonl", "webdataset", *PAGE_FORMATS)

MOST_THUMBNAILS = 256  # of a kind, of a shard: 8 MB of each
OPENNSFW = "opennsfw"  # the classifier that comes with a package
ABOUT = ("title", "description", "license")  # what a person says of the dataset
# Flags that describe the files of the input, and flags that name other files, whose folders no
# document has.
INPUT_FLAGS = ("input_format", "url_column", "text_column", "base_url")
FILE_FLAGS = (
    *("rules", "vocabulary", "blocklist", "eval_images", "eval_index"),
    *("unsafe_model", "score_model", "concepts"),
)


def split_inputs(text: str) -> list[str]:
    r"""The paths in a list by commas; `\,` is a comma within a path."""
    return [path.replace(r"\,", ",") for path in re.split(r"(?<!\\),", text)]


# Documents have these, or the files that they name, in fields of their own.
_named = partial(setting, decides=False)
_told = partial(setting, allowed=matching(r"[^\x00-\x1f\x7f]*", "one line"), decides=False)


@dataclass(frozen=True)
class Job(Checked):
    """Input and output."""

    input: str = _named(
        "",
        "files, globs or folders, comma-separated (required); in a name, write a comma as \\,",
        brief=True,
    )
    output: str = _named("", "a folder for the dataset (required)", brief=True)
    input_format: str = setting("auto", ", ".join(FORMATS), allowed=one_of(FORMATS))
    url_column: str = setting("", "found by its usual names if not given")
    text_column: str = setting("", "found by its usual names if not given")
    columns: str = setting(
        "",
        "NAME,... or all: columns of the input to copy to every output file (docs/inputs.md)",
        several=True,
    )
    rules: str = _named("", "FILE.py or FILE.py:FLAG,...: rules of your own (docs/rules.md)")
    recipe: str = setting(
        "align",
        "whose rules are the defaults: align, datacomp-basic, coyo, or none, which keeps every "
        "pair whose image arrives and may be used",
        brief="rules to start from; none keeps all",
        allowed=one_of(RECIPES),
        decides=False,  # by the rules alone
    )
    score_model: str = setting(
        "",
        "a model that scores the similarity of image and text: a run, an ALIGN, CLIP or SigLIP, "
        "or open_clip:NAME@WEIGHTS",
        needs=IMAGES,
    )
    base_url: str = setting(
        "",
        "URL at which a folder of html is served, such as https://docs.example/",
        allowed=matching(
            "(?s)(https?://[^/].*)?", "an absolute http(s) URL, such as https://docs.example/"
        ),
    )
    text_only: bool = setting(False, "stop after the text rules; kept pairs go to pairs/")
    eval_images: str = _named(
        "",
        "NAME=PATH,...: folders, shards or Parquet of images to keep out",
        brief="NAME=PATH,...: images to keep out of the dataset",
        step=IMAGES,
    )
    blocklist: str = _named(
        "",
        "FILE,... or NAME=FILE,... of hosts, URLs, words and hashes that must not be in the "
        "dataset, or image:PATH (docs/politeness.md)",
        step="texts images",
        needs="",
    )
    forget_blocked: bool = setting(
        False,
        "write neither URL nor text of blocked pairs to rejected/",
        step="texts images",
        needs="blocklist",
    )
    lists_changed: bool = setting(
        False,
        "the files of --blocklist may be newer than the lists of datasets in the input",
        decides=False,
        step="texts images",
        needs="blocklist",
    )
    unsafe_model: str = _named(
        OPENNSFW,
        "classifier of NSFW images: opennsfw, or FILE.onnx with FILE.json; empty scores none",
        step=IMAGES,
        needs="images scores",
    )
    vocabulary: str = _named(
        "",
        "a vocabulary.u64, or a dataset with one, in place of the input's own",
        step=TEXTS,
    )
    retry_failed: str = setting(
        "",
        "fetch again what --images_from or --input could not: all but http_404 and http_410, or "
        "only these details (dns,timeout), or all",
        decides=False,
        alone="true",
        metavar="DETAILS",
        step=IMAGES,
    )
    on_broken_input: str = setting(
        "skip",
        "skip input files that are broken where others remain, or fail",
        allowed=one_of(("skip", "fail")),
    )
    samples_per_shard: int = setting(
        10_000, "pairs in a shard, about", allowed=between(1), step=IMAGES
    )
    holdout: float = setting(
        0.0,
        "this share of the images goes to holdout/; 1 or more: about so many pairs",
        brief="this share of the images goes to holdout/, to validate on",
        allowed=Allowed(
            "a share below 1, such as 0.01, or a number of pairs",
            lambda share: 0 <= share < 1 or (share >= 1 and share % 1 == 0),
        ),
        step=IMAGES,
    )
    holdout_copies: str = setting(
        "drop",
        "drop held-out pairs whose image is in shards/ too, or keep them (docs/duplicates.md)",
        allowed=one_of(("drop", "keep")),
        needs="images holdout",
    )
    duplicates: str = setting(
        "keep",
        "keep duplicate images; exact: keep one of equal files; near: also one of similar "
        "photographs (docs/duplicates.md)",
        allowed=one_of(("keep", "exact", "near")),
        needs=IMAGES,
    )
    title: str = _told("", "the dataset's name on its card")
    description: str = _told("", "a paragraph for the card")
    license: str = _told("", "the dataset's licence on its card, such as cc-by-4.0")
    quiet: bool = setting(
        False, "print only warnings, errors and, at the end, the funnel", decides=False
    )
    progress: str = setting(
        "line",
        "of the image stage, on standard error; json: a line of JSON each second, "
        "also in a quiet run (docs/operations.md)",
        allowed=one_of(("line", "json")),
        decides=False,
    )
    workers: int = setting(
        0,
        "processes of this machine; 0: one, which uses up to four cores",
        brief=True,
        allowed=between(0),
        decides=False,
    )
    thumbnails: int = setting(
        16,
        "small images of dropped pairs per rule and shard, for the report; 0: none",
        allowed=between(0, MOST_THUMBNAILS, f"from 0, which stores none, to {MOST_THUMBNAILS}"),
        step=IMAGES,
    )
    batch_rows: int = setting(131_072, "rows measured at once", allowed=between(1), decides=False)

    @property
    def inputs(self) -> list[str]:
        """The files, globs and folders."""
        return split_inputs(self.input)

    def check(self) -> None:
        for name in ("input", "output"):
            if not getattr(self, name):
                raise ValueError(f"{name} is required: pass --{name}=PATH")
        for detail in self.retry_failed.split(",") if self.retry_failed else ():
            if detail not in FETCH_DETAILS and self.retry_failed not in ("true", "all"):
                raise ValueError(
                    f"retry_failed must be all, or details of fetch_failed, comma-separated: "
                    f"{', '.join(sorted(FETCH_DETAILS))}; got {detail!r}"
                )

    @property
    def retried(self) -> frozenset[str]:
        """The details of failed fetches of known images that are tried again."""
        named = {"": frozenset[str](), "true": FETCH_DETAILS - GONE, "all": FETCH_DETAILS}
        return named.get(self.retry_failed, frozenset(self.retry_failed.split(",")))


if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

# By topic. Code that needs one group alone, such as a fetcher, is annotated with its class.
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
class Settings(ImageSettings, ResizeSettings, FetchSettings, OverlapSettings, RuleSettings, Job):
    """All settings of a run, checked. Workers get them whole."""

    beam: "PipelineOptions" = field(default_factory=lambda: beam_options([], ()), compare=False)

    def check(self) -> None:
        if self.text_only:
            for limit in self.catalogue.custom:
                if limit.judges == IMAGES:
                    flag = "score_model" if self.score_model else "rules"
                    raise ValueError(
                        f"--{flag}: the rule {limit.name} looks at images, and --text_only fetches "
                        "none: leave it out (FILE.py:FLAG names one rule of a file), or leave "
                        "--text_only out"
                    )
        if self.keep_most_similar == 1:
            return
        if self.duplicates != "keep":
            raise ValueError(
                f"keep_most_similar and --duplicates={self.duplicates} are two runs: first the "
                "duplicates, and then that dataset's shards/ as --input with --keep_most_similar"
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
        lambda its: its.resize_mode != "original" or its.blur_boxes,
        "--resize_mode=original keeps each file as it came",
        _RESIZING,
    ),
    "sizing": Need(
        lambda its: its.resize_mode not in ("no", "original"),
        "--resize_mode=no keeps each image's size, as original does",
        _RESIZING,
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
    """Says which given flag has no effect, why, and what it needs; None where each has one."""
    for name, need in NEEDS.items():
        if need.holds(settings):
            continue
        for flag, of in DECLARED.items():
            if flag in names and name in of.metadata["needs"]:
                return f"--{flag} has no effect, since {need.otherwise}: {need.remedy}"
    return None
