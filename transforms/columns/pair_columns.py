"""What several rooms know of the columns of pairs."""

PAGE_URL = "page_url"  # the column for the page that a pair is from, where that is known


UNREADABLE = "unreadable_row"  # a line of a text file that is no row; a source says so
