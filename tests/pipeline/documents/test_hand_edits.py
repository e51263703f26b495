"""What people wrote into a card outlives the commands that write it anew."""

import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignset.pipeline.documents.hand_edits import drop_page, merge, write_page
from alignset.transforms.storage.files import exists, write_atomically
from tests.support.memory_files import read

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
            b"A head.\n\nname: unknown\nlicense: unknown\n\n9 pairs\n\n- one\n",
            1,
        ),
        # A paragraph between lines that the dataset changes.
        (
            BASE.replace(b"10 pairs\n", b"10 pairs\n\n## About us\n\nFew.\n"),
            BASE.replace(b"10 pairs\n\n- one\n", b"9 pairs\n\n- 1\n- 1b\n"),
            BASE.replace(b"10 pairs\n\n- one\n", b"9 pairs\n\n## About us\n\nFew.\n\n- 1\n- 1b\n"),
            0,
        ),
        (
            BASE.replace(b"- one\n", b"- one\n- mine\n"),
            BASE.replace(b"- one\n- two\n", b"- 1\n- 2\n## Taken down\n"),
            BASE.replace(b"- one\n- two\n", b"- 1\n- 2\n## Taken down\n- mine\n"),
            0,
        ),
        (
            BASE.replace(b"- one\n", b""),
            BASE.replace(b"- one", b"- 1"),
            BASE.replace(b"one", b"1"),
            1,
        ),
        (b"all\nanew\n", BASE.replace(b"10", b"9"), BASE.replace(b"10", b"9"), 2),
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
    edited = page.read_bytes().replace(b"8 pairs", b"some 8 pairs")
    page.write_bytes(edited)
    write_page(out, "README.md", BASE.replace(b"10", b"6"))
    assert page.read_bytes() == BASE.replace(b"10", b"6").replace(b"name: unknown", b"name: Birds")
    assert (tmp_path / "README.md.before").read_bytes() == edited
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().endswith("/README.md.before")


def test_json_stays_json(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    page, out = tmp_path / "croissant.json", str(tmp_path)
    write_page(out, page.name, _json(name="a", pairs=10))
    page.write_bytes(_json(name="Birds", pairs=10))
    write_page(out, page.name, _json(name="a", pairs=9))
    assert page.read_bytes() == _json(name="Birds", pairs=9)
    assert not caplog.records
    for edited in (  # by itself, and with what is generated
        page.read_bytes().replace(b"Birds", b'Birds "and" bees'),
        _json(name="Birds"),
        b"[" * 100_000,
    ):
        page.write_bytes(edited)
        write_page(out, page.name, _json(name="a", pairs=9, more=1))
        assert page.read_bytes() == _json(name="a", pairs=9, more=1)
        assert (tmp_path / "croissant.json.before").read_bytes() == edited
        write_page(out, page.name, _json(name="a", pairs=9))
    assert "croissant.json: it is generated anew" in caplog.text


def _json(**values: object) -> bytes:
    return json.dumps(values, indent=1).encode() + b"\n"


TEXTS = st.lists(st.sampled_from([b"", b"a", b"b", b"c", b"d"]), max_size=9)


@given(TEXTS, TEXTS, TEXTS)
def test_a_change_alone_is_taken_whole(base: list[bytes], hand: list[bytes], new: list[bytes]):
    assert merge(base, base, new) == (new, 0)
    assert merge(base, hand, base) == (hand, 0)
    assert merge(base, new, new) == (new, 0)
    lines, _ = merge(base, hand, new)
    assert set(lines) <= {*base, *hand, *new}


def test_a_page_of_unknown_origin_is_set_aside_without_its_pairs(tmp_path: Path) -> None:
    """A pair may have been taken down; nobody wrote its line by hand."""
    page = tmp_path / "README.md"
    page.write_bytes(b'# Mine\n```json\n{"key": "01", "url": "http://a/"}\n```\n{"key"}\n')
    write_page(str(tmp_path), "README.md", BASE)
    assert page.read_bytes() == BASE
    before = (tmp_path / "README.md.before").read_bytes()
    assert before == b'# Mine\n```json\n```\n{"key"}\n'


@pytest.mark.parametrize("is_edited", [True, False])
def test_a_page_that_is_not_written_any_more_goes_and_what_people_wrote_stays(
    folder: str, is_edited: bool, caplog: pytest.LogCaptureFixture
) -> None:
    drop_page(folder, "sheet.md")
    write_page(folder, "sheet.md", BASE)
    hand = BASE + b"mine\n" * is_edited
    write_atomically(f"{folder}/sheet.md", lambda sink: sink.write(hand))
    drop_page(folder, "sheet.md")
    assert not exists(f"{folder}/sheet.md")
    assert not exists(f"{folder}/_generated/sheet.md")
    assert exists(f"{folder}/sheet.md.before") == is_edited == bool(caplog.records)
    if is_edited:
        assert read(f"{folder}/sheet.md.before") == hand
