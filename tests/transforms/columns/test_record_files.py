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
from alignset.transforms.columns.records import Axis, Example, Joint, Record, Top, joint_of

AXES = [
    Axis("side", [1.0, 5.0, 9.0]),
    Axis("aspect", [1.5]),
    Axis("unsafe", [0.5]),
    Axis("distance", [0.25, 0.5]),
]
KEY = "0123456789abcdef"


def record() -> Record:
    example = Example(KEY, "http://a/", "text", ["kept"], width=3, picture=(0, 9))
    joint = joint_of(AXES, [np.array([bin_]) for bin_ in (1, 2, 0, 3)])
    return Record(1, {"kept": {"": 1}}, joint, {"words": {"kept": {"3": 1}}}, {}, [example], 9)


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
    return changed(joint=Joint([Axis("side", list(edges)), *AXES[1:]], [0], [1]))


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b'{"pairs": "many"}',
        b'{"joint": {"axes": [], "cells": [1], "counts": []}}',
        b" " * (MOST_BYTES + 1),
        changed(pairs=-1),
        changed(bytes=1 << 54),
        changed(joint=Joint(AXES, [9999], [1])),
        changed(joint=Joint(AXES, [-1], [1])),
        changed(joint=Joint(AXES, [1, 1], [1, 1])),
        changed(joint=Joint(AXES, [1], [10**18])),
        changed(joint=Joint([*AXES[:3], AXES[0]], [1], [1])),
        changed(joint=Joint([*AXES[:3], Axis("x" * 501, [1.0])], [1], [1])),
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
        with_example(words=-2),
        with_example(picture=(-1, 5)),
        with_example(picture=(1 << 62, 5)),
        with_example(lists=["x" * 1000]),
        encode_record(record()).replace(b'"width":3', b'"width":' + b"9" * 400),
        encode_record(record()).replace(b'"width":3', b'"score":1e999'),
    ],
    ids=lambda encoded: encoded[:120].decode(),
)
def test_what_is_no_record_is_refused_by_name(encoded: bytes):
    with pytest.raises(RecordError, match=r"^x\.json "):
        decode_record(encoded, "x.json")
