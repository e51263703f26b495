"""What people wrote into a card outlives the commands that write it anew."""

import logging
from pathlib import Path

import pytest

from alignset.pipeline.documents.hand_edits import GENERATED, MOST_LINES, merge, write_page

BASE = b"name: unknown\nlicense: unknown\n\n10 pairs\n\n- one\n- two\n"


@pytest.mark.parametrize(
    ("edited", "made", "merged", "clashes"),
    [
        (BASE, BASE.replace(b"10", b"9"), BASE.replace(b"10", b"9"), 0),
        (BASE.replace(b"10", b"9"), BASE, BASE.replace(b"10", b"9"), 0),
        (b"", b"", b"", 0),
        # Neighbours, one changed by a person and one by the dataset.
        (
            b"name: mine\nlicense: unknown\n\n10 pairs\n\n- one\n- two\n",
            b"name: unknown\nlicense: mit\n\n9 pairs\n\n- one\n- two\n- three\n",
            b"name: mine\nlicense: mit\n\n9 pairs\n\n- one\n- two\n- three\n",
            0,
        ),
        # Paragraphs put in and taken out.
        (
            b"A head.\n\nname: unknown\nlicense: unknown\n\n10 pairs, I counted.\n\n- one\n",
            b"name: unknown\nlicense: unknown\n\n9 pairs\n\n- one\n- two\n",
            b"A head.\n\nname: unknown\nlicense: unknown\n\n10 pairs, I counted.\n\n- one\n",
            1,
        ),
        (b"all\nanew\n", BASE + b"- three\n", b"all\nanew\n", 2),
        (b"all\nanew\n", BASE, b"all\nanew\n", 0),
    ],
)
def test_both_changes_are_taken(edited: bytes, made: bytes, merged: bytes, clashes: int) -> None:
    lines, count = merge(*(text.splitlines(True) for text in (BASE, edited, made)))
    assert (b"".join(lines), count) == (merged, clashes)


def test_a_page_is_written_over_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    page, out = tmp_path / "README.md", str(tmp_path)
    write_page(out, "README.md", BASE)
    assert page.read_bytes() == BASE
    page.write_bytes(BASE.replace(b"name: unknown", b"name: Birds").replace(b"\n", b"\r\n"))
    for count in (b"9", b"8"):
        write_page(out, "README.md", BASE.replace(b"10", count))
        assert page.read_bytes() == BASE.replace(b"10", count).replace(
            b"name: unknown", b"name: Birds"
        )
    assert not caplog.records
    page.write_bytes(b"7 pairs\n")
    write_page(out, "README.md", BASE.replace(b"10", b"6"))
    assert page.read_bytes() == b"7 pairs\n"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"{tmp_path}/{GENERATED}/README.md" in record.getMessage()


def test_a_page_of_unknown_origin_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One of an older version, of which nothing tells what people changed; or one of any length."""
    page, out = tmp_path / "README.md", str(tmp_path)
    for there in (b"\xff by hand\n", b"\n" * (MOST_LINES + 1)):
        page.write_bytes(there)
        write_page(out, "README.md", BASE)
        assert page.read_bytes() == BASE
        assert (tmp_path / "README.md.before").read_bytes() == there
        assert "README.md.before" in caplog.records[-1].getMessage()


def test_the_page_before_shows_no_pair(tmp_path: Path) -> None:
    """The pair may have been taken down; nobody wrote its line by hand."""
    page = tmp_path / "README.md"
    page.write_bytes(b'# Mine\n```json\n{"key": "01", "url": "http://a/"}\n```\n{"key"}\n')
    write_page(str(tmp_path), "README.md", BASE)
    before = (tmp_path / "README.md.before").read_bytes()
    assert before == b'# Mine\n```json\n```\n{"key"}\n'
