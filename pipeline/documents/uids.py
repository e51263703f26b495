"""`uids.npy`: DataComp's ids of the kept pairs, as its resharder takes them."""

from __future__ import annotations

import logging

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
    if manifest.job["text_only"]:
        files = [path for path, _ in match(f"{out}/pairs")]
    else:
        files = [ShardPlaces(out).sidecar(of) for of in manifest.holding if of < HOLDOUT]
    try:
        parts = [_halves(read_rows(file, [COLUMN])[COLUMN]) for file in files]
    except ValueError as error:
        LOG.info("%s is not written: %s", path, error)
        remove(path)
        return
    halves = np.concatenate([np.zeros((0, 2), np.uint64), *parts])
    halves = halves[np.lexsort((halves[:, 1], halves[:, 0]))]  # the upper first
    is_new = np.append(True, np.any(halves[1:] != halves[:-1], axis=1))[: len(halves)]
    ids = np.ascontiguousarray(halves[is_new]).view(HALVES).reshape(-1)
    write_atomically(path, lambda sink: np.save(sink, ids))


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
