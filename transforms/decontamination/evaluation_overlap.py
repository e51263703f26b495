"""What is written of the evaluation image that is nearest to an image."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pyarrow as pa

from alignset.transforms.decontamination.evaluation_index import EvaluationIndex
from alignset.transforms.decontamination.overlap_measure import Nearest


def overlap_columns(
    nearest: Sequence[Nearest | None], index: EvaluationIndex | None
) -> dict[str, pa.Array]:
    """What is written of the evaluation image that is nearest to each image, by column.

    Returns:
      evaluation_set, evaluation_image, evaluation_measure, evaluation_numbers (JSON): string[n];
      evaluation_distance: float64[n]; null where there is none.
    """
    if index is None:
        return {}
    named = index.names([found and found.row for found in nearest])
    numbers = [
        json.dumps(dict(found.numbers)) if found and found.numbers else None for found in nearest
    ]
    return {
        "evaluation_set": named["set"].combine_chunks(),
        "evaluation_image": named["name"].combine_chunks(),
        "evaluation_measure": pa.array(
            [found and index.measure.name for found in nearest], pa.string()
        ),
        "evaluation_distance": pa.array(
            [found and found.distance for found in nearest], pa.float64()
        ),
        "evaluation_numbers": pa.array(numbers, pa.string()),
    }
