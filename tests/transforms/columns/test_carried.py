"""Values of carried columns in their types, and those that do not fit."""

import pyarrow as pa
import pytest

from alignset.transforms.columns.carried import (
    from_json,
    json_values,
    plain_type,
    type_name,
    type_of,
    typed,
    value_hashes,
)

TIME = pa.timestamp("us", "UTC")
NESTED = pa.struct([("days", pa.list_(pa.date32())), ("n", pa.int32())])
DEEP: list = []
for _ in range(3000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([1, None, 1.5, "1", True, 1 << 63], pa.int64(), [1, None, "!", "!", "!", "!"]),
        ([1, 0.5, "much", float("nan")], pa.float64(), [1.0, 0.5, "!", None]),
        (["a", 7, "\ud800", {}], pa.string(), ["a", "!", "!", "!"]),
        ([{"days": ["2024-02-29"], "more": 1}, {"days": 5}], NESTED, [1, "!"]),
        ([[[0.5]], [], DEEP], pa.list_(pa.list_(pa.float32())), [[[0.5]], [], "!"]),
        (["2024-01-02T03:04:05Z", "soon"], TIME, [2024, "!"]),
        ([], pa.int64(), []),
    ],
)
def test_json_has_its_type_or_does_not_fit(values: list, kind: pa.DataType, expected: list) -> None:
    column, wrong = from_json(values, kind)
    assert column.type == kind
    misfits = [] if wrong is None else wrong.nonzero()[0].tolist()
    found = column.to_pylist()
    assert {found[n] for n in misfits} <= {None}
    found = ["!" if n in misfits else value for n, value in enumerate(found)]
    if kind == NESTED:
        assert str(found.pop(0)) == "{'days': [datetime.date(2024, 2, 29)], 'n': None}"
        expected = expected[1:]
    if kind == TIME:
        found[0] = found[0].year
    assert found == expected


def test_text_of_tables_stands_for_values() -> None:
    text = pa.array([b"1", b"", b"NA", b"x", b"\xff", None], pa.binary())
    numbers, wrong = typed(text, pa.int64())
    assert numbers.to_pylist() == [1, None, None, None, None, None]
    assert wrong is not None
    assert wrong.tolist() == [False, False, False, True, True, False]
    strings, wrong = typed(text, pa.string())
    assert strings.to_pylist() == ["1", "", "NA", "x", None, None]
    assert wrong is not None
    assert wrong.tolist() == [False] * 4 + [True, False]
    large, wrong = typed(pa.array([1, (1 << 64) - 1], pa.uint64()), pa.int64())
    assert large.to_pylist() == [1, None]
    assert wrong is not None


@pytest.mark.parametrize(
    ("kind", "plain"),
    [
        (pa.dictionary(pa.int8(), pa.large_string()), pa.string()),
        (pa.list_(pa.string_view(), 3), pa.list_(pa.string())),
        (pa.struct([("a", pa.float16())]), pa.struct([("a", pa.float32())])),
        (pa.uint64(), pa.uint64()),
        (pa.binary(), None),
        (pa.list_(pa.decimal128(5)), None),
        (pa.map_(pa.string(), pa.string()), None),
    ],
)
def test_types_are_plain_or_refused(kind: pa.DataType, plain: pa.DataType | None) -> None:
    if plain is None:
        with pytest.raises(TypeError, match="is neither text, number, time, list nor struct"):
            plain_type(kind)
    else:
        assert plain_type(kind) == plain


def test_types_by_name() -> None:
    for kind in (pa.int16(), pa.float64(), pa.bool_(), pa.string(), TIME, pa.timestamp("ns")):
        assert type_of(type_name(kind)) == kind
    assert type_of("drop table") == pa.string()
    assert type_name(NESTED) == {"struct": {"days": {"list": "date32"}, "n": "int32"}}


def test_json_has_no_times_and_no_nan() -> None:
    struct = pa.struct([("t", pa.timestamp("ns")), ("x", pa.float64())])
    column = pa.array([{"t": 1, "x": float("inf")}, None], struct)
    assert json_values(column) == [{"t": "1970-01-01 00:00:00.000000001", "x": None}, None]


NAN, TEXTS = float("nan"), pa.list_(pa.string())
SHOT = pa.struct([("camera", pa.string()), ("days", pa.list_(pa.date32()))])


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.string(), ["", None, "a", "b"]),
        (pa.int64(), [0, None, 1, -1]),
        (pa.float32(), [0.0, None, 1.5, NAN]),
        (pa.bool_(), [True, False, None]),
        (TIME, [0, None, 1]),
        (TEXTS, [[], None, [None], [""], ["a"], ["a", "b"], ["b", "a"], ["ab"]]),
        (pa.list_(TEXTS), [[], [[]], [[], []], [["a"], []], [[], ["a"]], None]),
        (SHOT, [None, {"camera": None}, {"camera": ""}, {"camera": "x", "days": [1]}]),
        (SHOT, [{"days": []}, {"days": [1, 2]}, {"days": [2, 1]}]),
    ],
)
def test_values_that_differ_have_other_hashes_wherever_they_stand(
    kind: pa.DataType, values: list
) -> None:
    column = pa.array(values, kind)
    hashes = value_hashes(column).tolist()
    assert len({*hashes}) == len(values)
    longer = pa.concat_arrays([column, column, column])
    assert value_hashes(longer.slice(1)).tolist() == (hashes * 3)[1:]
    assert value_hashes(column.slice(0, 0)).tolist() == []
