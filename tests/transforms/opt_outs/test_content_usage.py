import pytest

from alignset.transforms.opt_outs.content_usage import combined, usage_allowed

TRAINING = frozenset({"train-ai", "train-genai"})


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        (b"train-ai=n", False),
        (b"train-ai=y, train-genai=n", False),
        (b"search=n", None),
        (b'train-ai="n"', None),
        (b"train-ai=n;x=1", False),
        (b"train-ai=n, train-ai=y", True),  # the last counts
        (b"train-ai=n,", None),  # breaks the grammar
        (b"train-ai=n" + b" " * 20_000, None),
        (b"a=(" * 5_000 + b"n", None),
        (b"", None),
        (b"  search=y, train-ai=n ", False),
        (b'train-ai=n;why="a, b" ,\tsearch=y', False),
        (b"train-ai=n, train-ai", None),  # the last is true, which is not a token
        (b'a=1, b=-1.5, c="n", d=:bg==:, e=?0, f=@12, g=%"%c3%a9", train-ai=n', False),
        (b"a=(n y);q=1, *k.-_9;p;q=x, b=(), c=*t/:, train-ai=n", False),
        (b"a=(n,y), train-ai=n", None),
        (b"train-ai=n, a=(n", None),
        (b"train-ai=n search=y", None),
        (b"train-ai =n", None),
        (b"train-ai=n\x00", None),
    ],
)
def test_what_a_statement_allows(statement: bytes, allowed: bool | None) -> None:
    assert usage_allowed(statement, TRAINING) is allowed


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        *((b":aGVsbG8=:", True), (b":aGVsbG9_:", False), (b'%"f%c3%bc"', True), (b'%"%c3"', False)),
        *((b'"\xc3\xbc"', False), (b"1234567890123456", False), (b"?1", True), (b"?2", False)),
    ],
)
def test_one_value_that_breaks_the_grammar_breaks_the_statement(value: bytes, valid: bool) -> None:
    statement = b"train-ai=n, a=" + value
    assert usage_allowed(statement, TRAINING) is (False if valid else None)


def test_the_most_restrictive_counts() -> None:
    assert combined([True, False, None]) is False
    assert combined([None, True]) is True
    assert combined([]) is None
