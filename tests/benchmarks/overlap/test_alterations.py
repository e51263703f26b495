import io

import numpy as np
import pytest
from PIL import Image

from benchmarks.overlap.alterations import ALTERATIONS
from tests.support.picture_files import photograph

PICTURE = photograph(4, 240, 180)
SAME = np.asarray(PICTURE.convert("L"), np.int32)


@pytest.mark.parametrize("alteration", ALTERATIONS, ids=lambda alteration: alteration.name)
def test_each_makes_one_file_of_a_picture_and_changes_it(alteration):
    file = alteration.file_of(PICTURE, "a name")
    assert file == alteration.file_of(PICTURE, "a name")
    with Image.open(io.BytesIO(file)) as altered:
        assert altered.format == "JPEG"
        grey = np.asarray(altered.convert("L"), np.int32)
    is_as_large = grey.shape == SAME.shape
    changed = not is_as_large or np.abs(grey - SAME).mean() > 1.5
    assert changed == (alteration.name != "the same file again") or "JPEG" in alteration.name


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("crop 70 %", (168, 126)),
        ("resize 50 %", (120, 90)),
        ("squeeze 60 %", (144, 180)),
        ("letterbox 25 %", (240, 240)),
        ("pillarbox 25 %", (320, 180)),
        ("border 8 %", (268, 208)),
        ("rotate 5 °", (240, 180)),
    ],
)
def test_the_strength_is_what_the_name_says(name, size):
    (alteration,) = (a for a in ALTERATIONS if a.name == name)
    with Image.open(io.BytesIO(alteration.file_of(PICTURE, "a name"))) as altered:
        assert altered.size == size
