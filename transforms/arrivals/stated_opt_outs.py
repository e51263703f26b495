"""Opt-outs and licences of a shard's images, and where the images are from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from alignset.transforms.columns.pair_columns import OPT_OUTS
from alignset.transforms.fetching.orders import Fetched
from alignset.transforms.images.file_formats import FileLook
from alignset.transforms.opt_outs.file_opt_outs import file_opt_outs
from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings


def stated_values(
    arrival: Fetched, look: FileLook, settings: OptOutSettings
) -> tuple[str | None, dict[str, Any]]:
    """The detail by which an image that came is dropped, None where it is not; and its values in
    the columns of what is stated."""
    statements, response = file_opt_outs(look, settings), None
    if arrival.answer:
        response = arrival.answer._asdict()
        response |= {"final_url": response["url"], "date": int(1000 * response["came_at"])}
    opt_outs = arrival.opted_out + statements.opt_outs
    is_rejected = bool(opt_outs) and settings.rejects
    return opt_outs[0] if is_rejected else None, {
        "opted_out": None if is_rejected else joined_opt_outs(opt_outs),
        "web_statement": statements.web_statement,
        "usage_terms": statements.usage_terms,
        "response": response,
    }


def joined_opt_outs(details: Iterable[str]) -> str | None:
    """Details in their order, each once, comma-separated; None where there are none."""
    present = set(details)
    return ",".join(detail for detail in OPT_OUTS if detail in present) or None


def reported_opt_outs(opted_out: pa.Array | pa.ChunkedArray) -> dict[str, int]:
    """How many samples state each opt-out that is only reported, by their column `opted_out`."""
    counts = Counter[str]()
    for details in opted_out.to_pylist():
        counts.update((details or "").split(","))
    del counts[""]
    return dict(sorted(counts.items()))
