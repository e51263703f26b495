import threading
from pathlib import Path

import cv2
import faiss
import numpy as np
import pytest

from alignset.transforms.decontamination import copy_index as module
from alignset.transforms.decontamination import copy_index_files
from alignset.transforms.decontamination.copy_index import (
    NOTHING_NEAR,
    QUICK_ERROR,
    CopyIndex,
    finer_distance,
)
from alignset.transforms.decontamination.copy_index_files import DOCUMENT, SEARCH, build_copy_index
from alignset.transforms.decontamination.copy_planes import copy_planes, fine_planes, plane_row
from alignset.transforms.decontamination.overlap_settings import COPY_DISTANCE
from tests.support.grey_pictures import degenerate_planes, diagram, grey_photograph

pytestmark = pytest.mark.numeric

EVALUATION = [grey_photograph(seed, 320, 240) for seed in range(24)]
MANY = 100  # entries from which on, in these tests, an index has lists and codes


def stacked(pictures) -> tuple[np.ndarray, np.ndarray]:
    planes = [copy_planes(np.ascontiguousarray(picture)) for picture in pictures]
    return np.stack([p.whole for p in planes]), np.stack([p.trimmed for p in planes])


def rows(pictures) -> np.ndarray:
    return np.stack([plane_row(np.ascontiguousarray(picture), fine=True) for picture in pictures])


def altered() -> list[np.ndarray]:
    """Of each evaluation image a copy, by turns of five kinds."""
    kinds = [
        lambda picture: picture,
        lambda picture: picture[:, ::-1],
        lambda picture: picture[:168, :224],
        lambda picture: picture[72:, :224][:, ::-1],
        lambda picture: np.pad(picture, ((50, 50), (20, 20)), constant_values=255),
    ]
    return [kinds[number % 5](picture) for number, picture in enumerate(EVALUATION)]


@pytest.fixture(scope="module", params=["compared", "listed"])
def index(request, tmp_path_factory) -> CopyIndex:
    """An index of few entries, which compares all, and one with lists and codes."""
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "listed":
            patch.setattr(copy_index_files, "MOST_COMPARED", MANY)
        build_copy_index([rows(EVALUATION)], str(folder))
    return CopyIndex.open(str(folder))


def test_copies_are_found_and_others_are_not(index):
    matches = index.nearest(stacked(altered())[1])
    assert [match.row for match in matches] == [*range(24)]
    assert max(match.distance for match in matches) < COPY_DISTANCE
    for match in matches[1::5] + matches[3::5]:
        assert match.variant.endswith("_mirrored")
    for match in matches[2::5]:
        assert match.variant.startswith("crop_75_top_left")
    others = index.nearest(stacked(grey_photograph(seed) for seed in range(500, 530))[1])
    assert min(match.distance for match in others) > 2 * COPY_DISTANCE
    assert all(0 <= match.distance <= 2 for match in others)


def test_evaluation_images_before_a_row_are_left_out(index):
    _, trimmed = stacked(altered())
    matches, whole = index.nearest(trimmed, first_row=10), index.nearest(trimmed)
    assert min(match.row for match in matches) >= 10
    assert matches[10:] == whole[10:]
    assert min(match.distance for match in matches[:10]) > COPY_DISTANCE


def test_a_match_depends_on_its_own_image_alone(index):
    pictures = altered() + [grey_photograph(seed) for seed in range(500, 520)]
    whole, trimmed = stacked(pictures)
    expected = index.nearest(trimmed)
    for at_once in (1, 5, 17):
        parts = [index.nearest(trimmed[n : n + at_once]) for n in range(0, len(whole), at_once)]
        assert [match for part in parts for match in part] == expected
    order = np.random.default_rng(3).permutation(len(whole))
    assert index.nearest(trimmed[order]) == [expected[n] for n in order]


def test_several_threads_find_the_same(index):
    _, trimmed = stacked(altered())
    expected, found = index.nearest(trimmed), {}

    def search(number: int) -> None:
        faiss.omp_set_num_threads(2)  # as another part of the program may
        found[number] = index.nearest(trimmed)

    threads = [threading.Thread(target=search, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[n] for n in range(4)] == [expected] * 4


def test_it_is_mapped(index):
    mapped = Path("/proc/self/maps").read_text()
    assert SEARCH in mapped
    assert "vectors.i8" in mapped


def test_nothing_is_near_where_nothing_is_indexed(tmp_path):
    build_copy_index([], str(tmp_path))
    empty = CopyIndex.open(str(tmp_path))
    assert len(empty) == 0
    assert empty.nearest(stacked(EVALUATION[:2])[1]) == [NOTHING_NEAR] * 2


def test_no_images_have_no_matches(index):
    none = np.zeros((0, 64, 64), np.uint8)
    assert index.nearest(none) == []


def test_one_image_can_be_indexed(tmp_path):
    build_copy_index([rows(EVALUATION[:1])], str(tmp_path))
    one = CopyIndex.open(str(tmp_path))
    assert [match.row for match in one.nearest(stacked(EVALUATION[:1])[1])] == [0]


def test_pictures_with_next_to_no_detail_are_copies_of_nothing_else(tmp_path):
    planes = [plane for _, plane in degenerate_planes()]
    pairs = np.stack([np.stack([plane, plane]) for plane in planes])
    build_copy_index([np.pad(pairs, ((0, 0), (0, 4), (0, 0), (0, 0)))], str(tmp_path))
    matches = CopyIndex.open(str(tmp_path)).nearest(pairs[:, 1])
    for (name, _), row, match in zip(degenerate_planes(), range(99), matches, strict=False):
        assert match.row == row or match.distance > COPY_DISTANCE, name


@pytest.mark.parametrize(
    "name", ["index.json", "planes.u8", "fine.u8", "rows.i4", "entries.i4", "vectors.i8"]
)
@pytest.mark.parametrize("fault", ["missing", "cut"])
def test_an_index_with_a_fault_is_refused_in_one_line(tmp_path, name, fault):
    build_copy_index([rows(EVALUATION[:2])], str(tmp_path))
    path = tmp_path / name
    if fault == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ValueError, match="remove the folder") as refused:
        CopyIndex.open(str(tmp_path))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "place", "number"),
    [("entries.i4", 0, 2), ("entries.i4", 0, -1), ("entries.i4", 1, 99), ("rows.i4", 3, 10**6)],
)
def test_an_index_that_tells_of_what_is_not_there_is_refused(tmp_path, name, place, number):
    build_copy_index([rows(EVALUATION[:2])], str(tmp_path))
    numbers = np.fromfile(tmp_path / name, "<i4")
    numbers[place] = number
    numbers.tofile(tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} tells of what is not there"):
        CopyIndex.open(str(tmp_path))


def test_entries_that_are_not_there_are_not_read(tmp_path):
    build_copy_index([rows(EVALUATION[:2])], str(tmp_path))
    planes, path = stacked(EVALUATION[:1])[1], str(tmp_path / SEARCH)
    assert [match.row for match in CopyIndex.open(str(tmp_path)).nearest(planes)] == [0]
    stored = faiss.read_index(path)
    vectors = stored.reconstruct_n(0, stored.ntotal)
    damaged = faiss.index_factory(64, "IVF1,Flat", faiss.METRIC_INNER_PRODUCT)
    damaged.train(vectors)
    damaged.add_with_ids(vectors, np.arange(stored.ntotal) + 10**9)
    faiss.write_index(damaged, path)
    assert CopyIndex.open(str(tmp_path)).nearest(planes) == [NOTHING_NEAR]


def stripe(top: int) -> np.ndarray:
    picture = np.full((240, 320), 230, np.uint8)
    picture[top : top + 60] = 40
    return picture


def test_pictures_without_corners_are_found_whole_and_not_as_parts(tmp_path):
    build_copy_index([rows([stripe(90)])], str(tmp_path))
    same, darker, other, part = CopyIndex.open(str(tmp_path)).nearest(
        stacked([stripe(90), stripe(90) // 2, stripe(20), stripe(90)[:180, :240]])[1]
    )
    assert same.distance == 0
    assert same.check.corners < 0.1
    assert darker.distance < COPY_DISTANCE
    assert min(other.distance, part.distance) > COPY_DISTANCE


def ramp(height: int, width: int) -> np.ndarray:
    return np.repeat(np.linspace(29, 255, height).astype(np.uint8)[:, np.newaxis], width, axis=1)


def test_a_picture_without_corners_is_found_whichever_part_of_it_is_nearest(tmp_path):
    build_copy_index([rows([ramp(200, 150)])], str(tmp_path))
    index = CopyIndex.open(str(tmp_path))
    # The same JPEG at 3/8 of its size: a crop's descriptor is as near as that of the whole.
    matches = index.nearest(stacked([ramp(height, 113) for height in range(100, 300)])[1])
    assert any("crop" in match.variant for match in matches)
    assert max(match.distance for match in matches) < COPY_DISTANCE + QUICK_ERROR


def test_the_small_plane_of_a_jpeg_without_corners_gives_the_smallest_distance(tmp_path):
    build_copy_index([rows([stripe(90)])], str(tmp_path))
    planes, index = stacked([stripe(94), 255 - stripe(90)])[1], CopyIndex.open(str(tmp_path))
    by_small = [match.distance for match in index.nearest(planes)]
    unknown = index.nearest(planes, fine=np.zeros((2, 128, 128), np.uint8))
    assert (by_small[0], unknown[0].distance) == (0.2, 0)
    assert unknown[1].distance == by_small[1] >= 0.999


def finely(index: CopyIndex, pictures) -> tuple[list, list]:
    """The matches of pictures by their small planes, and by their fine ones too."""
    made = rows(pictures)
    return index.nearest(made[:, 1]), index.nearest(made[:, 1], fine=fine_planes(made))


def test_diagrams_that_differ_in_their_words_are_told_apart_by_fine_planes(tmp_path):
    build_copy_index([rows([diagram(1)])], str(tmp_path))
    index = CopyIndex.open(str(tmp_path))
    same, mirrored = diagram(1), diagram(1)[:, ::-1]
    small, fine = finely(index, [same, mirrored, diagram(2), diagram(3)])
    assert max(match.distance for match in small) < COPY_DISTANCE
    assert max(match.distance for match in fine[:2]) < COPY_DISTANCE
    assert min(match.distance for match in fine[2:]) > COPY_DISTANCE
    assert fine[0].check.blocks_agreeing == 1
    assert fine[1].check.blocks_agreeing > 0.95
    assert small[0].check.blocks_agreeing == -1


def test_a_fine_plane_that_is_not_known_gives_the_smallest_distance(tmp_path):
    build_copy_index([rows([diagram(1)])], str(tmp_path))
    index, made = CopyIndex.open(str(tmp_path)), rows([diagram(1), diagram(2), diagram(3)])
    unknown = index.nearest(made[:, 1], fine=np.zeros((3, 128, 128), np.uint8))
    by_small, known = (index.nearest(made[:, 1], fine=f) for f in (None, fine_planes(made)))
    assert max(match.distance for match in by_small) > 0.02
    for smallest, small, match in zip(unknown, by_small, known, strict=True):
        assert smallest.distance == max(round(small.distance - 0.2, 3), 0)
        assert smallest.distance <= match.distance
        assert smallest.distance < COPY_DISTANCE + QUICK_ERROR  # the picture is decoded whole


def test_a_picture_within_borders_is_compared_finely_without_them(tmp_path):
    framed = np.pad(diagram(1), 60, constant_values=90)
    build_copy_index([rows([framed])], str(tmp_path))
    index = CopyIndex.open(str(tmp_path))
    _, (inner, other, same) = finely(index, [diagram(1), diagram(2), framed])
    assert (inner.check.blocks_agreeing, same.check.blocks_agreeing) == (1, 1)
    assert other.distance > COPY_DISTANCE
    marked = framed.copy()  # so that nothing is trimmed, and the whole picture is what is alike
    marked[:40, :40] = marked[-40:, -40:] = 20
    _, (whole,) = finely(index, [marked])
    assert (whole.variant, whole.check.blocks_agreeing) == ("whole", -1)
    assert whole.distance < COPY_DISTANCE


def test_what_is_a_little_too_far_by_small_planes_is_looked_at_finely(tmp_path):
    build_copy_index([rows([diagram(1)])], str(tmp_path))
    branded = diagram(1)
    branded[100:220, 100:220] = 60
    cv2.circle(branded, (160, 160), 50, 240, -1)
    (small,), (fine,) = finely(CopyIndex.open(str(tmp_path)), [branded])
    assert COPY_DISTANCE < fine.distance < small.distance < COPY_DISTANCE + 0.2


def test_fine_planes_of_others_decide_nothing(tmp_path):
    build_copy_index([rows([diagram(1), *EVALUATION[:3]])], str(tmp_path))
    index, made = CopyIndex.open(str(tmp_path)), rows([diagram(2), diagram(1), *altered()[:3]])
    expected = index.nearest(made[:, 1], fine=fine_planes(made))
    order = [3, 1, 0, 4, 2]
    found = index.nearest(made[order, 1], fine=fine_planes(made[order]))
    assert found == [expected[number] for number in order]


@pytest.mark.parametrize(
    ("agreeing", "distance"),
    [(1, 0.1), (0.95, 0.15), (0.9, 0.3), (0.85, 0.45), (0.8, 0.55), (0, 0.55)],
)
def test_distances_by_the_share_of_blocks_that_agree(agreeing, distance):
    assert finer_distance(0.3, agreeing) == distance
    assert finer_distance(0.01, 1) == 0


def test_faint_pictures_are_found(tmp_path):
    faint = [(picture * (1.5 / picture.std()) + 100).astype(np.uint8) for picture in EVALUATION[:4]]
    assert max(plane.std() for plane in stacked(faint)[1]) < 2
    build_copy_index([rows(faint)], str(tmp_path))
    found = CopyIndex.open(str(tmp_path)).nearest(stacked(faint)[1])
    assert [match.row for match in found] == [0, 1, 2, 3]


def test_a_cut_search_is_refused(tmp_path):
    build_copy_index([rows(EVALUATION[:2])], str(tmp_path))
    path = tmp_path / SEARCH
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(ValueError, match="cannot be read"):
        CopyIndex.open(str(tmp_path))


def test_an_index_of_another_descriptor_is_refused(tmp_path, monkeypatch):
    build_copy_index([rows(EVALUATION[:2])], str(tmp_path))
    assert DOCUMENT in {path.name for path in tmp_path.iterdir()}
    monkeypatch.setattr(module, "DESCRIPTOR_SHA256", "another")
    with pytest.raises(ValueError, match="made by another version"):
        CopyIndex.open(str(tmp_path))
