"""The pairs of a shard: which of them share an image, and what became of each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from alignset.transforms.columns.carried import CARRIED, carried_columns
from alignset.transforms.columns.hashing import Bools, UInt64s
from alignset.transforms.columns.pair_columns import LANGUAGE_COLUMNS, SOURCE_LICENSE
from alignset.transforms.images.examine import Image
from alignset.transforms.pairs.urls import url_hashes
from alignset.transforms.rules import given
from alignset.transforms.rules.columns import HASHES
from alignset.transforms.shards.shard_images import ShardImages, Size, Verdicts
from alignset.transforms.shards.stored_evidence import filled

BAD_HASH = "bad_hash"


class HashFault(NamedTuple):
    """Why a file is not the one that the input means."""

    detail: str | None


class InputHashes:
    """The hashes of n pairs.

    Args:
      kind: the hash function. column: the carried column of the hashes, in hex.

    Attributes:
      bad: bool[n], which are not such hashes. present: bool[n], which pairs have one to compare.
    """

    def __init__(self, kind: str, column: str, table: pa.Table) -> None:
        name = CARRIED + column
        texts = table[name].to_pylist() if name in table.column_names else [None] * len(table)
        stored = stored_rows(table).tolist()
        texts = [None if is_own else text for text, is_own in zip(texts, stored, strict=True)]
        self._hashes = [(text or "").strip().lower() for text in texts]
        is_hash = re.compile(f"[0-9a-f]{{{HASHES[kind]}}}").fullmatch
        self.present = np.array([bool(text) for text in self._hashes], np.bool_)
        self.bad = np.array([bool(t) and not is_hash(t) for t in self._hashes], np.bool_)

    def leave_out_stored(self, table: pa.Table, sharing: SharedImages) -> None:
        """Compares no images that are stored in shards of the input: they may be resized."""
        stored = np.append(stored_rows(table)[sharing.rows], False)  # the last of pairs without
        self.present &= ~stored[sharing.of_pairs]

    def fault(self, pair: int, row: int | None, digests: Sequence[str | None]) -> HashFault | None:
        """The fault of a pair's file; None without one, or without a file.

        Args:
          row: of the pair's image. digests: of the files that came, by row.
        """
        if self.bad[pair]:
            return HashFault(BAD_HASH)
        digest = None if row is None else digests[row]
        differs = self.present[pair] and digest not in (None, self._hashes[pair])
        return HashFault(None) if differs else None


class SharedImages(NamedTuple):
    """The m images of n pairs.

    Fields:
      rows: int64[m], ascending: the pair by which each image is asked for, its first.
      of_pairs: int64[n], the image of each pair; -1 where none is asked for.
    """

    rows: npt.NDArray[np.int64]
    of_pairs: npt.NDArray[np.int64]

    def spread(self, column: pa.Array) -> pa.Array:
        """A column of images as one of pairs; null where no image was asked for."""
        return column.take(pa.array(self.of_pairs, mask=self.of_pairs < 0))

    def pair_counter(self, count: Callable[[int], None]) -> Callable[[int], None]:
        """Tells how many pairs are done, by how many of their images are."""
        pairs, images = len(self.of_pairs), max(1, len(self.rows))
        return lambda images_done: count(images_done * pairs // images)


def shared_images(pairs: pa.Table, to_fetch: Bools) -> SharedImages:
    """Which pairs share an image: those whose URLs have one identity.

    An image that is stored is its pair's own, since other tools store one for each. A pair without
    one shares the first that is stored for its URL, so that it is not fetched again.

    Args:
      pairs: columns url, and perhaps source_path and source_size: where a stored image is.
      to_fetch: bool[n], the pairs whose images are asked for.
    """
    identities = url_hashes(pairs["url"].combine_chunks())[0] if len(pairs) else np.zeros(0)
    of_pairs = np.full(len(pairs), -1, np.int64)
    stored = stored_rows(pairs)
    own, sharing = (np.flatnonzero(to_fetch & side) for side in (stored, ~stored))
    # An image without bytes is missing in its shard, and no other pair is to suffer for it.
    with_bytes = own[pairs["source_size"].to_numpy()[own] > 0] if len(own) else own
    candidates = np.concatenate([with_bytes, sharing])
    _, first, image = np.unique(identities[candidates], return_index=True, return_inverse=True)
    homes = candidates[first][image[len(with_bytes) :]]
    rows = np.union1d(own, homes)
    of_pairs[own], of_pairs[sharing] = np.searchsorted(rows, own), np.searchsorted(rows, homes)
    return SharedImages(rows, of_pairs)


def stored_rows(pairs: pa.Table) -> Bools:
    """Which pairs have a place of an image in a shard of the input: bool[n]."""
    if "source_path" not in pairs.column_names:
        return np.zeros(len(pairs), np.bool_)
    return pairs["source_path"].is_valid().to_numpy()


class ShardPairs(Verdicts):
    """The n pairs of a shard and what became of them, as columns.

    Args:
      table: columns key (uint64), url, caption, and perhaps more of the source.
      list_details: string[n], the list that a pair is on by itself, or null.
      measures: what was measured of the images, by column; a column of the table stands where a
        rule names it.
      hashes: that the input has of their files, where these are compared.

    Attributes:
      image_rows: of each pair, None where its image was not asked for.
      measures: the same as columns of pairs.
    """

    def __init__(
        self,
        table: pa.Table,
        sharing: SharedImages,
        images: ShardImages,
        list_details: pa.StringArray,
        measures: dict[str, pa.Array],
        hashes: InputHashes | None = None,
    ) -> None:
        super().__init__(len(table))
        self.table, self.images, self.rules = table, images, images.settings.rules
        self.hashes = hashes
        self.image_rows = [row if row >= 0 else None for row in sharing.of_pairs.tolist()]
        self.measures = {name: sharing.spread(column) for name, column in measures.items()}
        numbers = [name for name in self.rules.computed_columns if name in table.column_names]
        self.measures |= {name: table[name].combine_chunks() for name in numbers}
        on_lists = list_details.to_pylist()
        for pair, (detail, row) in enumerate(zip(on_lists, self.image_rows, strict=True)):
            if detail is not None:
                self.drop(pair, given.BLOCKED, detail)
                continue
            is_blocked = row is not None and images.reasons[row] == given.BLOCKED
            if hashes and not is_blocked and (fault := hashes.fault(pair, row, images.digests)):
                self.drop(pair, given.HASH_MISMATCH, fault.detail)
            elif row is not None and (reason := images.reasons[row]):
                self.drop(pair, reason, images.details[row])

    def add_evidence(self, evidence: Mapping[str, pa.Array]) -> None:
        """Adds what the datasets know in which images are stored, as of `stored_evidence`, where
        nothing is known of a pair."""
        for name, column in evidence.items():
            if name != SOURCE_LICENSE:
                self.measures[name] = filled(self.measures.get(name), column)
                continue
            there = name in self.table.column_names
            known = self.table[name].combine_chunks() if there else None
            if there:
                self.table = self.table.drop_columns([name])
            self.table = self.table.append_column(name, filled(known, column))

    @property
    def keys(self) -> UInt64s:
        return self.table["key"].to_numpy()

    @property
    def urls(self) -> pa.StringArray:
        return self.table["url"].combine_chunks()

    @property
    def of_languages(self) -> dict[str, pa.Array]:
        """The columns of languages, where a detector found them; null of earlier pairs."""
        if not self.rules.language_rule.has_vote:
            return {}
        there, none = self.table.column_names, pa.nulls(len(self.table), pa.string())
        return {
            name: self.table[name].combine_chunks() if name in there else none
            for name in LANGUAGE_COLUMNS
        }

    @property
    def carried(self) -> dict[str, pa.Array]:
        """The columns that came with the pairs from the input."""
        return carried_columns(self.table, self.rules.carried)

    @property
    def captions(self) -> pa.StringArray:
        return self.table["caption"].combine_chunks()

    @property
    def kept_pairs(self) -> npt.NDArray[np.int64]:
        """The numbers of the pairs that are not dropped."""
        return np.flatnonzero([reason is None for reason in self.reasons])

    def kept_row(self, pair: int) -> int:
        """The row of a pair's image, which was put aside."""
        row = self.image_rows[pair]
        assert row is not None
        return row

    def stored_file(self, pair: int) -> tuple[bytes, Image]:
        """The file of a pair's image, and what is known of it."""
        return self.images.stored_file(self.kept_row(pair))

    @property
    def sizes(self) -> list[Size | None]:
        """Width and height in px of each pair's image, where it is one."""
        return [None if row is None else self.images.sizes[row] for row in self.image_rows]
