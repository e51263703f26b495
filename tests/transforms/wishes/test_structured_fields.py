import pytest

from transforms.wishes.structured_fields import dictionary_tokens


@pytest.mark.parametrize(
    ("value", "members"),
    [
        (b"", {}),
        (b"train-ai=n", {"train-ai": "n"}),
        (b"  train-ai=y, search=n ", {"train-ai": "y", "search": "n"}),
        (b'train-ai=n;why="a, b" ,\tsearch=y', {"train-ai": "n", "search": "y"}),
        (b"train-ai=y, train-ai", {"train-ai": None}),  # the last counts
        (
            b'a=1, b=-1.5, c="n", d=:bg==:, e=?0, f=@12, g=%"%c3%a9", h=n',
            {**dict.fromkeys("abcdefg"), "h": "n"},
        ),
        (b"a=(n y);q=1, b=n", {"a": None, "b": "n"}),
        (b'a=(), b=( 1 "x" ), c=*t/:', {"a": None, "b": None, "c": "*t/:"}),
        (b"*k.-_9;p;q=x=y", None),
        (b"train-ai=n,", None),
        (b",train-ai=n", None),
        (b"Train-AI=n", None),
        (b"train-ai=n search=y", None),
        (b"train-ai =n", None),
        (b"train-ai= n", None),
        (b"train-ai=n;", None),
        (b'a="n', None),
        (b"a=(n", None),
        (b"a=(n,y)", None),
        (b"a=1234567890123456", None),
        (b"a=1.2345", None),
        (b"a=?2", None),
        (b"a=\xc3\xa9", None),
        (b"a=n\x00", None),
    ],
)
def test_dictionaries(value: bytes, members: dict[str, str | None] | None) -> None:
    assert dictionary_tokens(value) == members


def test_long_fields_take_no_longer_than_their_length() -> None:
    for piece in (b"a=(", b"a;", b"a=n,", b'a="\\"', b"a=(n ", b"a;b=n;"):
        assert dictionary_tokens(piece * 50_000) is None
    assert dictionary_tokens(b", ".join([b"a=n"] * 50_000)) == {"a": "n"}
