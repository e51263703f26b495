"""Which rows a search may find."""

import pyarrow as pa

from alignset.train.search.query import Filters

ROWS = pa.table(
    {
        "host": ["a.example", "img.a.example", "ba.example", ""],
        "caption": ["A Dog", "a cat", "dogs", ""],
        "width": pa.array([100, 200, 300, 400], pa.int32()),
        "height": pa.array([90, 300, 300, 50], pa.int32()),
        "unsafe_score": pa.array([0.9, 0.5, None, 0.1], pa.float32()),
    }
)


def test_rows_have_to_pass_all_filters() -> None:
    assert Filters().row_mask(ROWS) is None
    for filters, rows in (
        (Filters(host="A.example."), [0, 1]),
        (Filters(caption="DOG"), [0, 2]),
        (Filters(min_side=90, max_side=200), [0, 1]),
        (Filters(safe=True), [1, 2, 3]),
        (Filters(safe=True, caption="dog"), [2]),
    ):
        row_mask = filters.row_mask(ROWS)
        assert row_mask is not None
        assert row_mask.nonzero()[0].tolist() == rows
