"""What is taken down is in no record, and the other thumbnails are where they are said to be."""

from pathlib import Path

import pyarrow as pa
import pytest

from alignset.transforms.columns.record_files import decode_record, encode_record
from alignset.transforms.columns.records import Example, Record, Top
from alignset.transforms.shards.forget_examples import forget_examples, mark_copies

KEYS = [f"{n:016x}" for n in range(1, 5)]


def taken(rows: pa.RecordBatch) -> pa.StringArray:
    """The first two, and one host and one text."""
    wanted = (*KEYS[:2], "http://evil.example/", "a text")
    named = [[row["key"], row["url"], row["caption"]] for row in rows.to_pylist()]
    return pa.array(["list" if {*names} & {*wanted} else None for names in named], pa.string())


def taken_texts(texts: pa.StringArray) -> pa.StringArray:
    """One that a pair had which is on a list by its URL."""
    marks = ["list" if text == "a name" else None for text in texts.to_pylist()]
    return pa.array(marks, pa.string())


def test_examples_go_with_their_thumbnails(tmp_path: Path):
    folder = tmp_path / "report"
    folder.mkdir()
    places = [(0, 2), None, (2, 3), (5, 1)]
    examples = [
        Example(key, "http://h/", "text", ["kept"], picture=place)
        for key, place in zip(KEYS, places, strict=True)
    ]
    tops = {
        "hosts": Top({"evil.example": {"kept": 2}, "h": {"kept": 3}}, 4),
        "texts": Top({"a text": {"kept": 1}, "text": {"kept": 2}, "a name": {"kept": 1}}),
    }
    record = Record(9, {"kept": {"": 9}}, tops=tops, examples=examples)
    for name in ("images-00000", "images-00001"):
        (folder / f"{name}.json").write_bytes(encode_record(record))
        (folder / f"{name}.thumbnails").write_bytes(b"aabbbc")
    (folder / "text-00000.json").write_bytes(encode_record(Record(1)))
    assert forget_examples(str(tmp_path), taken, taken_texts) == 2
    for name in ("images-00000", "images-00001"):
        left = decode_record((folder / f"{name}.json").read_bytes(), "")
        assert [(e.key, e.picture) for e in left.examples] == [(KEYS[2], (2, 3)), (KEYS[3], (5, 1))]
        assert (folder / f"{name}.thumbnails").read_bytes() == b"\0\0bbbc"
        assert left.pairs == 9
        assert left.tops["hosts"] == Top({"h": {"kept": 3}}, 6)
        assert left.tops["texts"] == Top({"text": {"kept": 2}}, 2)
    assert forget_examples(str(tmp_path), taken, taken_texts) == 0


def test_a_record_that_says_more_bytes_than_there_are_costs_no_memory(tmp_path: Path):
    folder = tmp_path / "report"
    folder.mkdir()
    examples = [Example(KEYS[0], "http://h/", "text", ["kept"], picture=(2, 1 << 53))]
    (folder / "images-00000.json").write_bytes(encode_record(Record(1, examples=examples)))
    (folder / "images-00000.thumbnails").write_bytes(b"aabb")
    assert forget_examples(str(tmp_path), taken, taken_texts) == 1
    assert (folder / "images-00000.thumbnails").read_bytes() == b"aa\0\0"


def test_a_record_that_cannot_be_read_goes_with_its_thumbnails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Else a record of another version, or a broken one, would keep a pair in its dataset."""
    folder = tmp_path / "report"
    folder.mkdir()
    example = Example(KEYS[0], "http://h/", "text", ["kept"], values={"x": float("inf")})
    bodies = {"old": b'{"pairs":1}', "infinite": encode_record(Record(1, examples=[example]))}
    for forget in (
        lambda path: forget_examples(str(tmp_path), taken, taken_texts),
        lambda path: mark_copies(str(path), {}, {}),
    ):
        for name, body in bodies.items():
            path = folder / f"{name}.json"
            path.write_bytes(body)
            path.with_suffix(".thumbnails").write_bytes(b"aa")
            forget(path)
            assert not [*folder.iterdir()]
            forget(path)  # as where there never was a record
    (record,) = caplog.records  # one line, whatever number of shards
    assert f"{folder}/old.json is of another version" in record.getMessage()
