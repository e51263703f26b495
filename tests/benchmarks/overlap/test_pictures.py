"""Pictures out of packages, here small ones made for the test."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.overlap import pictures
from benchmarks.overlap.packages import Package
from benchmarks.overlap.pictures import downloaded, held_out_pictures, training_pictures

WHEEL = Package("some-pictures", "1.0", "MIT", "noise", "pypi")
TARBALL = Package("@some/others", "2.0", "MIT", "noise", "npm")


def picture(seed: int, width: int = 120, height: int = 100) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    body = io.BytesIO()
    Image.fromarray(pixels).save(body, "PNG")
    return body.getvalue()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel to train on, of 60 images, and a tarball that is held out, with two of them."""
    with zipfile.ZipFile(tmp_path / "some_pictures-1.0-py3-none-any.whl", "w") as wheel:
        for seed in range(60):
            wheel.writestr(f"some/{seed}.png", picture(seed))
        wheel.writestr("some/again.png", picture(7))
        wheel.writestr("some/small.png", picture(1000, width=95))
        wheel.writestr("some/broken.png", b"\x89PNG")
        wheel.writestr("some/wall_normal.png", picture(1001))
        wheel.writestr("some/text.txt", b"no picture")
    with tarfile.open(tmp_path / "some-others-2.0.tgz", "w:gz") as tar:
        for name, seed in (("package/a.png", 3), ("package/b.png", 2000)):
            member = tarfile.TarInfo(name)
            member.size = len(picture(seed))
            tar.addfile(member, io.BytesIO(picture(seed)))
    monkeypatch.setattr(pictures, "TRAINING_PACKAGES", (WHEEL,))
    monkeypatch.setattr(pictures, "HELD_OUT_PACKAGES", (TARBALL,))
    return tmp_path


def test_no_picture_is_both_trained_on_and_measured_with(folder: Path) -> None:
    training, held_out = dict(training_pictures(folder)), dict(held_out_pictures(folder))
    assert {"@some/others/package/a.png", "@some/others/package/b.png"} <= held_out.keys()
    assert not set(training.values()) & set(held_out.values())
    expected = {picture(seed) for seed in [*range(60), 2000]}
    assert {*training.values(), *held_out.values()} == expected
    assert 2 < len(held_out) < 20  # a tenth of the wheel's, more or less
    assert len(training) == len({*training.values()})


def test_a_package_that_cannot_be_had_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="@some/others needs npm, which is not installed"):
        downloaded(TARBALL, tmp_path)
