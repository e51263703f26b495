"""Names, attributes and raw text, as a browser's tokenizer reads them."""

import numpy as np
import pytest

from alignset.transforms.columns.byte_search import word
from alignset.transforms.pages.html_tokens import (
    FONT,
    IMG,
    NOT_LISTED,
    SCRIPT,
    A,
    after_attributes,
    attribute_value,
    name_at,
    raw_text_end,
)


@pytest.mark.parametrize(
    ("text", "number", "end"),
    [
        *(
            (b"img ", IMG, 3),
            (b"IMG/", IMG, 3),
            (b"iMg>", IMG, 3),
            (b"img", IMG, 3),
            (b"a\f", A, 1),
        ),
        *((b"font\t", FONT, 4), (b"scr\x00ipt>", NOT_LISTED, 7), (b"imgs>", NOT_LISTED, 4)),
        *((b"im>g", NOT_LISTED, 2), (b"x" * 1000, NOT_LISTED, 1000), (b"img\x0b ", NOT_LISTED, 4)),
    ],
)
def test_names(text: bytes, number: int, end: int):
    found, _, behind = name_at(np.frombuffer(text, np.uint8), 0, len(text))
    assert (found, behind) == (number, end)


@pytest.mark.parametrize(
    ("attributes", "value"),
    [
        *((" name=b", "b"), (" NAME = 'b c'", "b c"), ('/name="b>"', "b>"), (" a=b name=c", "c")),
        *((" name=b name=c", "b"), (" name", ""), (" name=", ""), (" a='name=b'", None)),
        *((" name=b/", "b/"), (" ='x' name=b", "b"), (" names=b", None), ("", None)),
        *((" a=b'name=c' name=d", "d"), ("\nname\n=\nb", "b"), (" a = name=b", None)),
    ],
)
def test_the_first_attribute_of_a_name(attributes: str, value: str | None):
    tag = np.frombuffer(f"{attributes}>".encode(), np.uint8)
    begin, end = attribute_value(tag, 0, len(attributes), word(b"name"))
    assert (tag[begin:end].tobytes().decode() if begin >= 0 else None) == value
    assert after_attributes(tag, 0, len(tag))[0] == len(tag)
    assert after_attributes(tag, 0, len(attributes))[0] == -1


@pytest.mark.parametrize(
    ("attributes", "closes_itself"),
    [("/", True), (" /", True), (" a/", True), ("a='b'/", True), (" a=b/", False), ("/ ", False)],
)
def test_a_tag_that_closes_itself(attributes: str, closes_itself: bool):
    tag = np.frombuffer(f"{attributes}>".encode(), np.uint8)
    assert after_attributes(tag, 0, len(tag))[1] == closes_itself


@pytest.mark.parametrize(
    ("text", "end"),
    [
        *(("</script>", 0), ("a</SCRIPT b", 1), ("</scripts></script/", 10), ("</script", 8)),
        *(("<!--</script>", 4), ("<!--<script></script></script>", 21), ("<script></script>", 8)),
        *(("<!--<script>--></script>", 15), ("<!--><script></script>", 13), ("</style>", 8)),
        *(("<!--<scripts></script>", 13), ("<!--<script>x</script >-->y</script>", 27)),
    ],
)
def test_the_end_of_a_script(text: str, end: int):
    assert raw_text_end(np.frombuffer(text.encode(), np.uint8), 0, len(text), SCRIPT) == end
