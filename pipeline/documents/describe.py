"""The documents of a dataset."""

from __future__ import annotations

from alignset.pipeline.runs.documents import Funnel, Manifest


def describe(out: str, manifest: Manifest | None = None) -> Funnel:
    """Writes all documents of a dataset, the manifest last, then the report; returns the funnel.

    All counts are those of its files. Shards are those whose `_stats.json` is there, with the
    numbers that they have. Done again, it writes the same bytes.

    Args:
      manifest: how it was made, with the shards and counts of before; None: its own.

    Raises:
      UsageError: a file is missing, or the counts do not add up.
    """
    raise NotImplementedError
