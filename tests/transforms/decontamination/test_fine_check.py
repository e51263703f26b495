import cv2
import numpy as np
import pytest

from alignset.transforms.decontamination.copy_planes import fine_planes, plane_row
from alignset.transforms.decontamination.fine_check import FineQuery
from alignset.transforms.decontamination.plane_placement import placement_of
from tests.support.grey_pictures import diagram, grey_photograph

pytestmark = pytest.mark.numeric

WHOLE = placement_of(1, 0, 0)
DIAGRAM = diagram(1)


def fine(picture: np.ndarray) -> np.ndarray:
    return fine_planes(plane_row(picture, fine=True)[np.newaxis])[0]


EVALUATION = fine(DIAGRAM)


def as_jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    _, file = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(file, cv2.IMREAD_GRAYSCALE)


def bannered(picture: np.ndarray) -> np.ndarray:
    made = picture.copy()
    made[-80:] = 30
    cv2.putText(made, "www.example.com", (20, 380), cv2.FONT_HERSHEY_SIMPLEX, 1.4, 240, 3)
    return made


def branded(picture: np.ndarray) -> np.ndarray:
    made = picture.copy()
    cv2.rectangle(made, (10, 300), (100, 390), 60, -1)
    cv2.putText(made, "stock", (16, 350), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 240, 2)
    return made


COPIES = {
    "same": DIAGRAM,
    "jpeg": as_jpeg(DIAGRAM, 20),
    "blurred": cv2.GaussianBlur(DIAGRAM, (0, 0), 3),
    "blurred more than the indexed plane": cv2.GaussianBlur(DIAGRAM, (0, 0), 8),
    "small": cv2.resize(DIAGRAM, (144, 120), interpolation=cv2.INTER_AREA),
    "squeezed": cv2.resize(DIAGRAM, (300, 400), interpolation=cv2.INTER_AREA),
    "darker": DIAGRAM // 2,
    "noisy": np.clip(
        DIAGRAM + np.random.default_rng(1).normal(0, 10, DIAGRAM.shape), 0, 255
    ).astype(np.uint8),
    "bannered": bannered(DIAGRAM),
    "branded": branded(DIAGRAM),
}


@pytest.mark.parametrize("name", COPIES)
def test_copies_agree(name):
    agreeing = FineQuery(fine(COPIES[name])).agreeing(EVALUATION, WHOLE)
    assert agreeing is not None
    assert agreeing > 0.93


def test_diagrams_with_other_words_do_not():
    for words in range(2, 8):
        agreeing = FineQuery(fine(diagram(words))).agreeing(EVALUATION, WHOLE)
        assert agreeing is not None
        assert agreeing < 0.82


def test_a_placement_that_is_a_little_off_is_mended():
    crop = DIAGRAM[:300, :360]
    for size in (0.72, 0.75, 0.78):
        agreeing = FineQuery(fine(crop)).agreeing(EVALUATION, placement_of(size, 0, 0))
        assert agreeing is not None
        assert agreeing > 0.95


def test_planes_without_detail_tell_nothing():
    flat = np.full((128, 128), 90, np.uint8)
    for query, evaluation in ((flat, EVALUATION), (EVALUATION, flat), (flat, flat)):
        assert FineQuery(query).agreeing(evaluation, WHOLE) is None
    word = np.full(DIAGRAM.shape, 200, np.uint8)  # in four blocks
    cv2.putText(word, "ab", (200, 200), cv2.FONT_HERSHEY_SIMPLEX, 0.9, 20, 3)
    assert FineQuery(fine(word)).agreeing(fine(word), WHOLE) is None
    smooth = fine(cv2.GaussianBlur(grey_photograph(3, 400, 300), (0, 0), 12))
    assert FineQuery(smooth).agreeing(EVALUATION, WHOLE) is None


def test_placements_that_leave_too_little_tell_nothing():
    query = FineQuery(EVALUATION)
    for placement in (placement_of(1, 60, 0), placement_of(9, 0, 0), np.full((2, 3), np.nan)):
        assert query.agreeing(EVALUATION, placement) is None
    assert query.agreeing(EVALUATION, WHOLE) == 1
