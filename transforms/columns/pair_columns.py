"""Columns of pairs that several packages share."""

from collections.abc import Iterable

LEDGERS = "images"  # the folder in a dataset for what is known of each image
EVIDENCE_FOLDER = "evidence"  # and the one for what its host states
PAGE_URL = "page_url"  # the column for the page that a pair is from, where that is known

# What the page says: which licence it states, the details by which it is opted out where that is
# only reported, and which licence files of RSL it names, with blanks between them. Columns of this
# prefix go with a pair from its source to its shard.
SOURCE_LICENSE, SOURCE_OPTED_OUT = "source_license", "source_opted_out"
SOURCE_RSL = "source_rsl"
# As a dataset has them; `opted_out` with what the image and its host say.
LICENSES_OF_PAGES = {"page_license": SOURCE_LICENSE, "page_rsl": SOURCE_RSL}
OF_PAGES = {**LICENSES_OF_PAGES, "opted_out": SOURCE_OPTED_OUT}

# The detected language of a text, and what each detector said.
LANGUAGE_COLUMNS = ("language", "language_votes")

UNREADABLE = "unreadable_row"  # a line of a text file that is not a row; a source says so

# The kinds of `opted_out`: where the owner of a page, a host or an image says that it is not to be
# used. Its detail is a kind, and behind a colon the crawler to whom a robots.txt says it, where
# that is another than ours: "robots_txt:CCBot". A pair that is dropped gets the first that is met.
ROBOTS_TXT = "robots_txt"  # the host's file forbids to fetch the image
X_ROBOTS_TAG = "x_robots_tag"  # the header of the image's answer, or the page's
META_ROBOTS = "meta_robots"  # the page's element of that name
TDM_RESERVATION = "tdm_reservation"  # an answer, a page, or the host's tdmrep.json
CONTENT_USAGE = "content_usage"  # an answer, or robots.txt
CONTENT_SIGNAL = "content_signal"  # the same
RSL = "rsl"  # a licence file that robots.txt, an answer or a page names
XMP_DATA_MINING = "xmp_data_mining"  # the image's own bytes
C2PA = "c2pa"

OPT_OUTS = (
    *(ROBOTS_TXT, X_ROBOTS_TAG, META_ROBOTS, TDM_RESERVATION, CONTENT_USAGE),
    *(CONTENT_SIGNAL, RSL, XMP_DATA_MINING, C2PA),
)


def opt_out_kind(detail: str | None) -> str:
    """The kind of a detail of `opted_out`; "" of any other."""
    kind = (detail or "").partition(":")[0]
    return kind if kind in OPT_OUTS else ""


def ordered_opt_outs(details: Iterable[str]) -> tuple[str, ...]:
    """The details of `opted_out` among these in their order, each once."""
    present = filter(opt_out_kind, set(details))
    return tuple(sorted(present, key=lambda detail: (OPT_OUTS.index(opt_out_kind(detail)), detail)))
