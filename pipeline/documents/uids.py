"""`uids.npy`: DataComp's ids of the kept pairs, as its resharder takes them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from alignset.pipeline.runs.documents import Manifest
from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces
from alignset.transforms.storage.files import match, remove, write_atomically
from alignset.transforms.storage.parquet_files import read_rows

LOG = logging.getLogger("alignset")
UIDS, COLUMN = "uids.npy", "uid"
HALVES = np.dtype("u8,u8")


def write_uids(out: str, manifest: Manifest) -> None:
    """Writes the ids of the pairs to train on, each once, sorted, where a column `uid` came with
    them. Where one of them is not an id of DataComp, none are written, and the log says so. Takes
    40 bytes of memory an id.
    """
    if (manifest.columns or {}).get(COLUMN) != "string":
        return
    path = f"{out}/{UIDS}"
    try:
        halves = [_halves(uids) for uids in _columns(out, manifest)]
    except ValueError as error:
        LOG.info("%s is not written: %s", path, error)
        remove(path)
        return
    ids = _distinct(np.concatenate([np.zeros((0, 2), np.uint64), *halves]))
    write_atomically(path, partial(_save, ids))


def _columns(out: str, manifest: Manifest) -> Iterator[pa.ChunkedArray]:
    if manifest.job["text_only"]:
        paths = [path for path, _ in match(f"{out}/pairs")]
    else:
        numbers = [number for number in manifest.holding if number < HOLDOUT]
        paths = [ShardPlaces(out).sidecar(number) for number in numbers]
    for path in paths:
        yield read_rows(path, [COLUMN])[COLUMN]


def _halves(uids: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """uint64[n, 2], the numbers that n hex ids of up to 32 digits are; nulls are left out.

    Raises:
      ValueError: one is not such an id.
    """
    uids = pc.ascii_lpad(uids.drop_null(), 32, "0")
    is_id = pc.match_substring_regex(uids, "^[0-9a-fA-F]{32}$")
    if pc.all(is_id).as_py() is False:
        wrong = uids.filter(pc.invert(is_id))[0].as_py()
        raise ValueError(
            f"{wrong.lstrip('0')[:80]!r} in the column {COLUMN} is not a 128-bit hex id"
        )
    digits = bytes.fromhex("".join(uids.to_pylist()))
    return np.frombuffer(digits, ">u8").astype(np.uint64).reshape(-1, 2)


def _distinct(halves: npt.NDArray[np.uint64]) -> npt.NDArray[np.void]:
    """The distinct ones, ascending, as pairs of halves, the upper first."""
    order = np.lexsort((halves[:, 1], halves[:, 0]))
    ids = halves[order]
    first = np.ones(len(ids), np.bool_)
    first[1:] = np.any(ids[1:] != ids[:-1], axis=1)
    return np.ascontiguousarray(ids[first]).view(HALVES).reshape(-1)


def _save(ids: npt.NDArray[np.void], sink: BinaryIO) -> None:
    np.save(sink, ids)
