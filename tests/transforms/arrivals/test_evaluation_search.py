"""The nearest evaluation images of a shard's images, which several threads bring."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from alignset.transforms.arrivals.evaluation_search import EvaluationSearch, Planes
from alignset.transforms.arrivals.images import Images
from alignset.transforms.decontamination.copy_index import Nearest
from alignset.transforms.decontamination.evaluation_index import EvaluationIndex
from alignset.transforms.images.examine import Image
from tests.transforms.decontamination.test_evaluation_index import looks, made


def nearest_of(index: EvaluationIndex | None, image: Image, folder: Path) -> Nearest | None:
    images = Images(1, folder)
    search = EvaluationSearch(index, images)
    search.add({0: image})
    search.finish()
    return images["nearest"][0]


def test_images_of_several_threads_are_searched_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = EvaluationIndex(Path(made(tmp_path)))
    images = looks(6)  # the index has three of them
    alone = [nearest_of(index, image, tmp_path) for image in images]
    assert [near and near.row for near in alone[:3]] == [0, 1, 2]
    sizes = list[int]()

    def nearest(planes: Planes) -> list[Nearest | None]:
        sizes.append(len(planes))
        return EvaluationIndex.nearest(index, planes)

    monkeypatch.setattr(index, "nearest", nearest)
    found = Images(700, tmp_path)
    search = EvaluationSearch(index, found)
    groups = [range(first, first + 10) for first in range(0, 600, 10)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda rows: search.add({r: images[r % 6] for r in rows}), groups))
    search.add({})
    search.finish()
    assert found["nearest"] == alone * 100 + [None] * 100, "the last rows have no images"
    assert sum(sizes) == 600
    assert len(sizes) < 10  # of 60 groups: twice 256, which four threads may see, and the rest


def test_nothing_is_near_without_an_index(tmp_path: Path) -> None:
    assert [nearest_of(None, image, tmp_path) for image in looks(2)] == [None, None]
