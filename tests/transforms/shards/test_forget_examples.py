"""What is taken down is in no record, and the other thumbnails are where they are said to be."""

from pathlib import Path

from transforms.columns.records import Example, Record, decode_record, encode_record
from transforms.shards.forget_examples import forget_examples

KEYS = [f"{n:016x}" for n in range(4)]


def test_examples_go_with_their_thumbnails(tmp_path: Path):
    folder = tmp_path / "report"
    folder.mkdir()
    places = [(0, 2), None, (2, 3), (5, 1)]
    examples = [
        Example(key, "http://h/", "text", ["kept"], picture=place)
        for key, place in zip(KEYS, places, strict=True)
    ]
    record = Record(9, {"kept": {"": 9}}, examples=examples)
    for name in ("images-00000", "images-00001"):
        (folder / f"{name}.json").write_bytes(encode_record(record))
        (folder / f"{name}.thumbnails").write_bytes(b"aabbbc")
    (folder / "text-00000.json").write_bytes(encode_record(Record(1)))
    assert forget_examples(str(tmp_path), {KEYS[0], KEYS[1]}) == 2
    for name in ("images-00000", "images-00001"):
        left = decode_record((folder / f"{name}.json").read_bytes(), "")
        assert [(e.key, e.picture) for e in left.examples] == [(KEYS[2], (2, 3)), (KEYS[3], (5, 1))]
        assert (folder / f"{name}.thumbnails").read_bytes() == b"\0\0bbbc"
        assert left.pairs == 9
    assert forget_examples(str(tmp_path), {KEYS[0], KEYS[1]}) == 0
