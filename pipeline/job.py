"""Input and output of a command. Its flags are derived from these fields."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from alignset.settings import Allowed, Checked, between, matching, one_of, setting
from alignset.transforms.fetching.fetch_settings import FETCH_DETAILS
from alignset.transforms.pages.page_files import PAGE_FORMATS
from alignset.transforms.rules import given
from alignset.transforms.rules.catalogue import PRODUCT, Catalogue
from alignset.transforms.rules.rule import IMAGES, TEXTS

FORMATS = ("auto", "parquet", "csv", "tsv", "jsonl", "webdataset", *PAGE_FORMATS)

MOST_THUMBNAILS = 256  # of a kind, of a shard: 8 MB of each
OPENNSFW = "opennsfw"  # the classifier that comes with a package
ABOUT = ("title", "description", "license")  # what a person says of the dataset

_FINAL = {
    *(given.BROKEN_PAGE, given.BROKEN_INPUT, given.MALFORMED_PAIR, given.DUPLICATE_PAIR),
    *(given.TAKEN_DOWN, given.REMOVED_BEFORE),
}


def split_inputs(text: str) -> list[str]:
    r"""The paths in a list by commas; `\,` is a comma within a path."""
    return [path.replace(r"\,", ",") for path in re.split(r"(?<!\\),", text)]


def undoable_reasons(catalogue: Catalogue = PRODUCT) -> tuple[str, ...]:
    """The reasons that another rule, or another fetch, may undo. Pairs that were taken down stay
    so."""
    return tuple(reason for reason in catalogue.reasons if reason not in _FINAL)


# Documents have what these name, and what they tell, in a place of its own.
_named = partial(setting, decides=False)
_told = partial(setting, allowed=matching(r"[^\x00-\x1f\x7f]*", "one line"), decides=False)


@dataclass(frozen=True)
class Job(Checked):
    """Input and output."""

    input: str = _named(
        "",
        "files, globs or folders, comma-separated (required); a backslash stands before a comma "
        "of a name",
        brief="files, globs or folders, comma-separated (required)",
    )
    output: str = _named(
        "", "a folder for the dataset (required)", brief="a folder for the dataset (required)"
    )
    input_format: str = setting("auto", ", ".join(FORMATS), allowed=one_of(FORMATS))
    url_column: str = setting("", "found by its usual names if not given")
    text_column: str = setting("", "found by its usual names if not given")
    columns: str = setting(
        "",
        "NAME,... or all: columns of the input to copy to every output file (docs/columns.md); all "
        "with --decontaminate_only and --score_only",
        several=True,
    )
    rules: str = _named("", "FILE.py or FILE.py:FLAG,...: rules of your own (docs/rules.md)")
    score_model: str = setting(
        "",
        "a model that scores the similarity of image and text (column similarity): a run, an "
        "ALIGN, CLIP or SigLIP, or open_clip:NAME@WEIGHTS",
        needs=IMAGES,
    )
    base_url: str = setting(
        "",
        "URL at which a folder of html is served, such as https://docs.example/",
        allowed=matching(
            "(?s)(https?://[^/].*)?", "an absolute http(s) URL, such as https://docs.example/"
        ),
    )
    also_rejected: str = setting(
        "",
        "with a dataset as input, also read the pairs that it dropped for these reasons "
        "(too_few_words,rare_token), or all",
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
        "FILE,... or NAME=FILE,...: hosts, domains, URLs, words, and hashes of files and images "
        "that must not be in the dataset, or image:PATH, images (docs/politeness.md)",
        step="texts images",
        needs="",
    )
    forget_blocked: bool = setting(
        False,
        "write neither URL nor text of blocked pairs to rejected/",
        step="texts images",
        needs="blocklist",
    )
    unsafe_model: str = _named(
        OPENNSFW,
        "classifier of unsafe (NSFW) images: opennsfw, or FILE.onnx with FILE.json beside it; "
        "empty scores none",
        step=IMAGES,
        needs="images scores",
    )
    vocabulary: str = _named(
        "",
        "a vocabulary.u64, or the output of an earlier run with one, to use in place of the "
        "input's own",
        step=TEXTS,
    )
    retry_failed: str = setting(
        "",
        "fetch failed images of a finished run again and add them to its dataset: all but "
        "http_404 and http_410, or only these details (dns,timeout), or all",
        brief="fetch again what a finished run could not",
        decides=False,
        alone="true",
        metavar="DETAILS",
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
        "this share of the images, by the hash of their URL, goes to holdout/ and not to "
        "shards/; 1 or more: about so many pairs",
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
        "keep duplicate images; exact: keep one of images with equal bytes, with all alt-texts; "
        "near: also one of near-duplicate photographs (docs/duplicates.md)",
        allowed=one_of(("keep", "exact", "near")),
        needs=IMAGES,
    )
    title: str = _told("", "the dataset's name on its card")
    description: str = _told("", "a paragraph for the card")
    license: str = _told("", "the dataset's licence on its card, such as cc-by-4.0")
    quiet: bool = setting(
        False, "print only warnings, errors and, at the end, the funnel", decides=False
    )
    thumbnails: int = setting(
        16,
        "dropped images of each rule that a shard keeps small for the report; 0 keeps none",
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

    def rejected_reasons(
        self, catalogue: Catalogue = PRODUCT, there: Iterable[str] = ()
    ) -> tuple[str, ...]:
        """The reasons for which dropped pairs are read again.

        Args:
          there: the reasons of the datasets that are read, whatever rules they had.

        Raises:
          ValueError: there is no such reason, or none that can be undone.
        """
        names = self.also_rejected.split(",") if self.also_rejected else []
        others = (reason for reason in there if reason not in _FINAL)
        reasons = tuple(dict.fromkeys((*undoable_reasons(catalogue), *others)))
        for reason in names:
            if reason not in (*reasons, "all"):
                raise ValueError(
                    "also_rejected must be all, or reasons, comma-separated: "
                    f"{', '.join(reasons)}; got {reason!r}"
                )
        if "all" not in names:
            return tuple(names)
        # What was blocked is read again only where that is asked for by its name.
        return tuple(r for r in reasons if r != given.BLOCKED or r in names)
