from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from alignset.transforms.decontamination.overlap_measure import Shown
from alignset.transforms.decontamination.perceptual_overlap import (
    PerceptualIndex,
    PerceptualMeasure,
)
from alignset.transforms.images.examine import Image, examine
from tests.support.picture_files import encoded, photograph

hashes = st.integers(0, 2**64 - 1)


@given(st.lists(hashes), st.lists(hashes, min_size=1))
def test_distances_equal_the_nearest_by_hand(phashes: list[int], evaluation: list[int]) -> None:
    index = PerceptualIndex(np.array(evaluation, np.uint64))
    for phash, found in zip(phashes, index.nearest(np.array(phashes, np.uint64)), strict=True):
        bits = [(phash ^ other).bit_count() for other in evaluation]
        assert (found.distance, found.row) == (min(bits), bits.index(min(bits)))


def test_an_index_is_written_and_opened(tmp_path: Path) -> None:
    measure = PerceptualMeasure()
    image = examine(body := encoded(photograph(1), "PNG"))
    assert isinstance(image, Image)
    features = measure.features([Shown(body, image)])
    assert features.dtype == measure.row_type
    measure.build([features, features ^ np.uint64(7)], 2, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(measure.files)
    index = measure.open(tmp_path)
    (nearest,) = index.nearest(np.array([image.phash ^ 6], np.uint64))
    assert nearest == (1, 1.0, {})
