"""Structured fields: dictionaries of values of all kinds, right and wrong, as they stand in
Content-Usage. The package structured-headers says which break the grammar."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from tests.suites.case import Case
from tests.suites.packages import by_node
from transforms.wishes.content_usage import usage_allowed

_KEYS = ("a", "*b", "a1_-.*", "A", "1", "-a", "", "aé", "a b")
_VALUES = (
    *("1", "-1", "01", "-0", "999999999999999", "1000000000000000", "--1", "-", "1.", ".5", "1e3"),
    *("1.5", "-1.123", "1.1234", "123456789012.1", "1234567890123.1", "@1659578233", "@-1", "@1.5"),
    *("@", "?0", "?1", "?2", "?", '"a"', '""', '"a\\"b"', '"a\\\\"', '"a\\b"', '"a', '"é"', "n"),
    *(
        '"a\tb"',
        "'a'",
        "tok",
        "*tok",
        "a/b:c",
        "tok!",
        "tok~",
        "tok@",
        "a b",
        "tok\u00e9",
        "/t",
        "y",
    ),
    *(":aGVsbG8=:", "::", ":aGVsbG8:", ":=aGVsbG8=:", ":a=b:", ":aGVs bG8=:", ":aGVsbG8=", ":_-:"),
    *('%"a"', '%"%c3%a9"', '%"%C3%A9"', '%"%c3"', '%"%ff"', '%"%e2%82%ac"', '%"a', '%"%"', "%a"),
    *('%"%f0%9f%98%80"', '%"%ed%a0%80"', '%"é"', "(1 tok)", "()", "( 1 )", "(1,2)", "(1", "(1  2)"),
    *("(1\t2)", "(1 2);p=1", "((1))", "(a;b=1 c)", '("x"y)', "", "{}", "\x00", "1 ", " 1"),
)
_PARAMETERS = ("", ";p", ";p=1", "; p=tok", " ;p", ";P", ";p= 1", ";p=()", ";", ";p=1;p=2", ";\tp")
_TAILS = ("", ", z=y", ",z", "\t,\tz", ",", " ", "  ,", "\t", ";", ",,z", ", a=last", " z")
# What a dictionary says of "q" and "a", as of categories of use; nothing where it is broken.
_PARSE = """
import { parseDictionary, Token } from "structured-headers"
const says = (member) => member?.[0] instanceof Token ? member[0].toString() : ""
const parsed = (field) => { try { return parseDictionary(field) } catch { return new Map() } }
(field) => ["q", "a"].map((key) => says(parsed(field).get(key)))
"""


def fields() -> Iterator[str]:
    """Yields dictionaries that differ in one thing or two from a right one."""
    for key, value in product(_KEYS, _VALUES):
        yield f"{key}={value}"
    for value, parameters in product(_VALUES, _PARAMETERS):
        yield f"a={value}{parameters}"
        yield f"a=(x {value}{parameters})"
    for value, tail in product(_VALUES, _TAILS):
        yield f"k=v, a={value}{tail}"
    for key, parameters, tail in product(_KEYS, _PARAMETERS, _TAILS):
        yield f"{key}{parameters}{tail}"


def cases() -> Iterator[Case]:
    """Yields a case for each dictionary: whether it allows a use that it states, and another."""
    found = [f"q=y, {field}" for field in dict.fromkeys(fields())]
    for field, said in zip(found, by_node(_PARSE, ("structured-headers",), found), strict=True):
        theirs = None if "y" not in said and "n" not in said else "n" not in said
        yield Case(field, theirs, usage_allowed(field.encode(), ("q", "a")))
