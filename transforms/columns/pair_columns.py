"""Columns of pairs that several packages share."""

PAGE_URL = "page_url"  # the column for the page that a pair is from, where that is known

# What the page says: which licence it states, and the details by which it is opted out where that
# is only reported. Columns of this prefix go with a pair from its source to its shard.
SOURCE_LICENSE, SOURCE_OPTED_OUT = "source_license", "source_opted_out"

# What the vote on a text's language found, and what each detector said.
LANGUAGE_COLUMNS = ("language", "language_votes")

UNREADABLE = "unreadable_row"  # a line of a text file that is not a row; a source says so
