"""A part of an index without the rows that are on a blocklist."""

import dataclasses
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from alignset.train.errors import TrainingError
from alignset.train.search.blocklist import DIGESTS, Blocklist
from alignset.train.search.index_files import (
    part_rows,
    part_thumbnails,
    part_vectors,
    read_part,
    write_part,
)


class Thinned(NamedTuple):
    """The name that a part has now, the keys of the rows that went, and the lines of the list that
    name them."""

    name: str
    keys: list[str]
    lines: set[str]


def thinned_part(folder: Path, name: str, blocklist: Blocklist, *, write: bool) -> Thinned:
    """A part under another name, without the rows that are on the list; where it has none of them,
    the part as it is.

    Args:
      write: otherwise nothing is written, and the part keeps its name.
    """
    rows = part_rows(folder, name)
    blocked, lines = _blocked(rows, blocklist)
    if not blocked.any():
        return Thinned(name, [], lines)
    keys: list[str] = rows["key"].filter(pa.array(blocked)).to_pylist()
    if not write:
        return Thinned(name, keys, lines)
    document = read_part(folder, name)
    if document is None:
        raise TrainingError(f"{folder}/parts/{name}.json is gone: make the index anew")
    kept = np.flatnonzero(~blocked)
    thumbnails = part_thumbnails(folder, name).read()["thumbnail"].take(pa.array(kept)).to_pylist()
    left_out = dict(document.left_out)
    left_out["blocked"] = left_out.get("blocked", 0) + len(keys)
    renamed = _next_name(name)
    write_part(
        folder,
        renamed,
        dataclasses.replace(document, rows=len(kept), left_out=left_out),
        (rows.take(pa.array(kept)), thumbnails, part_vectors(folder, name)[kept]),
    )
    return Thinned(renamed, keys, lines)


def _blocked(rows: pa.Table, blocklist: Blocklist) -> tuple[np.ndarray, set[str]]:
    """bool[n], and the lines of the list that name such rows."""
    wanted = [kind for kind in DIGESTS if blocklist.values[kind]]
    columns = [rows[name].to_pylist() for name in ("key", "url", "host", *wanted)]
    blocked, lines = np.zeros(len(rows), bool), set[str]()
    for row, (key, url, host, *digests) in enumerate(zip(*columns, strict=True)):
        by_kind = {kind: d.hex() for kind, d in zip(wanted, digests, strict=True)}
        if blocklist.blocks_row(key, url, host, by_kind):
            blocked[row] = True
            lines |= blocklist.lines_of_row(key, url, host, by_kind)
    return blocked, lines


def _next_name(name: str) -> str:
    """`NAME.1` of `NAME`, `NAME.2` of `NAME.1`."""
    stem, number = re.fullmatch(r"(.*?)(?:\.(\d+))?", name).groups()  # type: ignore[union-attr]
    return f"{stem}.{int(number or 0) + 1}"
