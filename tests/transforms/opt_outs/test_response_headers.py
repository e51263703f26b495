import json

import pytest

from alignset.transforms.opt_outs.host_statements import (
    MOST_RULES,
    Reservations,
    combined,
    field_values,
    has_directive,
    header_opt_outs,
    is_reserved,
    read_tdmrep,
    usage_allowed,
)
from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings

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
    [  # and those of tests/wat_pages/directives.py
        ("nofollow, noindex", True),
        ("AlignSet: nofollow, noai", True),
        ("otherbot: noai, alignset: noindex", True),
        ("alignset: all, otherbot: noai", False),
        ("unavailable_after: 25 Jun 2026 15:00:00 GMT+01:00, noai", True),
        ("index\u00a0noai", True),
        ("index，noai", True),
        ("noindex.", True),
        ("'index'|'noai'", True),
        ("all. noai&x", True),
        ("otherbot:\u00a0noai", False),
        ("otherbot: unavailable_after: Fri, 25 Jun 2027 15:00:00 GMT, noai", False),
        ("360spider: noai", False),
        ("otherbot: nofollow noai", False),
        ("unavailable_after: 2027-06-25 15:00:00 noai", True),
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


REPORT = json.dumps(  # the example of the report, with a rule for all that is left
    [
        {"location": "/directory-a/", "tdm-reservation": 1},
        {"location": "/directory-b/html/", "tdm-reservation": 1, "tdm-policy": "https://p/"},
        {"location": "/directory-b/images/*.jpg", "tdm-reservation": 0},
        {"location": "/*.png$", "tdm-reservation": "1"},
        {"location": "/directory-b/", "tdm-reservation": 1},
    ]
).encode()


@pytest.mark.parametrize(
    ("path", "reserved"),
    [
        ("/directory-a/x.jpg", True),
        ("/directory-b/images/deep/x.jpg?large", False),
        ("/directory-b/images/x.gif", True),
        ("/other/x.png", True),
        ("/other/x.png?v=1", False),
        ("/%64irectory-a/x.jpg", True),
        ("/directory%2Da/x.jpg", True),
        ("/directory%2fa/x.jpg", False),
        ("/x.jpg", False),
    ],
)
def test_the_first_rule_that_fits_counts(path: str, reserved: bool) -> None:
    assert read_tdmrep(REPORT).reserves(f"https://a.example{path}") == reserved


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("/", "/x", True),
        ("/a*b*c$", "/aXbYc", True),
        ("/a*b*c$", "/aXbYcd", False),
        ("/a*b*c", "/acb", False),
        ("/ab*b$", "/ab", False),
        ("/foo-%24", "/foo-$", True),
        ("/foo-%24", "/foo-%24", True),
        ("/foo-%24$", "/foo-$x", False),
        ("/foo-$x", "/foo-%24x", True),
        ("/a-%2A.html", "/a-*.html", True),
        ("/*%2A*.html$", "/a-*b.html", True),
        ("/*%2A*.html$", "/a-b.html", False),
        ("/a%252A", "/a%252A", True),
        ("x.jpg", "/x.jpg", True),
        ("/caf\u00e9/", "/caf%C3%A9/x.jpg", True),
        ("/a b", "/a%20b", True),
    ],
)
def test_patterns(pattern: str, path: str, fits: bool) -> None:
    body = json.dumps([{"location": pattern, "tdm-reservation": 1}]).encode()
    assert read_tdmrep(body).reserves(f"http://a.example{path}") == fits


@pytest.mark.parametrize(
    "body",
    [
        None,
        b"",
        b"[" * 100_000,
        b"[1, null, {}]",
        b'[{"location": "/", "tdm-reservation": true}]',
        b'[{"location": 1, "tdm-reservation": 1}]',
        b'[{"location": "/", "tdm-reservation": ' + b"[" * 1_000 + b"]" * 1_000 + b"}]",
        b'[{"location": "/", "tdm-reservation": 1}',  # the beginning of a longer one
        b"\xff\xfe",
    ],
)
def test_what_is_no_such_file_reserves_nothing(body: bytes | None) -> None:
    assert read_tdmrep(body) == Reservations()
    assert not read_tdmrep(body).reserves("http://a.example/x")


def test_a_single_rule_without_brackets_and_a_byte_order_mark() -> None:
    body = b'\xef\xbb\xbf{"location": "/", "tdm-reservation": 1}'
    assert read_tdmrep(body).reserves("http://a.example/x")


def test_more_rules_than_are_read() -> None:
    rules = [{"location": f"/{n}/*{'*'.join('ab' * 9)}", "tdm-reservation": 1} for n in range(9999)]
    rules.append({"location": "/", "tdm-reservation": 1})
    read = read_tdmrep(json.dumps(rules).encode())
    assert len(read.rules) == MOST_RULES
    assert not read.reserves("http://a.example/" + "ab" * 4000)
    assert read.reserves("http://a.example/7/" + "ab" * 20)


def test_short_rules_count_for_the_memory_that_they_take() -> None:
    rules = [{"location": "/", "tdm-reservation": 1}] * 1_000
    assert read_tdmrep(json.dumps(rules).encode()).size == 11 * 1_000


def test_values() -> None:
    assert [is_reserved(value) for value in (1, "1", " 1 ", 0, "0", 2, "yes", None, True)] == [
        *(True, True, True, False, False, None, None, None, None)
    ]


def test_the_directives_of_the_flags() -> None:
    how = OptOutSettings()
    assert how.directives == {"noai", "noimageai", "noml", "noindex", "noimageindex"}
    assert how.page_directives == {"noai", "noimageai", "noml", "noimageindex"}
    assert OptOutSettings(disallowed_header_directives="").directives == frozenset()
    as_img2dataset_has_it = OptOutSettings(disallowed_header_directives='["noai", "noimageai"]')
    assert as_img2dataset_has_it.directives == {"noai", "noimageai"}
    assert how.usage_categories == {"train-ai", "train-genai"}
    assert OptOutSettings(content_usage="").usage_categories == frozenset()
    assert how.robots_txt
    assert how.rejects
