import pytest

from alignset.transforms.opt_outs.c2pa import boxes, decode_cbor, forbids_training
from tests.support.stating_files import box, cbor, manifest_store, superbox


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("label", "entries", "forbids"),
    [
        ("cawg.training-mining", {"cawg.ai_training": {"use": "notAllowed"}}, True),
        ("cawg.training-mining", {"cawg.data_mining": {"use": "constrained"}}, True),
        ("c2pa.training-mining__2", {"c2pa.data_mining": {"use": "notAllowed"}}, True),
        ("c2pa.training-mining", {"c2pa.ai_inference": {"use": "notAllowed"}}, False),
        ("c2pa.training-mining", {"c2pa.ai_training": {"use": "allowed"}}, False),
        ("org.training-mining", {"c2pa.ai_training": {"use": "notAllowed"}}, False),
        ("c2pa.training-mining", {}, False),
    ],
)
def test_assertions(label: str, entries: dict, forbids: bool, as_json: bool) -> None:
    assert forbids_training(manifest_store(entries, label, as_json=as_json)) == forbids


def test_the_first_writers_put_the_entries_at_the_top() -> None:
    told = cbor({"c2pa.ai_training": {"use": "notAllowed"}})
    assertion = superbox(b"c2pa.training-mining", box(b"cbor", told))
    assert forbids_training(superbox(b"c2pa", assertion))
    assert not forbids_training(superbox(b"c2pa", box(b"free", assertion)))


@pytest.mark.parametrize(
    "content",
    [
        box(b"cbor", b""),
        box(b"cbor", b"\x9f" * 5000),
        box(b"cbor", b"\xbb" + b"\xff" * 8),
        box(b"json", b"[" * 60_000),
        box(b"json", b'{"entries": [1]}'),
        box(b"json", b"1"),
        box(
            b"cbor", cbor({"entries": {"c2pa.ai_training": {"use": "notAllowed"}}}) + bytes(70_000)
        ),
    ],
)
def test_what_cannot_be_read_forbids_nothing(content: bytes) -> None:
    assert not forbids_training(superbox(b"c2pa.training-mining", content))


def test_nested_deeper_and_more_boxes_than_are_looked_at() -> None:
    inner = manifest_store({"c2pa.ai_training": {"use": "notAllowed"}})
    deep = inner
    for _ in range(20):
        deep = superbox(b"x", deep)
    assert not forbids_training(deep)
    assert not forbids_training(box(b"free", b"") * 20_000 + inner)


def test_more_assertions_than_are_read() -> None:
    forbids = manifest_store({"c2pa.ai_training": {"use": "notAllowed"}})
    other = superbox(b"c2pa.training-mining", box(b"json", b"1" + b" " * 1_000))
    assert forbids_training(superbox(b"c2pa", forbids + 60 * other))
    assert not forbids_training(superbox(b"c2pa", forbids + 70 * other))


def test_boxes_end_where_what_they_lie_in_does() -> None:
    huge = b"\xff\xff\xff\xffjumb" + b"ab"
    assert list(boxes(huge, 0, len(huge))) == [(b"jumb", 8, 10)]
    long = b"\0\0\0\1jumb" + (1 << 62).to_bytes(8, "big") + b"ab"
    assert list(boxes(long, 0, len(long))) == [(b"jumb", 16, 18)]
    assert list(boxes(b"\0\0\0\0jumbxy", 0, 10)) == [(b"jumb", 8, 10)]
    assert list(boxes(b"\0\0\0\7jumbxy", 0, 10)) == []


@pytest.mark.parametrize(
    ("data", "value"),
    [  # of RFC 8949, appendix A
        ("00", 0),
        ("1818", 24),
        ("3903e7", -1000),
        ("f5", True),
        ("f6", None),
        ("fb3ff199999999999a", None),  # numbers with a fraction say nothing here
        ("c074323031332d30332d32315432303a30343a30305a", "2013-03-21T20:04:00Z"),
        ("8301820203820405", [1, [2, 3], [4, 5]]),
        ("a26161016162820203", {"a": 1, "b": [2, 3]}),
        ("5f42010243030405ff", b"\1\2\3\4\5"),
        ("7f657374726561646d696e67ff", "streaming"),
        ("9f018202039f0405ffff", [1, [2, 3], [4, 5]]),
    ],
)
def test_values(data: str, value: object) -> None:
    assert decode_cbor(bytes.fromhex(data)) == value


@pytest.mark.parametrize("data", ["", "18", "62c3", "83", "a1", "1c", "81ff", "7f01ff", "3f"])
def test_what_is_none(data: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_cbor(bytes.fromhex(data))


def test_maps_as_keys_are_left_out() -> None:
    text = b"\\" * 1000  # whose written form is twice as long, in each map that has it as a key
    data = b"\xa1" * 12 + b"\x79" + len(text).to_bytes(2, "big") + text + b"\xf6" * 12
    assert decode_cbor(data) == {}
    assert decode_cbor(b"\xa2\xa1\x61a\x01\x02\x61b\x03") == {"b": 3}


def test_nested_too_deep_and_too_long() -> None:
    for data in (b"\x81" * 100_000, b"\xbb" + b"\xff" * 8, b"\x9b" + b"\xff" * 8 + b"\0" * 9):
        with pytest.raises(ValueError, match=r"deep|early"):
            decode_cbor(data)
