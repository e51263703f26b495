"""What a terminal is given: nothing that a caption could steer it by."""

from alignset.train.search.commands import printable, table

RESULT = {
    "key": "0123456789abcdef",
    "score": 0.5,
    "caption": "a dog\x1b[31m\r\n\u202ewith\tsnow",
    "url": "",
    "width": 640,
    "height": 480,
    "folded": 2,
}


def test_a_line_a_result_within_the_columns() -> None:
    lines = table([RESULT, RESULT | {"caption": "犬" * 200}], 80)
    assert len(lines) == 3
    assert "a dog[31m  with snow (and 2 like it)" in lines[1]
    assert lines[2].endswith("…")
    assert len(lines[2]) < 70  # wide letters take two columns


def test_nothing_but_text_is_printed() -> None:
    assert printable("a\x00\x1b]0;x\x07b\u2028c\u200bd") == "a]0;xb cd"
