from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faiss
import numpy as np
import pytest
import skimage.data
from PIL import Image as PillowImage

from alignset.transforms.decontamination import copy_index_files
from alignset.transforms.decontamination.copy_index import CopyIndex
from alignset.transforms.decontamination.copy_index_files import SEARCH, build_copy_index
from alignset.transforms.decontamination.copy_planes import image_planes, plane_row
from alignset.transforms.images.examine import examine
from alignset.transforms.rules.overlap import COPY_DISTANCE
from tests.support.grey_pictures import degenerate_planes, grey_photograph
from tests.support.picture_files import encoded

pytestmark = pytest.mark.numeric

EVALUATION = [grey_photograph(seed, 320, 240) for seed in range(24)]
MANY = 100  # entries from which on, in these tests, an index has lists and codes


def rows(pictures) -> np.ndarray:
    return np.stack([plane_row(np.ascontiguousarray(picture)) for picture in pictures])


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
        build_copy_index([rows(EVALUATION)], folder)
    return CopyIndex(folder)


def test_copies_are_found_and_others_are_not(index):
    matches = index.nearest(rows(altered()))
    assert [match.row for match in matches] == [*range(24)]
    assert max(match.distance for match in matches) < COPY_DISTANCE
    for match in matches[1::5] + matches[3::5]:
        assert str(match.numbers["variant"]).endswith("_mirrored")
    for match in matches[2::5]:
        assert str(match.numbers["variant"]).startswith("crop_75_top_left")
    others = index.nearest(rows(grey_photograph(seed) for seed in range(500, 530)))
    assert min(match.distance for match in others) > 2 * COPY_DISTANCE
    assert all(0 <= match.distance <= 2 for match in others)


def test_a_match_depends_on_its_own_image_alone(index):
    made = rows(altered() + [grey_photograph(seed) for seed in range(500, 520)])
    expected = index.nearest(made)
    for at_once in (1, 17):
        parts = [index.nearest(made[n : n + at_once]) for n in range(0, len(made), at_once)]
        assert [match for part in parts for match in part] == expected
    order = np.random.default_rng(3).permutation(len(made))
    assert index.nearest(made[order]) == [expected[n] for n in order]

    def search(part: np.ndarray) -> list:
        faiss.omp_set_num_threads(2)  # as another part of the program may
        return index.nearest(part)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(search, [made[:30]] * 4)) == [expected[:30]] * 4


def test_it_is_mapped(index):
    mapped = Path("/proc/self/maps").read_text()
    assert SEARCH in mapped
    assert "vectors.i8" in mapped


@pytest.mark.parametrize("count", [0, 1])
def test_an_index_of_none_or_one(tmp_path, count):
    build_copy_index([rows(EVALUATION[:1])][:count], tmp_path)
    index = CopyIndex(tmp_path)
    assert len(index) == count
    assert [match and match.row for match in index.nearest(rows(EVALUATION[:1]))] == [
        0 if count else None
    ]
    assert index.nearest(np.zeros((0, 2, 64, 64), np.uint8)) == []


def test_pictures_with_next_to_no_detail_are_copies_of_nothing_else(tmp_path):
    made = rows(plane for _, plane in degenerate_planes())
    build_copy_index([made], tmp_path)
    matches = CopyIndex(tmp_path).nearest(made)
    for row, ((name, _), match) in enumerate(zip(degenerate_planes(), matches, strict=True)):
        assert match is None or match.row == row or match.distance > COPY_DISTANCE, name


def test_an_index_with_a_fault_is_refused_in_one_line(tmp_path):
    build_copy_index([rows(EVALUATION[:2])], tmp_path)
    whole = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(whole) == 5

    def refused(path: Path, body: bytes | None, says: str = "remove the folder") -> None:
        path.unlink() if body is None else path.write_bytes(body)
        with pytest.raises(ValueError, match=says) as error:
            CopyIndex(tmp_path)
        assert "\n" not in str(error.value)
        path.write_bytes(whole[path])

    for path, body in whole.items():
        refused(path, None)
        refused(path, body[: -400 if path.name == SEARCH else -7])
    for name, place, number in (
        *(("entries.i4", 0, 2), ("entries.i4", 0, -1), ("entries.i4", 1, 99)),
        ("rows.i4", 3, 10**6),
    ):
        numbers = np.fromfile(tmp_path / name, "<i4")
        numbers[place] = number
        refused(tmp_path / name, numbers.tobytes(), f"{name} tells of what is not there")
    assert len(CopyIndex(tmp_path)) == 2


def test_entries_that_are_not_there_are_not_read(tmp_path):
    build_copy_index([rows(EVALUATION[:2])], tmp_path)
    made, path = rows(EVALUATION[:1]), str(tmp_path / SEARCH)
    assert [match.row for match in CopyIndex(tmp_path).nearest(made)] == [0]
    stored = faiss.read_index(path)
    vectors = stored.reconstruct_n(0, stored.ntotal)
    damaged = faiss.index_factory(64, "IVF1,Flat", faiss.METRIC_INNER_PRODUCT)
    damaged.train(vectors)
    damaged.add_with_ids(vectors, np.arange(stored.ntotal) + 10**9)
    faiss.write_index(damaged, path)
    assert CopyIndex(tmp_path).nearest(made) == [None]


def stripe(top: int) -> np.ndarray:
    picture = np.full((240, 320), 230, np.uint8)
    picture[top : top + 60] = 40
    return picture


def test_pictures_without_corners_are_found_whole_and_not_as_parts(tmp_path):
    build_copy_index([rows([stripe(90)])], tmp_path)
    same, darker, other, part = CopyIndex(tmp_path).nearest(
        rows([stripe(90), stripe(90) // 2, stripe(20), stripe(90)[:180, :240]])
    )
    assert same.distance == 0
    assert same.numbers["corners"] < 0.1
    assert darker.distance < COPY_DISTANCE
    assert min(other.distance, part.distance) > COPY_DISTANCE


def ramp(height: int, width: int) -> np.ndarray:
    return np.repeat(np.linspace(29, 255, height).astype(np.uint8)[:, np.newaxis], width, axis=1)


def test_a_picture_without_corners_is_found_whichever_part_of_it_is_nearest(tmp_path):
    build_copy_index([rows([ramp(200, 150)])], tmp_path)
    index = CopyIndex(tmp_path)
    # The same JPEG at 3/8 of its size: a crop's descriptor is as near as that of the whole.
    matches = index.nearest(rows(ramp(height, 113) for height in range(100, 300)))
    assert any("crop" in match.numbers["variant"] for match in matches)
    assert max(match.distance for match in matches) < COPY_DISTANCE + 0.3


def test_faint_pictures_are_found(tmp_path):
    faint = [(picture * (1.5 / picture.std()) + 100).astype(np.uint8) for picture in EVALUATION[:4]]
    assert rows(faint)[:, 1].std(axis=(1, 2)).max() < 2
    build_copy_index([rows(faint)], tmp_path)
    found = CopyIndex(tmp_path).nearest(rows(faint))
    assert [match.row for match in found] == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_file_is_a_copy_by_its_whole_image(tmp_path, kind):
    """Real photographs: made ones lack fine detail."""
    names = ("astronaut", "coffee", "rocket", "chelsea")
    photographs = [PillowImage.fromarray(getattr(skimage.data, name)()) for name in names]
    looks = [examine(encoded(of, "PNG"), keep_grey=True) for of in photographs]
    build_copy_index([image_planes(looks)], tmp_path)
    index = CopyIndex(tmp_path)
    mirrored = photographs[3].transpose(PillowImage.Transpose.FLIP_LEFT_RIGHT)
    body = encoded(mirrored.resize((401, 275)), kind)
    (whole,) = index.nearest(image_planes([examine(body, keep_grey=True)]))
    for look in (None, examine(body, keep_grey=True)):
        assert index.copied_by(body, look) == whole
    assert (whole.row, whole.numbers["variant"]) == (3, "whole_mirrored")
    moon = PillowImage.fromarray(skimage.data.moon())
    for other in (encoded(moon, kind), b"no image", encoded(moon.resize((1, 1)), kind)):
        assert index.copied_by(other) is None
