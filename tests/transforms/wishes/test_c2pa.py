import pytest

from alignset.transforms.wishes.c2pa import boxes, forbids_training
from tests.support.stating_files import box, cbor, manifest_store, superbox


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("label", "entries", "forbids"),
    [
        ("cawg.training-mining", {"cawg.ai_training": {"use": "notAllowed"}}, True),
        ("cawg.training-mining", {"cawg.ai_generative_training": {"use": "notAllowed"}}, True),
        ("cawg.training-mining", {"cawg.data_mining": {"use": "constrained"}}, True),
        ("c2pa.training-mining", {"c2pa.ai_training": {"use": "notAllowed"}}, True),
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
        box(b"cbor", b"\xff"),
        box(b"cbor", b"\x9f" * 5000),
        box(b"cbor", b"\xbb" + b"\xff" * 8),
        box(b"json", b"[" * 60_000),
        box(b"json", b"{"),
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
