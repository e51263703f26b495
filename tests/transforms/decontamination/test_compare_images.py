"""What an image is nearest to does not depend on the images beside it."""

import pytest

from alignset.transforms.decontamination.compare_images import NearestImage, nearest_images
from alignset.transforms.decontamination.evaluation_index import EvaluationIndex, open_index
from alignset.transforms.decontamination.overlap_settings import EvaluationFile
from tests.support.picture_files import encoded, photograph
from tests.transforms.decontamination.test_index_evaluation_images import indexed

SHOWN = encoded(photograph(0), "PNG")
OTHER = encoded(photograph(5), "PNG")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> EvaluationIndex:
    folder = tmp_path_factory.mktemp("index")
    (folder / "a.png").write_bytes(SHOWN)
    place, _ = indexed([EvaluationFile("one", str(folder / "a.png"))], folder)
    opened = open_index(str(place))
    assert opened is not None
    return opened


def test_an_image_is_a_copy_below_the_least_distance_alone(index: EvaluationIndex) -> None:
    (far,) = nearest_images([OTHER], index, 0.0)
    assert far.distance is not None
    assert far == NearestImage(False, "one", "a.png", far.distance)
    for least, is_copy in ((far.distance, False), (far.distance + 0.5, True)):
        assert nearest_images([OTHER], index, least) == [far._replace(is_copy=is_copy)]


def test_each_image_has_its_own_answer_in_any_company(index: EvaluationIndex) -> None:
    bodies = [OTHER, b"", SHOWN, SHOWN[:200], b"<html>", OTHER]
    alone = [nearest_images([body], index, 0.25)[0] for body in bodies]
    assert nearest_images(bodies, index, 0.25) == alone
    assert alone[2] == NearestImage(True, "one", "a.png", 0.0)
    faults = ["not_an_image: empty", "undecodable: truncated", "not_an_image: html"]
    assert [near.fault for near in (alone[1], alone[3], alone[4])] == faults
    assert nearest_images([], index, 0.25) == []
