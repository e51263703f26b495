import pytest

from transforms.wishes.content_usage import combined, usage_allowed

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
    ],
)
def test_what_a_statement_allows(statement: bytes, allowed: bool | None) -> None:
    assert usage_allowed(statement, TRAINING) is allowed


def test_the_most_restrictive_counts() -> None:
    assert combined([True, False, None]) is False
    assert combined([None, True]) is True
    assert combined([]) is None
