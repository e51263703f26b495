import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignset.transforms.images.image_size import size_reasons

sides = st.one_of(st.none(), st.integers(1, 700), st.just(2**31 - 1))


def reasons(sizes: list[tuple], min_side: int = 200, max_aspect: float = 3.0) -> list:
    width, height = (pa.array([size[at] for size in sizes], pa.int32()) for at in (0, 1))
    return size_reasons(width, height, min_side=min_side, max_aspect=max_aspect).to_pylist()


@pytest.mark.parametrize(
    ("width", "height", "reason"),
    [
        (200, 201, "too_small"),
        (201, 201, None),
        (201, 200, "too_small"),
        (201, 602, None),
        (201, 603, "too_elongated"),
        (603, 201, "too_elongated"),
        (602, 201, None),
        (600, 200, "too_small"),  # both: the first
        (1, 1, "too_small"),
        (None, 1, None),
        (1, None, None),
        (None, None, None),
    ],
)
def test_each_side_of_each_limit(width: int | None, height: int | None, reason: str | None) -> None:
    assert reasons([(400, 400), (width, height)]) == [None, reason]


def test_an_aspect_that_is_no_whole_number() -> None:
    assert reasons([(149, 100), (150, 100), (100, 150)], 0, 1.5) == [
        None,
        "too_elongated",
        "too_elongated",
    ]


@given(st.lists(st.tuples(sides, sides)), st.integers(0, 300), st.sampled_from([1.5, 2.0, 3.0]))
def test_equals_the_rule_row_by_row(sizes: list, min_side: int, max_aspect: float) -> None:
    def rule(width: int | None, height: int | None) -> str | None:
        if width is None or height is None:
            return None
        shorter, longer = sorted((width, height))
        if shorter <= min_side:
            return "too_small"
        return "too_elongated" if longer >= shorter * max_aspect else None

    expected = [rule(*size) for size in sizes]
    assert reasons(sizes, min_side, max_aspect) == expected
    width, height = (pa.array([size[at] for size in sizes], pa.int32()) for at in (0, 1))
    sliced = size_reasons(width[1:], height[1:], min_side=min_side, max_aspect=max_aspect)
    assert sliced.to_pylist() == expected[1:]
