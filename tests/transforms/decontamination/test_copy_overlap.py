from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image as PillowImage

from alignset.transforms.decontamination.copy_overlap import CopyMeasure
from alignset.transforms.decontamination.overlap_measure import Shown
from alignset.transforms.images.examine import Image, examine
from tests.support.picture_files import encoded

pytestmark = pytest.mark.numeric

MEASURE = CopyMeasure()
PHOTOGRAPHS = ("astronaut", "coffee", "rocket", "chelsea", "camera")


def photograph(number: int) -> PillowImage.Image:
    """A real one: copies are told by fine detail, which made ones lack."""
    return PillowImage.fromarray(getattr(skimage.data, PHOTOGRAPHS[number])()).convert("RGB")


def look(picture: PillowImage.Image, kind: str = "PNG") -> Shown:
    body = encoded(picture, kind)
    image = examine(body, keep_grey=True)
    assert isinstance(image, Image)
    return Shown(body, image)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_copy_is_found_and_another_picture_is_not(tmp_path: Path, kind: str) -> None:
    features = MEASURE.features([look(photograph(seed)) for seed in range(5)])
    assert (features.dtype, features.shape) == (np.uint8, (5, 2, 64, 64))
    assert (features.dtype, features.shape[1:]) == MEASURE.row_type.subdtype
    MEASURE.build([features[:3], features[3:]], 5, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(MEASURE.files)
    index = MEASURE.open(tmp_path)

    mirrored = photograph(3).transpose(PillowImage.Transpose.FLIP_LEFT_RIGHT)
    looks = [
        look(mirrored.resize((401, 275)), kind),
        look(PillowImage.fromarray(skimage.data.moon()), kind),
        look(PillowImage.new("RGB", (300, 300), "grey")),
    ]
    copy, other, flat = index.nearest(MEASURE.features(looks))
    assert copy is not None
    assert (copy.row, copy.distance < MEASURE.min_distance) == (3, True)
    assert str(copy.numbers["variant"]).endswith("mirrored")
    assert flat is None
    assert other is None or other.distance > MEASURE.min_distance + MEASURE.quick_error
