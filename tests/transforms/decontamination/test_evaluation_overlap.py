from pathlib import Path

import pyarrow as pa

from alignset.transforms.decontamination.evaluation_index import open_index
from alignset.transforms.decontamination.evaluation_overlap import overlap_columns
from alignset.transforms.decontamination.overlap_measure import Nearest
from tests.transforms.decontamination.test_evaluation_index import MEASURE, made


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
