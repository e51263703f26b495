"""The kinds of entries that a blocklist may have, and how a list is refused."""

from __future__ import annotations

HOST, DOMAIN, URL, PREFIX, TEXT, KEY = "host", "domain", "url", "prefix", "text", "key"
MD5, SHA1, SHA256 = "md5", "sha1", "sha256"
PHASH, PDQ = "phash", "pdq"
IMAGE = "image"  # of a list that is images itself: no line of a file has this kind

OF_URLS = (HOST, DOMAIN, URL, PREFIX)
OF_PAIRS = (*OF_URLS, TEXT, KEY)  # what needs no image
OF_FILES = (MD5, SHA1, SHA256)
OF_PICTURES = (PHASH, PDQ)
KINDS = (*OF_PAIRS, *OF_FILES, *OF_PICTURES)

# How many bytes the values have that are written as hex digits.
DIGEST_BYTES = {KEY: 8, MD5: 16, SHA1: 20, SHA256: 32, PHASH: 8, PDQ: 32}


class ListError(ValueError):
    """A file is not a blocklist; says which, where, and what to do."""
