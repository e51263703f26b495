"""Opt-outs and licences of a shard's images, and where the images are from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from alignset.transforms.columns.pair_columns import OPT_OUTS
from alignset.transforms.fetching.orders import Fetched, ImageResponse
from alignset.transforms.images.file_formats import FileLook
from alignset.transforms.opt_outs.file_opt_outs import file_opt_outs
from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings

# One row a kept pair whose image was fetched. Apart from the shard's other files: its times differ
# from run to run.
RESPONSES = pa.schema(
    [
        ("key", pa.string()),
        ("url", pa.string()),
        ("final_url", pa.string()),
        ("status", pa.int16()),
        ("date", pa.timestamp("ms", "UTC")),
        ("content_type", pa.string()),
        ("etag", pa.string()),
        ("last_modified", pa.string()),
    ]
)
RESPONSE_TYPE = pa.struct([RESPONSES.field(at) for at in range(2, len(RESPONSES))])
RESPONSE = "answer"  # the column of these


class StatedOptOuts:
    """Statements about each image of a shard. Threads note them, each in rows of its own."""

    def __init__(self, settings: OptOutSettings, size: int) -> None:
        self._settings = settings
        self._opted_out: list[str | None] = [None] * size
        self._web_statements: list[str | None] = [None] * size
        self._usage_terms: list[str | None] = [None] * size
        self._responses: list[ImageResponse | None] = [None] * size

    def note(self, arrival: Fetched, look: FileLook) -> str | None:
        """Notes what is stated of an image that came; returns the detail by which it is dropped,
        None where it is not."""
        row, statements = arrival.index, file_opt_outs(look, self._settings)
        self._responses[row] = arrival.answer
        self._web_statements[row], self._usage_terms[row] = (
            statements.web_statement,
            statements.usage_terms,
        )
        opt_outs = arrival.opted_out + statements.opt_outs
        if opt_outs and self._settings.rejects:
            return opt_outs[0]
        self._opted_out[row] = joined_opt_outs(opt_outs)
        return None

    def columns(self) -> dict[str, pa.Array]:
        """The notes, by column, n rows each; RESPONSE is a struct."""
        responses = [answer and _answer_row(answer) for answer in self._responses]
        return {
            "opted_out": pa.array(self._opted_out, pa.string()),
            "web_statement": pa.array(self._web_statements, pa.string()),
            "usage_terms": pa.array(self._usage_terms, pa.string()),
            RESPONSE: pa.array(responses, RESPONSE_TYPE),
        }


def _answer_row(answer: ImageResponse) -> dict[str, Any]:
    row = answer._asdict()
    return row | {"final_url": row.pop("url"), "date": int(1000 * row.pop("came_at"))}


def joined_opt_outs(details: Iterable[str]) -> str | None:
    """Details in their order, each once, comma-separated; None where there are none."""
    present = set(details)
    return ",".join(detail for detail in OPT_OUTS if detail in present) or None


def reported_opt_outs(samples: Iterable[dict[str, Any]]) -> dict[str, int]:
    """How many samples state each opt-out that is only reported."""
    counts = Counter[str]()
    for sample in samples:
        counts.update((sample["opted_out"] or "").split(","))
    del counts[""]
    return dict(sorted(counts.items()))
