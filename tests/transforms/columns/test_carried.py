"""Values of carried columns in their types, and those that do not fit."""

import numpy as np
import pyarrow as pa
import pytest

from alignset.transforms.columns.carried import (
    json_column,
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
    column, wrong = json_column(values, kind)
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
    blanks, wrong = typed(pa.array([b" 0.5", b"7\t", b"  ", b" NA "], pa.binary()), pa.float64())
    assert (blanks.to_pylist(), wrong) == ([0.5, 7.0, None, None], None)
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
        (pa.list_(pa.struct([("a", pa.int8()), ("b", pa.int8()), ("a", pa.int8())])), None),
        (pa.timestamp("ms", "Europe/Paris"), pa.timestamp("ms", "Europe/Paris")),
        (pa.list_(pa.timestamp("ns", "Mars/Olympus")), pa.list_(pa.timestamp("ns", "UTC"))),
    ],
)
def test_types_are_plain_or_refused(kind: pa.DataType, plain: pa.DataType | None) -> None:
    if plain is None:
        with pytest.raises(TypeError, match=r"is neither text, number|has two fields"):
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
        (pa.float32(), [0.0, None, 1.5, NAN, -0.0]),
        (pa.list_(pa.float64()), [[], None, [None], [0.0], [0.0, 0.0], [0.5, NAN]]),
        (pa.null(), [None]),
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


def test_equal_values_have_equal_hashes() -> None:
    nans = pa.array(np.array([0x7FF8 << 48, 0xFFF8 << 48, 0x7FF8 << 48 | 1], np.uint64))
    assert len({*value_hashes(nans.view(pa.float64())).tolist()}) == 1
    mask = np.array([True, True])
    nulls = pa.array(np.array([1, 2]), mask=mask)  # whose buffer has other numbers
    assert value_hashes(nulls).tolist() == [0, 0]


def test_types_are_within_each_other_64_times_at_most() -> None:
    kind = pa.int8()
    for level in range(64):
        kind = pa.struct([("a", kind)]) if level % 2 else pa.list_(kind)
    assert plain_type(kind) == kind
    for more in (1, 700):
        deeper = kind
        for _ in range(more):
            deeper = pa.list_(deeper)
        with pytest.raises(TypeError, match="it has more than 64 lists and structs within each"):
            plain_type(deeper)


YEAR_1, YEAR_9999 = -719_162, 2_932_896  # their first and their last day, from 1970


def strings(*texts: bytes | None) -> pa.Array:
    """Text that need not be UTF-8, as a Parquet file may have it."""
    return pa.array(texts, pa.binary()).view(pa.string())


def ticks(unit: str, *days: int, zone: str | None = None) -> pa.Array:
    a_day = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit] * 86_400
    return pa.array([day * a_day for day in days], pa.timestamp(unit, zone))


@pytest.mark.parametrize(
    ("values", "misfits"),
    [
        (strings(b"ok", b"\xff\xfe", None, b"", "é".encode()), [1]),
        (strings(b"ok", b"\xff", b"a", b"\xed\xa0\x80").dictionary_encode(), [1, 3]),
        (pa.array([0, YEAR_1, YEAR_9999, YEAR_1 - 1, YEAR_9999 + 1, None], pa.date32()), [3, 4]),
        (pa.array([0, 2**31 - 1, -(2**31)], pa.date32()), [1, 2]),
        (ticks("us", YEAR_1, YEAR_9999, YEAR_1 - 1, YEAR_9999 + 1), [2, 3]),
        (ticks("s", 0, YEAR_9999, YEAR_9999 + 1, 2**40, zone="UTC"), [2, 3]),
        (ticks("ms", YEAR_1, YEAR_1 + 1, YEAR_9999 - 1, YEAR_9999, zone="Etc/GMT-9"), [0, 3]),
        (pa.array([2**63 - 1, -(2**62), 123, None], pa.timestamp("ns")), []),
        (
            pa.array([[0], [2**31 - 1], None, [], [1, None, -(2**31)]], pa.list_(pa.date32())),
            [1, 4],
        ),
        (pa.array([[9], [2**31 - 1], [0]], pa.list_(pa.date32()))[1:], [0]),
        (pa.StructArray.from_arrays([strings(b"a", b"\xff"), pa.array([1, 2])], ["t", "n"]), [1]),
        (pa.array([{}, None], pa.struct([])), []),
    ],
)
def test_values_that_json_cannot_hold_do_not_fit(values: pa.Array, misfits: list[int]) -> None:
    kind = plain_type(values.type)
    column, wrong = typed(values, kind)
    assert ([] if wrong is None else wrong.nonzero()[0].tolist()) == misfits
    kept = [at for at in range(len(values)) if at not in misfits]
    assert column.take(kept).equals(values.take(kept).cast(kind))
    assert column.take(pa.array(misfits, pa.int64())).null_count == len(misfits)
    again, wrong = json_column(json_values(column), kind)  # as a shard made of it is read
    assert again.equals(column)
    assert wrong is None
