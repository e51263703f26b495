"""The vocabulary as a file: sorted hashes that workers map and another run can filter with."""

from __future__ import annotations

import hashlib

import numpy as np

from alignset.transforms.corpus.corpus_documents import HashFile
from alignset.transforms.storage.files import local_copy, open_to_read

NAME = "vocabulary.u64"  # little-endian uint64, ascending, without repeats or a header
HASHING = (
    "a word: XXH64 (seed 0) of its UTF-8 bytes, filled up with NULs to a multiple of 8; "
    "a bigram: XXH64 of both words' hashes, 16 bytes little-endian"
)
# Added where a vote found the texts' languages.
BY_LANGUAGE = "; of another language than English: XXH64 of that and of its code's, 16 bytes"
PIECE = 1 << 20  # bytes read at once


def check_vocabulary(path: str) -> HashFile:
    """Reads a file of hashes through, a piece at a time: 100 million are 800 MB.

    Raises:
      ValueError: it is empty, or not whole, or not ascending.
      OSError: it cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    before = np.zeros(0, "<u8")
    with open_to_read(local_copy(path)) as source:
        while piece := source.read(PIECE):
            digest.update(piece)
            size += len(piece)
            if len(piece) % 8:
                continue  # the last one: a file gives whole pieces
            hashes = np.concatenate([before, np.frombuffer(piece, "<u8")])
            if not np.all(hashes[1:] > hashes[:-1]):
                raise ValueError("its hashes are not ascending without repeats")
            before = hashes[-1:]
    if size % 8:
        raise ValueError(f"it has {size} bytes, no multiple of 8")
    if not size:
        raise ValueError("it is empty, and every text that has a word would be dropped")
    return HashFile(path, size, digest.hexdigest())
