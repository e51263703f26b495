"""The file of a record, which anybody may have written."""

import dataclasses
import json

import numpy as np
import pytest

from alignset.transforms.columns.record_files import (
    MOST_BYTES,
    RecordError,
    decode_record,
    encode_record,
)
from alignset.transforms.columns.records import Axis, Example, Record, RowSample, Top, sample_of

AXES = [
    Axis("side", [1.0, 5.0, 9.0]),
    Axis("aspect", [1.5]),
    Axis("unsafe", [0.5]),
    Axis("distance", [0.25, 0.5]),
]
KEY = "0123456789abcdef"


def record() -> Record:
    example = Example(KEY, "http://a/", "text", ["kept"], width=3, picture=(0, 9))
    bins = {axis.name: np.array([bin_]) for axis, bin_ in zip(AXES, (1, 2, 0, 3), strict=True)}
    sample = sample_of(bins, np.array([7], np.uint64), np.array([True]))
    histograms = {"words": {"kept": {"3": 1}}, "side": {"kept": {"1": 1}}}
    alone = {"min_image_side": {"1": 1}}
    outcomes = {"kept": {"": 1}}
    return Record(1, outcomes, histograms, {}, [example], 9, AXES, alone, sample)


def test_a_record_is_read_as_it_was_written():
    encoded = encode_record(record())
    assert decode_record(encoded, "x.json") == record()
    assert b"\n" not in encoded
    assert "reason" not in json.loads(encoded)["examples"][0]  # what is not known takes no room


def changed(**parts: object) -> bytes:
    return encode_record(dataclasses.replace(record(), **parts))  # type: ignore[arg-type]


def with_example(**parts: object) -> bytes:
    example = {"key": KEY, "url": "", "caption": "", "lists": []} | parts
    return changed(examples=[Example(**example)])  # type: ignore[arg-type]


def with_edges(*edges: float) -> bytes:
    return changed(axes=[Axis("side", list(edges)), *AXES[1:]])


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b'{"pairs": "many"}',
        b'{"pairs": 1}',  # of version 1, which did not say so
        changed(version=99),
        b" " * (MOST_BYTES + 1),
        changed(pairs=-1),
        changed(bytes=1 << 54),
        changed(axes=[*AXES, AXES[0]]),
        changed(axes=[*AXES, Axis("x" * 501, [1.0])]),
        changed(axes=[Axis(f"axis {n}", [1.0]) for n in range(99)]),
        changed(alone={"min_image_side": {"1": -1}}),
        changed(alone={"min_image_side": {"x": 1}}),
        changed(alone={"x" * 501: {}}),
        changed(sample=RowSample(1, b"12345678", {})),
        changed(sample=RowSample(0, b"12345678", {axis.name: b"\0" for axis in AXES})),
        changed(sample=RowSample(1, b"1234567", {axis.name: b"\0" for axis in AXES})),
        changed(sample=RowSample(1, b"12345678", {axis.name: b"\7" for axis in AXES})),
        changed(sample=RowSample(1, b"12345678", {axis.name: b"" for axis in AXES})),
        with_edges(),
        with_edges(2.0, 1.0),
        with_edges(1.0, 1.0),
        with_edges(*map(float, range(300))),
        changed(outcomes={"kept": {"": -1}}),
        changed(outcomes={"kept": {"": 1 << 54}}),
        changed(outcomes={f"reason_{n}": {"": 1} for n in range(100)}),
        changed(outcomes={"kept": {f"detail_{n}": 1 for n in range(2000)}}),
        changed(outcomes={"kept" * 1000: {"": 1}}),
        changed(histograms={"words": {"kept": {"x": 1}}}),
        changed(histograms={"words": {"kept": {"\u0663": 1}}}),
        changed(histograms={"words": {"kept": {"1000000000": 1}}}),
        changed(histograms={"words": {"kept": {"5000": 1}}}),
        changed(histograms={"bytes": {"kept": {"64": 1}}}),
        changed(histograms={"bytes": {"kept": {"-1": 1}}}),
        changed(histograms={"formats": {"kept": {str(n): 1 for n in range(300)}}}),
        changed(histograms={"colours": {}}),
        changed(tops={"colours": Top()}),
        changed(tops={"hosts": Top({"h": {"kept": -3}})}),
        changed(tops={"hosts": Top({}, -1)}),
        with_example(key="../../etc/passwd"),
        with_example(key="0123456789ABCDEF"),
        with_example(width=1 << 60),
        with_example(height=-1),
        with_example(values={"x" * 501: 1.0}),
        with_example(picture=(-1, 5)),
        with_example(picture=(1 << 62, 5)),
        with_example(lists=["x" * 1000]),
        encode_record(record()).replace(b'"width":3', b'"width":' + b"9" * 400),
        encode_record(record()).replace(b'"width":3', b'"values":{"words":1e999}'),
    ],
    ids=lambda encoded: encoded[:120].decode(),
)
def test_what_is_no_record_is_refused_by_name(encoded: bytes):
    with pytest.raises(RecordError, match=r"^x\.json "):
        decode_record(encoded, "x.json")
