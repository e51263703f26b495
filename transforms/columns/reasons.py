"""The closed set of reasons for which a pair is dropped, in the order in which they are judged.

A pair that fails several rules gets the first of them. A reason may stand in both planes: one looks
at URL and text, the other at the image.
"""

from __future__ import annotations

BROKEN_INPUT = "broken_input"  # a file, or row group of Parquet; the detail is one of INPUT_FAULTS
INPUT_FAULTS = (
    *("cut_short", "damaged", "wrong_format"),  # its bytes are not those of a whole file
    *("no_access", "gone"),
    "unfinished",  # its writer has not ended
)
BROKEN_PAGE = "broken_page"  # a page, or a record of an archive; the detail is one of PAGE_FAULTS
PAGE_FAULTS = (
    *("bad_compression", "cut_off", "bad_head", "wrong_length"),  # of the archive
    *("bad_http", "bad_encoding", "too_large", "long_url", "bad_json"),  # of the page in it
    "unreadable",  # of either: what nobody foresaw
)
OPTED_OUT = "opted_out"  # its owner does not want this use; the detail is one of OPT_OUTS
MALFORMED_PAIR = "malformed_pair"
BLOCKED = "blocked"  # the detail is a list and the kind of its entry, "takedowns.txt:host"
DUPLICATE_PAIR = "duplicate_pair"
WRONG_LANGUAGE = "wrong_language"
TOO_FEW_WORDS = "too_few_words"
TOO_MANY_WORDS = "too_many_words"
TEXT_ON_TOO_MANY_IMAGES = "text_on_too_many_images"
IMAGE_WITH_TOO_MANY_TEXTS = "image_with_too_many_texts"
RARE_TOKEN = "rare_token"
FETCH_FAILED = "fetch_failed"
NOT_AN_IMAGE = "not_an_image"
UNDECODABLE = "undecodable"
TOO_SMALL = "too_small"
TOO_ELONGATED = "too_elongated"
UNSAFE = "unsafe"
EVALUATION_OVERLAP = "evaluation_overlap"
TAKEN_DOWN = "taken_down"  # out of a finished set; the detail is as that of `blocked`

# Each step of the funnel with the reasons it can give, in order.
TEXT_STEPS: dict[str, tuple[str, ...]] = {
    "pairs": (BROKEN_INPUT, BROKEN_PAGE, OPTED_OUT, MALFORMED_PAIR),
    "blocklist": (BLOCKED,),
    "duplicates": (DUPLICATE_PAIR,),
    "language": (WRONG_LANGUAGE,),
    "words": (TOO_FEW_WORDS, TOO_MANY_WORDS),
    "images_per_text": (TEXT_ON_TOO_MANY_IMAGES,),
    "texts_per_image": (IMAGE_WITH_TOO_MANY_TEXTS,),
    "rare_tokens": (RARE_TOKEN,),
}
IMAGE_STEPS: dict[str, tuple[str, ...]] = {
    "fetch": (FETCH_FAILED,),
    "wishes": (OPTED_OUT,),
    "decode": (NOT_AN_IMAGE, UNDECODABLE),
    "blocked_images": (BLOCKED,),
    "size": (TOO_SMALL, TOO_ELONGATED),
    "safety": (UNSAFE,),
    "evaluation": (EVALUATION_OVERLAP,),
}
STEPS = TEXT_STEPS | IMAGE_STEPS
# What was done to a set after its run; in the funnel of such a set alone.
TAKEDOWN_STEPS: dict[str, tuple[str, ...]] = {"takedown": (TAKEN_DOWN,)}
STEP_OF_TAKEDOWNS = {TAKEN_DOWN: "takedown"}
STEP_OF_TEXTS = {reason: step for step, reasons in TEXT_STEPS.items() for reason in reasons}
STEP_OF_IMAGES = {reason: step for step, reasons in IMAGE_STEPS.items() for reason in reasons}
# The first, of a reason that both planes give.
STEP_OF = STEP_OF_TEXTS | {
    reason: step for reason, step in STEP_OF_IMAGES.items() if reason not in STEP_OF_TEXTS
}
REASONS = (*STEP_OF, TAKEN_DOWN)
