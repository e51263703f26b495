"""Columns of pairs that several packages share."""

PAGE_URL = "page_url"  # the column for the page that a pair is from, where that is known

# What the page says: which licence it states, and the details by which it is opted out where that
# is only reported. Columns of this prefix go with a pair from its source to its shard.
SOURCE_LICENSE, SOURCE_OPTED_OUT = "source_license", "source_opted_out"

# The detected language of a text, and what each detector said.
LANGUAGE_COLUMNS = ("language", "language_votes")

UNREADABLE = "unreadable_row"  # a line of a text file that is not a row; a source says so

# The details of `opted_out`: where the owner of a page, a host or an image says that it is not to
# be used. A pair that is dropped gets the first that is met.
ROBOTS_TXT = "robots_txt"  # the host's file forbids to fetch the image
X_ROBOTS_TAG = "x_robots_tag"  # the header of the image's answer, or the page's
META_ROBOTS = "meta_robots"  # the page's element of that name
TDM_RESERVATION = "tdm_reservation"  # an answer, a page, or the host's tdmrep.json
CONTENT_USAGE = "content_usage"  # an answer, or robots.txt
XMP_DATA_MINING = "xmp_data_mining"  # the image's own bytes
C2PA = "c2pa"

OPT_OUTS = (
    *(ROBOTS_TXT, X_ROBOTS_TAG, META_ROBOTS, TDM_RESERVATION, CONTENT_USAGE),
    *(XMP_DATA_MINING, C2PA),
)
