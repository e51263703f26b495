"""The index of evaluation images: its files, its entries, and what is found by it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faiss
import numpy as np
import pytest

from alignset.transforms.decontamination import copy_index, copy_thumbnails
from alignset.transforms.decontamination.copy_index import (
    ENTRIES,
    ROWS,
    SEARCH,
    THUMBNAILS,
    VARIANTS,
    VECTORS,
    CopyIndex,
    build_copy_index,
    variants_of,
)
from alignset.transforms.decontamination.copy_thumbnails import (
    MODEL_PATH,
    descriptors,
    make_thumbnails,
)
from alignset.transforms.rules.thresholds import COPY_DISTANCE
from tests.support.grey_pictures import degenerate_thumbnails, grey_photograph

pytestmark = pytest.mark.numeric

EVALUATION = [grey_photograph(seed, 320, 240) for seed in range(24)]
MANY = 100  # entries from which on, in these tests, an index has lists and codes
WHOLE = np.stack(
    [make_thumbnails(grey_photograph(seed)).whole for seed in range(40)]
    + [thumbnail for _, thumbnail in degenerate_thumbnails()]
)


def rows(pictures) -> np.ndarray:
    return np.stack([np.stack(make_thumbnails(np.ascontiguousarray(of))[:2]) for of in pictures])


def bordered(count: int) -> np.ndarray:
    """Thumbnails of images; every third has borders: uint8[count, 2, 64, 64]."""
    borders = [15 * (seed % 3 == 0) for seed in range(count)]
    return rows(
        np.pad(grey_photograph(seed, 80, 60), ((border, border), (0, 0)))
        for seed, border in enumerate(borders)
    )


def built(folder: Path, arrays) -> dict[str, bytes]:
    folder.mkdir()
    build_copy_index(arrays, folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def altered() -> list[np.ndarray]:
    """A copy of each evaluation image, by turns of five kinds."""
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
            patch.setattr(copy_index, "MOST_COMPARED", MANY)
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
    mapped = Path("/proc/self/maps").read_text()
    assert SEARCH in mapped
    assert VECTORS in mapped


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


@pytest.mark.parametrize("is_large", [False, True])
def test_the_same_planes_give_the_same_bytes_however_they_are_divided(
    tmp_path, monkeypatch, is_large
):
    if is_large:  # of what takes centres and codes
        monkeypatch.setattr(copy_index, "MOST_COMPARED", MANY)
    pairs = bordered(30)
    files = built(tmp_path / "one", [pairs])
    assert built(tmp_path / "each", list(pairs[:, np.newaxis])) == files
    assert built(tmp_path / "some", iter([pairs[:7], pairs[7:7], pairs[7:]])) == files
    thumbnails = np.frombuffer(files[THUMBNAILS], np.uint8).reshape(-1, 64, 64)
    assert len(thumbnails) == 40  # once where nothing was trimmed
    assert (thumbnails[np.frombuffer(files[ROWS], "<i4").reshape(-1, 2)] == pairs).all()
    entries = np.frombuffer(files[ENTRIES], "<i4").reshape(-1, 2)
    assert len(entries) == 20 * 28 + 10 * 30
    vectors = np.frombuffer(files[VECTORS], np.int8).reshape(len(entries), 64)
    for row, pair in enumerate(pairs):
        numbers, variants = variants_of(pair)
        assert entries[entries[:, 0] == row, 1].tolist() == numbers.tolist()
        assert (vectors[entries[:, 0] == row] == descriptors(variants)).all()


@pytest.mark.parametrize("count", [0, 1])
def test_an_index_of_none_or_one(tmp_path, count):
    build_copy_index([rows(EVALUATION[:1])][:count], tmp_path)
    index = CopyIndex(tmp_path)
    assert len(index) == count
    found = [match and match.row for match in index.nearest(rows(EVALUATION[:1]))]
    assert found == [0 if count else None]
    assert index.nearest(np.zeros((0, 2, 64, 64), np.uint8)) == []


@pytest.mark.parametrize("most_compared", [MANY, 10_000])
def test_pictures_with_next_to_no_detail_are_copies_of_nothing_else(
    tmp_path, monkeypatch, most_compared
):
    monkeypatch.setattr(copy_index, "MOST_COMPARED", most_compared)
    made = rows(thumbnail for _, thumbnail in degenerate_thumbnails())
    assert build_copy_index([made, made], tmp_path) == 2 * len(made)
    matches = CopyIndex(tmp_path).nearest(made)
    for row, ((name, _), near) in enumerate(zip(degenerate_thumbnails(), matches, strict=True)):
        is_own = near is None or near.row % len(made) == row
        assert is_own or near.distance > COPY_DISTANCE, name


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
    for name, place, number in ((ENTRIES, 0, 2), (ENTRIES, 0, -1), (ENTRIES, 1, 99), (ROWS, 3, 99)):
        numbers = np.fromfile(tmp_path / name, "<i4")
        numbers[place] = number
        refused(tmp_path / name, numbers.tobytes(), f"{name} tells of what is not there")
    assert len(CopyIndex(tmp_path)) == 2


def stripe(top: int) -> np.ndarray:
    picture = np.full((240, 320), 230, np.uint8)
    picture[top : top + 60] = 40
    return picture


def ramp(height: int, width: int) -> np.ndarray:
    return np.repeat(np.linspace(29, 255, height).astype(np.uint8)[:, np.newaxis], width, axis=1)


def test_pictures_without_corners_are_found_whole_and_not_as_parts(tmp_path):
    build_copy_index([rows([stripe(90), ramp(200, 150)])], tmp_path)
    index = CopyIndex(tmp_path)
    same, darker, other, part = index.nearest(
        rows([stripe(90), stripe(90) // 2, stripe(20), stripe(90)[:180, :240]])
    )
    assert same.distance == 0
    assert same.numbers["corners"] < 0.1
    assert darker.distance < COPY_DISTANCE
    assert min(other.distance, part.distance) > COPY_DISTANCE
    # The nearest entry may be a crop's: its descriptor is as near as the whole image's.
    matches = index.nearest(rows(ramp(height, 113) for height in range(100, 300)))
    assert any("crop" in match.numbers["variant"] for match in matches)
    assert max(match.distance for match in matches) <= 0.3  # three bits of a hash
    assert np.mean([match.distance < COPY_DISTANCE for match in matches]) > 0.8


@pytest.mark.parametrize(("down", "across", "count"), [(0, 0, 28), (20, 0, 30), (20, 25, 30)])
def test_each_variant_shows_the_part_that_it_says(down, across, count):
    assert len(VARIANTS) == len({variant.name for variant in VARIANTS}) == 30
    framed = np.pad(grey_photograph(3), ((down, down), (across, across)), constant_values=255)
    (pair,) = rows([framed])
    numbers, thumbnails = variants_of(pair)
    assert (
        len(numbers)
        == len(thumbnails)
        == len({thumbnail.tobytes() for thumbnail in thumbnails})
        == count
    )
    assert (np.diff(numbers) > 0).all()
    for number, made in zip(numbers, thumbnails, strict=True):
        variant = VARIANTS[number]
        thumbnail, side = pair[int(variant.of_trimmed)], round(64 * variant.size)
        part = thumbnail[variant.y_px : variant.y_px + side, variant.x_px : variant.x_px + side]
        upright = made[:, ::-1] if variant.is_mirrored else made
        corners = np.ix_([0, -1], [0, -1])  # which no resize changes
        assert (upright[corners] == part[corners]).all(), variant.name
        assert side < 64 or (upright == part).all()
    starts = {variant.name: variant.start_px for variant in VARIANTS}
    assert starts["crop_75_top_right"] == (16, 0)
    assert starts["crop_75_top_right_mirrored"] == (0, 0)
    assert starts["crop_75_middle_centre_mirrored"] == (8, 8)
    assert starts["crop_88_bottom_left"] == (0, 8)


def test_a_network_other_than_the_shipped_one_is_refused(tmp_path, monkeypatch):
    body = bytearray(MODEL_PATH.read_bytes())
    assert len(body) <= 500_000
    body[len(body) // 2] ^= 1  # one bit of a weight: onnxruntime opens the file
    (tmp_path / "other.onnx").write_bytes(body)
    monkeypatch.setattr(copy_thumbnails, "MODEL_PATH", tmp_path / "other.onnx")
    with pytest.raises(ValueError, match="install alignset again"):
        descriptors(WHOLE[:1])
