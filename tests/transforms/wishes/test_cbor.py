import pytest

from alignset.transforms.wishes.cbor import decode_cbor


@pytest.mark.parametrize(
    ("data", "value"),
    [  # of RFC 8949, appendix A
        ("00", 0),
        ("1818", 24),
        ("1b000000e8d4a51000", 1000000000000),
        ("20", -1),
        ("3903e7", -1000),
        ("f4", False),
        ("f5", True),
        ("f6", None),
        ("fb3ff199999999999a", None),  # numbers with a fraction say nothing here
        ("c074323031332d30332d32315432303a30343a30305a", "2013-03-21T20:04:00Z"),
        ("4401020304", b"\1\2\3\4"),
        ("62c3bc", "\u00fc"),
        ("83010203", [1, 2, 3]),
        ("8301820203820405", [1, [2, 3], [4, 5]]),
        ("a26161016162820203", {"a": 1, "b": [2, 3]}),
        ("a201020304", {"1": 2, "3": 4}),
        ("5f42010243030405ff", b"\1\2\3\4\5"),
        ("7f657374726561646d696e67ff", "streaming"),
        ("9f018202039f0405ffff", [1, [2, 3], [4, 5]]),
        ("bf61610161629f0203ffff", {"a": 1, "b": [2, 3]}),
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
