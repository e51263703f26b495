"""Images with masks, and masks that are none."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alignset.train.errors import SettingsError
from alignset.train.evaluate.sets.masked import find_masked, read_mask


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, str]:
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for name in ("a", "x/b"):
        for part in ("images", "masks"):
            (tmp_path / part / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3)).save(tmp_path / "images" / f"{name}.jpg")
        Image.fromarray(values).save(tmp_path / "masks" / f"{name}.png")
    return str(tmp_path / "images"), str(tmp_path / "masks")


def test_masks_are_found_by_the_images_names(folders):
    files = find_masked(*folders)
    assert [image.name for image, _ in files] == ["a.jpg", "b.jpg"]
    mask = read_mask(files[0][1])
    assert mask.tolist() == np.arange(12).reshape(3, 4).tolist()
    assert mask.itemsize == 1  # eight of them are held


def test_a_palette_and_16_bits_are_numbers(tmp_path: Path):
    image = Image.new("P", (2, 1), 3)
    image.putpalette([0, 0, 0, 9, 9, 9, 1, 2, 3, 255, 0, 0])
    image.save(tmp_path / "p.png")
    assert read_mask(tmp_path / "p.png").tolist() == [[3, 3]]
    Image.fromarray(np.array([[700]], np.uint16)).save(tmp_path / "w.png")
    assert read_mask(tmp_path / "w.png").tolist() == [[700]]


def test_what_is_missing_or_no_mask_is_told_in_a_line(folders, tmp_path: Path):
    images, masks = folders
    (tmp_path / "empty").mkdir()
    (Path(images) / "c.png").write_bytes(b"")
    Image.new("RGB", (2, 2)).save(tmp_path / "colours.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    Image.effect_noise((90, 90), 90).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:500])
    for find, says in (
        (lambda: find_masked(images, masks), "has no mask of 1 image of .*, the first 'c'"),
        (lambda: find_masked(str(tmp_path / "no"), masks), "name one with --data"),
        (lambda: find_masked(images, str(tmp_path / "no")), "name one with --masks"),
        (lambda: find_masked(str(tmp_path / "empty"), masks), "has no image"),
        (lambda: read_mask(tmp_path / "colours.png"), "has colours"),
        (
            lambda: read_mask(tmp_path / "bad.png"),
            "bad.png is not a PNG, BMP, TIFF or GIF: replace",
        ),
        (lambda: read_mask(tmp_path / "cut.png"), "can't be read"),
    ):
        with pytest.raises(SettingsError, match=says) as error:
            find()
        assert "\n" not in str(error.value)
