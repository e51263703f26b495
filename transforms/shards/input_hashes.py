"""The hashes that an input has of its images' files, against the files that came."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from alignset.transforms.columns.carried import CARRIED
from alignset.transforms.rules.columns import HASHES

BAD_HASH = "bad_hash"


class HashFault(NamedTuple):
    """Why a file is not the one that the input means."""

    detail: str | None


class InputHashes:
    """The hashes of n pairs.

    Args:
      kind: the hash function. column: the carried column of the hashes, in hex. Images that are
        stored in shards are not compared: they may have been resized.

    Attributes:
      bad: bool[n], which are not such hashes. given: bool[n], which pairs have one to compare.
    """

    def __init__(self, kind: str, column: str, table: pa.Table) -> None:
        name = CARRIED + column
        given = table[name].to_pylist() if name in table.column_names else [None] * len(table)
        if "source_path" in table.column_names:
            stored = table["source_path"].is_valid().to_pylist()
            given = [None if is_stored else g for g, is_stored in zip(given, stored, strict=True)]
        self._hashes = [(text or "").strip().lower() for text in given]
        is_hash = re.compile(f"[0-9a-f]{{{HASHES[kind]}}}").fullmatch
        self.given = np.array([bool(text) for text in self._hashes], np.bool_)
        self.bad = np.array([bool(t) and not is_hash(t) for t in self._hashes], np.bool_)

    def fault(self, pair: int, row: int | None, digests: Sequence[str | None]) -> HashFault | None:
        """The fault of a pair's file; None without one, or without a file.

        Args:
          row: of the pair's image. digests: of the files that came, by row.
        """
        if self.bad[pair]:
            return HashFault(BAD_HASH)
        digest = None if row is None else digests[row]
        differs = self.given[pair] and digest not in (None, self._hashes[pair])
        return HashFault(None) if differs else None
