from pathlib import Path

import pyarrow as pa
import pytest

from alignset.transforms.decontamination.evaluation_index import open_index
from alignset.transforms.decontamination.evaluation_overlap import (
    evaluation_reasons,
    overlap_columns,
)
from alignset.transforms.decontamination.overlap_measure import Nearest
from tests.transforms.decontamination.test_evaluation_index import MEASURE, made


@pytest.mark.parametrize(
    ("distance", "min_distance", "reason"),
    [
        (5, 6, "evaluation_overlap"),
        (6, 6, None),
        (0, 0, None),
        (0, 1, "evaluation_overlap"),
        (0.2499, 0.25, "evaluation_overlap"),
        (0.25, 0.25, None),
        (64, 64, None),
        (None, 64, None),
    ],
)
def test_each_side_of_the_limit(
    distance: float | None, min_distance: float, reason: str | None
) -> None:
    distances = pa.array([64, distance], pa.float64())
    reasons = evaluation_reasons(distances, min_distance=min_distance)
    assert reasons.type == pa.string()
    assert reasons.to_pylist() == [None, reason]
    assert evaluation_reasons(distances[2:], min_distance=6).to_pylist() == []


def test_columns_name_the_nearest_image(tmp_path: Path) -> None:
    index = open_index(made(tmp_path), MEASURE)
    nearest = [Nearest(2, 3.0, {}), None, Nearest(0, 0.0, {"cosine": 0.5})]
    columns = overlap_columns(nearest, index)
    assert {name: column.to_pylist() for name, column in columns.items()} == {
        "evaluation_set": ["some", None, "some"],
        "evaluation_image": ["2.jpg", None, "0.jpg"],
        "evaluation_measure": ["phash", None, "phash"],
        "evaluation_distance": [3.0, None, 0.0],
        "evaluation_numbers": [None, None, '{"cosine": 0.5}'],
    }
    assert overlap_columns(nearest, None) == {}
    assert overlap_columns([], index)["evaluation_distance"] == pa.array([], pa.float64())
