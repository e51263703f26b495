import sys
from collections.abc import Callable
from types import FrameType

import pytest

from alignset.transforms.wishes.content_usage import combined, usage_allowed

TRAINING = frozenset({"train-ai", "train-genai"})


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        (b"train-ai=n", False),
        (b"train-ai=y", True),
        (b"train-ai=y, train-genai=n", False),
        (b"search=n", None),
        (b"train-ai=Y", None),
        (b"train-ai", None),
        (b'train-ai="n"', None),
        (b"train-ai=n;x=1", False),
        (b"train-ai=n, train-ai=y", True),  # the last counts
        (b"train-ai=n,", None),  # breaks the grammar
        (b"TRAIN-AI=n", None),
        (b"train-ai=n" + b" " * 20_000, None),
        (b"", None),
        (b"  search=y, train-ai=n ", False),
        (b'train-ai=n;why="a, b" ,\tsearch=y', False),
        (b"train-ai=n, train-ai", None),  # the last is true, which is not a token
        (b'a=1, b=-1.5, c="n", d=:bg==:, e=?0, f=@12, g=%"%c3%a9", train-ai=n', False),
        (b"a=(n y);q=1, *k.-_9;p;q=x, b=(), c=*t/:, train-ai=n", False),
        (b"train-ai=(n)", None),
        (b"a=(n,y), train-ai=n", None),
        (b"train-ai=n, a=(n", None),
        (b"train-ai=n=", None),
        (b",train-ai=n", None),
        (b"train-ai=n search=y", None),
        (b"train-ai =n", None),
        (b"train-ai= n", None),
        (b"train-ai=n;", None),
        (b"train-ai=n\x00", None),
    ],
)
def test_what_a_statement_allows(statement: bytes, allowed: bool | None) -> None:
    assert usage_allowed(statement, TRAINING) is allowed


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        *((b":aGVsbG8=:", True), (b":aGVsbG8:", True), (b"::", True), (b":aGVsbG8", False)),
        *((b":=aGVsbG8=:", False), (b":a=GVsbG8=:", False), (b":aGVsbG8=====:", False)),
        *((b":aGVsb:", False), (b":aGVsbG9_:", False), (b":aGVs bG8=:", False)),
        *((b'%"f%c3%bc"', True), (b'%"%e2%82%ac"', True), (b'%"%C3%BC"', False)),
        *((b'%"%c3"', False), (b'%"%c3%28"', False), (b'%"%ed%a0%80"', False)),
        *((b'%"%f4%90%80%80"', False), (b'%"%c0%80"', False), (b'%"%fc"', False)),
        *((b'%"\xc3\xbc"', False), (b'"\xc3\xbc"', False), (b'"a\\b"', False)),
        *((b"123456789012345", True), (b"1234567890123456", False), (b"1.2345", False)),
        *((b"?1", True), (b"?2", False), (b"@1.5", False)),
    ],
)
def test_one_value_that_breaks_the_grammar_breaks_the_statement(value: bytes, valid: bool) -> None:
    for before, after in (
        (b"train-ai=n, a=", b""),
        (b"train-ai=n;a=", b""),
        (b"a=(", b"),train-ai=n"),
    ):
        assert usage_allowed(before + value + after, TRAINING) is (False if valid else None)


def count_lines(function: Callable[[], object]) -> int:
    """Counts the lines of Python that a call runs."""
    count = 0

    def trace(_: FrameType, event: str, __: object) -> object:
        nonlocal count
        count += event == "line"
        return trace

    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(None)
    return count


@pytest.mark.parametrize("piece", [b"a=(", b"a;", b"a=n,", b'a="\\"', b"a=(n ", b"a;b=n;", b"a=:a"])
def test_a_long_statement_takes_steps_in_proportion(piece: bytes) -> None:
    sizes = [(1 << size) // len(piece) for size in (13, 14)]
    short, long = (count_lines(lambda n=n: usage_allowed(piece * n, TRAINING)) for n in sizes)
    assert long <= 2.2 * short + 100


def test_the_most_restrictive_counts() -> None:
    assert combined([True, False, None]) is False
    assert combined([None, True]) is True
    assert combined([]) is None
