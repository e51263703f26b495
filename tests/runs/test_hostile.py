"""Hostile images among photographs: each is a reason of its row, and costs the others nothing; and
the short form of the hostile internet, of which `python -m tests.support.hostile_run` is the long
one."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from alignset.train.data.images import decode_image, decode_square
from alignset.transforms.images.examine import Unusable, examine
from tests.support.command import kept, rejected, succeed
from tests.support.hostile_pictures import hostile_pictures
from tests.support.hostile_tars import write_tar
from tests.support.picture_files import encoded, photograph
from tests.support.root import ROOT

PART = 16  # of the sizes that were found
HOSTILE = hostile_pictures(PART)
# By their small sizes these are images; the whole ones are refused, take their pixels' time, or
# more than the child that decodes them may.
HARMLESS = {
    *(name for name in HOSTILE if name.startswith("AVIF")),
    "PNG: 3,000 colour profiles",
    "PNG: an animation that says 2 billion frames",
    "WebP: 89 million pixels",
}
REASONS = {
    "PNG": ("undecodable", "too_many_pixels"),
    "JPEG": ("undecodable", "broken"),
    "TIFF": ("not_an_image", "other_format"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_curation_and_training_agree(name: str) -> None:
    said, body = examine(HOSTILE[name]), HOSTILE[name]
    if name in HARMLESS:
        assert decode_image(body).size == (said.width, said.height)
        assert decode_square(body, 72).shape == (72, 72, 3)
        return
    assert isinstance(said, Unusable)
    assert (said.reason, said.detail) == REASONS[name.partition(":")[0]]
    with pytest.raises((OSError, Image.DecompressionBombError)):
        decode_square(body, 72)


def test_a_run_keeps_every_photograph(tmp_path: Path) -> None:
    good = [
        encoded(photograph(n, 320, 240), ("JPEG", "WEBP", "AVIF", "PNG")[n % 4]) for n in range(24)
    ]
    members: dict[str, bytes] = {}
    for n, body in enumerate([*good, *HOSTILE.values()]):
        about = {"url": f"http://a.example/{n}.jpg", "caption": f"a picture of number {n}"}
        members |= {f"{n:06}.jpg": body, f"{n:06}.json": json.dumps(about).encode()}
    write_tar(tmp_path / "0.tar", members)
    flags = ("--language=", "--input_format=webdataset", "--max_unsafe_score=1")
    succeed(tmp_path / "0.tar", tmp_path / "out", *flags)
    names = {fate.url for fate in kept(tmp_path / "out")}
    assert {f"http://a.example/{n}.jpg" for n in range(len(good))} <= names
    fates = {fate.url: fate[2:] for fate in rejected(tmp_path / "out")}
    for n, name in enumerate(HOSTILE, len(good)):
        if name not in HARMLESS:
            assert fates[f"http://a.example/{n}.jpg"] == REASONS[name.partition(":")[0]], name


ENTER = ("unshare", "--user", "--map-root-user", "--net", "--mount", "ip", "link")


def _can_enter() -> bool:
    if not all(map(shutil.which, ("unshare", "ip", "openssl"))):
        return False
    return not subprocess.run(ENTER, capture_output=True, check=False).returncode


@pytest.mark.slow
@pytest.mark.skipif(
    not _can_enter(),
    reason="2026-11-24: needs user namespaces, which some machines forbid, iproute2 and openssl",
)
def test_every_hostile_answer_ends_in_one_right_way():
    command = [sys.executable, "-m", "tests.support.hostile_run", "--answers=300"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
