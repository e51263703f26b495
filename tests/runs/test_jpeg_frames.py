"""JPEGs whose frame is not coded by DCT are not image at any entrance, and kill no process."""

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.support.command import kept, rejected, run_fork
from tests.support.hostile_tars import write_tar
from tests.support.jpeg_frames import all_files, fates_by, hidden, patched
from tests.support.picture_files import encoded, photograph

Fates = dict[str, dict[str, str]]
TRAINING = ("decode_image", "draft", "decode_square")
GOOD = ("frame: c0", "frame: c1")
# These are left to libjpeg, which refuses a second frame, a missing end, and another frame's scan.
LEFT_TO_DECODERS = (*("hidden: behind a baseline frame", "hidden: cut in its frame", "frame: c2"),)


@pytest.fixture(scope="module")
def curation() -> Fates:
    return fates_by("curation")


@pytest.fixture(scope="module")
def training() -> Fates:
    return fates_by("training")


def is_good(name: str) -> bool:
    return name.startswith("innocent: ") or name in GOOD


def details(fates: Fates, kind: str) -> dict[str, str]:
    """The one detail of each file of a kind, at whatever entrance."""
    found = {}
    for name, by_entrance in fates.items():
        if name.startswith(f"{kind}: "):
            looked = by_entrance["look"].removeprefix("undecodable: ")
            each = {looked, by_entrance["examine"]}
            assert len(each) == 1, (name, by_entrance)
            found[name.removeprefix(f"{kind}: ")] = each.pop()
    return found


def test_the_lossless_family_is_refused_at_every_entrance(curation: Fates) -> None:
    found = details(curation, "family")
    assert len(found) > 80
    assert set(found.values()) == {"lossless"}


def test_a_hidden_frame_is_found(curation: Fates) -> None:
    assert details(curation, "hidden") == {name: detail for name, (_, detail) in hidden().items()}


def test_each_frame_has_its_detail(curation: Fates) -> None:
    expected = {f"{marker:x}": "unsupported_frame" for marker in patched()}
    expected |= dict.fromkeys(("c3", "c7", "cb", "cf"), "lossless")
    # The scan of a baseline file is none of a progressive one.
    expected |= {"c0": "image", "c1": "image", "c2": "broken"}
    assert details(curation, "frame") == expected


def test_frames_that_no_decoder_reads_do_no_harm(curation: Fates) -> None:
    assert set(details(curation, "innocent").values()) == {"image"}


def test_the_trainer_and_a_search_refuse_them_before_any_decode(training: Fates) -> None:
    count = 0
    for name, by_entrance in training.items():
        if is_good(name):
            assert by_entrance["decode_square"] == "(40, 40, 3)", name
            assert by_entrance["decode_image"] == "(512, 512)", name
            assert by_entrance["header_pixels"] == str(512 * 512), name
            assert by_entrance["upload"] == "(512, 512)", name
            continue
        why = ("raises OSError: the JPEG is broken, lossless", "raises DecompressionBombError")
        why = ("raises ",) if name in LEFT_TO_DECODERS else why
        assert all(by_entrance[decode].startswith(why) for decode in TRAINING), name
        assert by_entrance["upload"].startswith("raises RefusedPicture"), name
        count += name not in LEFT_TO_DECODERS
        assert name in LEFT_TO_DECODERS or by_entrance["header_pixels"] == "0", name
    assert count > 100


@pytest.mark.parametrize("more", [(), ("--resize_mode=border", "--image_size=64")])
def test_a_run_over_shards_that_hold_them(tmp_path: Path, more: tuple[str, ...]) -> None:
    """They are images of the input, and all evaluation images but one."""
    bad = {name: body for name, body in all_files().items() if not is_good(name)}
    good = [encoded(photograph(n, 300, 260), "JPEG") for n in range(10, 20)]
    members: dict[str, bytes] = {}
    for n, body in enumerate([*bad.values(), *good]):
        about = {"url": f"http://a.example/{n}.jpg", "caption": f"a picture of number {n}"}
        members |= {f"{n:06}.jpg": body, f"{n:06}.json": json.dumps(about).encode()}
    write_tar(tmp_path / "0.tar", members)
    exam = [*bad.values(), encoded(photograph(99, 300, 260), "PNG")]
    write_tar(tmp_path / "exam.tar", {f"{n}.jpg": body for n, body in enumerate(exam)})
    ended = run_fork(
        *(f"--input={tmp_path}/0.tar", f"--output={tmp_path}/set", "--input_format=webdataset"),
        *("--language=", "--min_words=1", f"--eval_images=exam={tmp_path}/exam.tar", *more),
    )
    assert ended.status == 0, ended.err
    assert len(kept(tmp_path / "set")) == len(good)
    fates = Counter((row.reason, row.detail) for row in rejected(tmp_path / "set"))
    assert {reason for reason, _ in fates} == {"undecodable"}
    assert fates.total() == len(bad)
    assert fates["undecodable", "lossless"] > 80
    assert fates["undecodable", "unsupported_frame"] == 6
