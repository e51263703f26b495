"""Reasons without a number: what could not be read, is not wanted, or is there already."""

from functools import partial

from alignset.transforms.rules.rule import Given, Stage

BROKEN_INPUT = "broken_input"  # a file, or row group of Parquet; the detail is one of INPUT_FAULTS
INPUT_FAULTS = (
    *("cut_short", "damaged", "wrong_format"),  # its bytes are not a whole file
    *("no_access", "gone"),
    "unfinished",  # its writer has not ended
)
BROKEN_PAGE = "broken_page"  # a page, or a record of an archive; the detail is one of PAGE_FAULTS
PAGE_FAULTS = (
    *("bad_compression", "cut_off", "bad_head", "wrong_length"),  # of the archive
    *("bad_http", "bad_encoding", "too_large", "long_url", "too_costly"),  # of the page in it
    "bad_json",  # of a WAT record
    "unreadable",  # of either: what nobody foresaw
)
OPTED_OUT = "opted_out"  # its owner does not want this use; the detail is one of OPT_OUTS
MALFORMED_PAIR = "malformed_pair"
REMOVED_BEFORE = "removed_before"  # taken down from a dataset of the input
BLOCKED = "blocked"  # the detail is a list and the kind of its entry, "takedowns:host"
DUPLICATE_PAIR = "duplicate_pair"
FETCH_FAILED = "fetch_failed"
NOT_AN_IMAGE = "not_an_image"
UNDECODABLE = "undecodable"
HASH_MISMATCH = "hash_mismatch"  # the file is not the one whose hash the input has
RULE_FAILED = "rule_failed"  # a rule of a user raised; the detail is its flag
DUPLICATE_OF_TRAINING = "duplicate_of_training"  # the detail is the key of the pair to train on
DUPLICATE_IMAGE = "duplicate_image"  # the detail is the key of the pair whose image is kept
TAKEN_DOWN = "taken_down"  # out of a finished dataset; the detail is as for `blocked`

_OPT_OUTS = "[opt-outs](#details-of-opted_out)"
_LISTS = "[blocklist](politeness.md#blocklists)"
_of_row, _of_fetch, _of_dataset = (
    partial(Given, stage=stage) for stage in (Stage.TEXT, Stage.FETCH, Stage.DATASET)
)

OF_ROWS = (
    _of_row(
        reason=BROKEN_INPUT,
        step="pairs",
        means="a file, or a row group of Parquet, cannot be read to its end; `url` is its path and "
        "`caption` its fault",
        detail="[details](#details-of-broken_input)",
    ),
    _of_row(
        reason=BROKEN_PAGE,
        step="pairs",
        means="a page, or a record of an archive, cannot be read",
        detail="[details](#details-of-broken_page)",
    ),
    _of_row(
        reason=OPTED_OUT,
        step="pairs",
        means="the page states an opt-out",
        detail=_OPT_OUTS,
    ),
    _of_row(
        reason=MALFORMED_PAIR,
        step="pairs",
        means="the URL or the alt-text is missing or unusable",
        detail="[details](#details-of-malformed_pair)",
    ),
    _of_row(
        reason=REMOVED_BEFORE,
        step="blocklist",
        means="it was [taken down](politeness.md#takedown-requests) from a dataset of `--input` "
        "or `--images_from`; its row has the key alone, neither URL nor text",
    ),
    _of_row(
        reason=BLOCKED,
        step="blocklist",
        means=f"its host, URL, text or key is on a {_LISTS}",
        detail="the list and the kind of entry, `takedowns:host`",
    ),
    _of_row(
        reason=DUPLICATE_PAIR,
        step="duplicates",
        means="another row with the same URL and alt-text is judged in its place",
    ),
)
BEYOND_LANGUAGE_SIZE = Given(  # until 0.2, where --like gave the sizes
    reason="beyond_language_size",
    step="language_sizes",
    stage=Stage.CORPUS,
    means="its language had more pairs than `--like` of 0.2 and before left it",
)
OF_FILES = (
    _of_fetch(
        reason=FETCH_FAILED,
        step="fetch",
        means="the image could not be fetched",
        detail="[details](#details-of-fetch_failed)",
    ),
    _of_fetch(
        reason=OPTED_OUT,
        step="opt_outs",
        means="the host or the image states an opt-out",
        detail=_OPT_OUTS,
    ),
    _of_fetch(
        reason=NOT_AN_IMAGE,
        step="decode",
        means="the file is not an image",
        detail="[details](#details-of-not_an_image)",
    ),
    _of_fetch(
        reason=UNDECODABLE,
        step="decode",
        means="the image cannot be decoded; `crashed_decoder` where that ends the process",
        detail="[details](#details-of-undecodable)",
    ),
    _of_fetch(
        reason=BLOCKED,
        step="blocked_images",
        means=f"its file or its image is on a {_LISTS}",
        detail="the list and the kind of entry",
    ),
)
# Known when the images of all shards have come.
OF_DATASET = (
    _of_dataset(
        reason=DUPLICATE_OF_TRAINING,
        step="copies",
        means="it was held out, and [its image](duplicates.md#held-out-copies) is in training too",
        detail="the key of the pair in `shards/`",
    ),
    _of_dataset(
        reason=DUPLICATE_IMAGE,
        step="copies",
        means="another pair has [its image](duplicates.md) and its alt-text",
        detail="the key of the pair whose image is kept",
    ),
)
LESS_SIMILAR = _of_dataset(  # where --keep_most_similar gives the share
    reason="less_similar",
    step="most_similar",
    means="others of the dataset are "
    "[more similar](rules.md#the-most-similar-pairs); this step is there with "
    "`--keep_most_similar` alone",
)
AFTER_RUN = (
    _of_fetch(
        reason=TAKEN_DOWN,
        step="takedown",
        means="it was [taken out](politeness.md#takedown-requests) of the finished dataset",
        detail="the list and the kind of entry; of a pair that had opted out also how, as in "
        "`takedowns:url; opted_out: robots_txt`",
    ),
)
# Behind the rules of users, where there are some.
_of_failed_rules = partial(
    Given,
    reason=RULE_FAILED,
    means="a [rule of your own](rules.md) raised an error on it",
    detail="the rule's flag",
)
OF_FAILED_TEXT_RULES = _of_failed_rules(step="failed_text_rules", stage=Stage.TEXT)
OF_FAILED_IMAGE_RULES = _of_failed_rules(step="failed_image_rules", stage=Stage.PAIR)
