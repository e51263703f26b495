"""JPEGs whose frame is not coded by DCT are no image at any entrance of a run, and kill nothing."""

import pytest

from tests.support.jpeg_frames import fates_by, hidden, patched

Fates = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def fates() -> Fates:
    return fates_by("curation")


def details(fates: Fates, kind: str) -> dict[str, str]:
    """The one detail of each file of a kind, at whatever entrance."""
    found = {}
    for name, by_entrance in fates.items():
        if name.startswith(f"{kind}: "):
            looked = by_entrance["look"].removeprefix("undecodable: ")
            each = {
                looked,
                *(by_entrance[way] for way in ("examine", "evaluation", "beside others")),
            }
            assert len(each) == 1, (name, by_entrance)
            found[name.removeprefix(f"{kind}: ")] = each.pop()
    return found


def test_the_lossless_family_is_refused_at_every_entrance(fates: Fates) -> None:
    found = details(fates, "family")
    assert len(found) > 80
    assert set(found.values()) == {"lossless"}


def test_a_hidden_frame_is_found(fates: Fates) -> None:
    assert details(fates, "hidden") == {name: detail for name, (_, detail) in hidden().items()}


def test_each_frame_has_its_detail(fates: Fates) -> None:
    found = details(fates, "frame")
    expected = {f"{marker:x}": "unsupported_frame" for marker in patched()}
    expected |= dict.fromkeys(("c3", "c7", "cb", "cf"), "lossless")
    # The scan of a baseline file is none of a progressive one.
    expected |= {"c0": "image", "c1": "image", "c2": "broken"}
    assert found == expected


def test_frames_that_no_decoder_reads_do_no_harm(fates: Fates) -> None:
    assert set(details(fates, "innocent").values()) == {"image"}


def test_no_scaled_decode_is_asked_of_another_frame(fates: Fates) -> None:
    for name, by_entrance in fates.items():
        if name.startswith("innocent: ") or name in ("frame: c0", "frame: c1"):
            assert by_entrance["scaled"] == "(64, 64, 1)", name
        elif name != "frame: c2":
            refused = "none", "raises ValueError: lossless", "raises ValueError: unsupported_frame"
            assert by_entrance["scaled"] in refused, name
