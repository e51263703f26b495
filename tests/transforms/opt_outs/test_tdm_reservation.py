import json

import pytest

from alignset.transforms.opt_outs.tdm_reservation import (
    MOST_RULES,
    TdmRules,
    is_reserved,
    read_tdmrep,
)

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
    assert read_tdmrep(body) == TdmRules()
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
