"""Prefixes of strings, against `str.startswith`."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from alignset.transforms.blocklists.prefixes import begins_with_any, without_longer

WORDS = st.lists(st.text("ab\xff", max_size=5).map(lambda text: text.encode("latin-1")))


def spans(strings: list[bytes]) -> tuple:
    ends = np.cumsum([0, *map(len, strings)], dtype=np.int64)
    return np.frombuffer(b"".join(strings), np.uint8), ends[:-1], ends[1:]


@given(WORDS, WORDS)
def test_each_string_that_begins_with_one_is_marked(prefixes: list[bytes], strings: list[bytes]):
    marks = begins_with_any(spans(strings), without_longer(prefixes))
    assert marks.tolist() == [any(map(s.startswith, prefixes)) for s in strings]


def test_of_prefixes_of_prefixes_the_shortest_stay() -> None:
    data, ends = without_longer([b"ab", b"b", b"abc", b"a", b"bb", b"b"])
    assert (data.tobytes(), ends.tolist()) == (b"ab", [0, 1, 2])
