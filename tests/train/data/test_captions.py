"""Captions out of JSON, whatever it is."""

import pytest

from alignset.train.data.captions import LONGEST_TEXT, json_captions


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'{"c": "two  words\\n"}', "two words"),
        (b'{"c": ["one", " two\\nlines ", "", 7, null, "three"]}', "one\ntwo lines\nthree"),
        (b'{"c": []}', None),
        (b'{"c": 3}', None),
        (b'{"d": "x"}', None),
        (b'["c"]', None),
        (b"{", None),
        (b"\xff\xfe\xfd", None),
        (None, None),
        (b"[" * 500_000, None),
        (b'{"c": "half a \\ud83d character"}', "half a ? character"),
        (b'{"c": "' + b"x" * 900_000 + b'"}', "x" * LONGEST_TEXT),
    ],
)
def test_captions_of_a_field(data: bytes | None, text: str | None):
    assert json_captions(data, "c") == text
