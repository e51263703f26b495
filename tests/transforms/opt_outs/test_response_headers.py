import pytest

from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings
from alignset.transforms.opt_outs.response_headers import (
    combined,
    field_values,
    has_directive,
    header_opt_outs,
    usage_allowed,
)

HOW = OptOutSettings()
OFF = OptOutSettings(tdm_reservation=False, content_usage="", disallowed_header_directives="")


@pytest.mark.parametrize(
    ("lines", "reserved", "opt_outs"),
    [
        ([], False, ()),
        (["X-Robots-Tag: noai"], False, ("x_robots_tag",)),
        (["x-robots-tag:nofollow", "X-ROBOTS-TAG: noindex"], False, ("x_robots_tag",)),
        (["X-Robots: noai", "X-Other: noai"], False, ()),
        (["a: b"] * 2_000 + ["X-Robots-Tag: noai"], False, ("x_robots_tag",)),
        (["TDM-Reservation:1"], False, ("tdm_reservation",)),
        (["tdm-reservation: 0"], True, ()),  # comes before the host's file
        (["tdm-reservation: yes"], True, ("tdm_reservation",)),  # says nothing
        ([], True, ("tdm_reservation",)),
        (["tdm-reservation: 0", "tdm-reservation: 1"], False, ("tdm_reservation",)),
        (["Content-Usage: train-ai=n"], False, ("content_usage",)),
        (["Content-Usage: search=y", "content-usage: train-ai=n"], False, ("content_usage",)),
        (["Content-Usage: train-ai=n", "Content-Usage: train-ai=y"], False, ()),
        (["Content-Usage: search=n"], False, ()),
        (
            ["Content-Usage: train-genai=n", "tdm-reservation: 1", "X-Robots-Tag: noai"],
            False,
            ("x_robots_tag", "tdm_reservation", "content_usage"),
        ),
    ],
)
def test_what_a_header_opt_outs(
    lines: list[str], reserved: bool, opt_outs: tuple[str, ...]
) -> None:
    told = [b"HTTP/1.1 200 OK\r\n", *(f"{line}\r\n".encode() for line in lines), b"\r\n"]
    assert header_opt_outs(told, HOW, HOW.directives, reserved) == opt_outs
    assert header_opt_outs(told, OFF, OFF.directives, reserved) == ()


def test_values_of_a_field() -> None:
    lines = [b'ETag: "a:b"\r\n', b"etag:c", b"Other: d"]
    assert list(field_values(lines, b"etag")) == [b'"a:b"', b"c"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("noai", True),
        ("NoImageAI", True),
        ("nofollow, noindex", True),
        ("AlignSet: nofollow, noai", True),
        ("otherbot: noai, alignset: noindex", True),
        ("alignset: all, otherbot: noai", False),
        ("unavailable_after: 25 Jun 2026 15:00:00 GMT+01:00, noai", True),
        ("index\u00a0noai", True),
        ("index，noai", True),
        ("otherbot:\u00a0noai", False),
        ("unavailable_after: Fri, 25 Jun 2027 15:00:00 GMT, noai", True),
        ("otherbot: unavailable_after: Fri, 25 Jun 2027 15:00:00 GMT, noai", False),
        ("360spider: noai", False),
        ("None", True),
        ("nofollow noai", True),
        ("otherbot: nofollow noai", False),
        ("index max-snippet:-1, noai", True),
        ("max-image-preview:large noai", True),
        ("max-image-preview : none", False),
        ("unavailable_after: 2027-06-25 15:00:00 noai", True),
        ("noaix, xnoai, no-ai, noa i", False),
        ("", False),
    ],
)
def test_directives(value: str, said: bool) -> None:
    assert has_directive(value, "alignset", OptOutSettings().directives) == said


@pytest.mark.parametrize(
    ("directives", "said"),
    [
        ({"noindex"}, True),
        ({"nofollow"}, True),
        ({"none"}, True),
        ({"noai", "noimageindex"}, False),
        (set(), False),
    ],
)
def test_none_is_noindex_and_nofollow_and_no_more(directives: set[str], said: bool) -> None:
    assert has_directive("none", "alignset", directives) == said


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
