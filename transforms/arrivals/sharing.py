"""Which pairs of a shard share an image, and which files are not those that the input means."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.columns.carried import CARRIED
from alignset.transforms.columns.hashing import Bools
from alignset.transforms.pairs.urls import url_hashes
from alignset.transforms.rules.columns import HASHES


class SharedImages(NamedTuple):
    """The m images of n pairs.

    Fields:
      rows: int64[m], ascending: the pair by which each image is asked for, its first.
      of_pairs: int64[n], the image of each pair; null where none is asked for.
    """

    rows: npt.NDArray[np.int64]
    of_pairs: pa.Int64Array


def shared_images(pairs: pa.Table, to_fetch: Bools) -> SharedImages:
    """Which pairs share an image: those whose URLs have one identity.

    An image that is stored is its pair's own, since other tools store one for each. A pair without
    one shares the first that is stored for its URL, so that it is not fetched again.

    Args:
      pairs: columns url, and perhaps source_path and source_size: where a stored image is.
      to_fetch: bool[n], the pairs whose images are asked for.

    >>> pairs = pa.table({"url": ["http://a/1", "http://a/2", "HTTP://A/1#x"]})
    >>> images = shared_images(pairs, np.ones(3, np.bool_))
    >>> images.rows.tolist(), images.of_pairs.to_pylist()
    ([0, 1], [0, 1, 0])
    """
    identities = url_hashes(pairs["url"].combine_chunks())[0] if len(pairs) else np.zeros(0)
    of_pairs = np.full(len(pairs), -1, np.int64)
    stored = stored_rows(pairs)
    alone, sharing = (np.flatnonzero(to_fetch & mask) for mask in (stored, ~stored))
    # An image without bytes is missing in its shard, and no other pair is to suffer for it.
    with_bytes = alone[pairs["source_size"].to_numpy()[alone] > 0] if len(alone) else alone
    candidates = np.concatenate([with_bytes, sharing])
    _, first, image = np.unique(identities[candidates], return_index=True, return_inverse=True)
    homes = candidates[first][image[len(with_bytes) :]]
    rows = np.union1d(alone, homes)
    of_pairs[alone] = np.searchsorted(rows, alone)
    of_pairs[sharing] = np.searchsorted(rows, homes)
    return SharedImages(rows, pa.array(of_pairs, mask=of_pairs < 0))


def stored_rows(pairs: pa.Table) -> Bools:
    """Which pairs have a place of an image in a shard of the input: bool[n]."""
    if "source_path" not in pairs.column_names:
        return np.zeros(len(pairs), np.bool_)
    return pairs["source_path"].is_valid().to_numpy()


def input_hashes(pairs: pa.Table, verified: tuple[str, str] | None) -> pa.StringArray:
    """The hash that the file of each pair should have, in hex; null where the input has none:
    string[n]. Images that are stored in shards of the input may be resized, and have none.

    Args:
      verified: the hash function, and the carried column of the hashes; None compares nothing.
    """
    if not verified or CARRIED + verified[1] not in pairs.column_names:
        return pa.nulls(len(pairs), pa.string())
    texts = pairs[CARRIED + verified[1]].combine_chunks()
    texts = pc.utf8_lower(pc.utf8_trim_whitespace(texts))
    has_none = pc.or_(pc.equal(texts, "").fill_null(True), pa.array(stored_rows(pairs)))
    return pc.if_else(has_none, pa.scalar(None, pa.string()), texts)


def bad_hashes(hashes: pa.StringArray, verified: tuple[str, str] | None) -> pa.BooleanArray:
    """Which of some hashes cannot be: bool[n]."""
    pattern = f"^[0-9a-f]{{{HASHES[verified[0]] if verified else 0}}}$"
    return pc.invert(pc.match_substring_regex(hashes, pattern)).fill_null(False)
