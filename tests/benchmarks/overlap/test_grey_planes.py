import pytest

from alignset.transforms.images.examine import Image, examine
from alignset.transforms.images.perceptual_hash import plane_hash
from benchmarks.overlap.grey_planes import grey_of_file
from tests.support.picture_files import encoded, photograph, transparent

FILES = {
    "large JPEG": encoded(photograph(1, 800, 600), "JPEG", quality=90),
    "small JPEG": encoded(photograph(2, 150, 110), "JPEG"),
    "grey JPEG": encoded(photograph(3, 640, 480).convert("L"), "JPEG"),
    "PNG": encoded(photograph(4), "PNG"),
    "transparent PNG": encoded(transparent(), "PNG"),
    "WebP": encoded(photograph(5), "WEBP"),
}


@pytest.mark.parametrize("name", FILES)
def test_the_plane_is_the_one_that_a_run_hashes(name):
    grey, image = grey_of_file(FILES[name]), examine(FILES[name])
    assert grey is not None
    assert isinstance(image, Image)
    assert (plane_hash(grey) ^ image.phash).bit_count() <= 2  # Pillow's resize rounds elsewhere


@pytest.mark.parametrize("body", [b"", b"<svg/>", FILES["PNG"][:200]])
def test_what_a_run_would_not_take_has_none(body):
    assert grey_of_file(body) is None
