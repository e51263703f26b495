from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from alignset.transforms.decontamination.copy_index import Nearest
from alignset.transforms.decontamination.evaluation_index import (
    EvaluationIndex,
    distances,
    open_index,
)
from alignset.transforms.shards.evaluation_search import EvaluationSearch, Planes
from tests.support.rules import run_rules
from tests.transforms.decontamination.test_evaluation_index import looks, made

RULES = run_rules(min_image_side=10)


class _Counting(EvaluationIndex):
    """An index that notes how many are searched for at once."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.sizes: list[int] = []

    def nearest(self, planes: Planes) -> list[Nearest | None]:
        self.sizes.append(len(planes))
        return super().nearest(planes)


def test_images_are_searched_for_together_whatever_thread_brings_them(tmp_path: Path) -> None:
    index, images = _Counting(Path(made(tmp_path))), looks(3)
    search = EvaluationSearch(index, 900, RULES)
    groups = [range(first, first + 8) for first in range(0, 800, 8)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda rows: search.add({r: images[r % 3] for r in rows}), groups))
    search.finish()
    assert sum(index.sizes) == 800
    assert max(index.sizes) < 300
    assert len(index.sizes) <= 4
    assert [found and found.row for found in search.nearest] == [
        row % 3 if row < 800 else None for row in range(900)
    ]
    assert distances(search.nearest).to_pylist() == [0.0] * 800 + [None] * 100


def test_nothing_is_near_without_an_index_or_where_the_size_is_wrong(tmp_path: Path) -> None:
    index, (image,) = open_index(made(tmp_path)), looks(1)
    for found_in, near in ((None, [False, False]), (index, [False, True])):
        search = EvaluationSearch(found_in, 2, RULES)
        search.add({0: replace(image, width=4000), 1: image})
        search.add({})
        search.finish()
        assert [found is not None for found in search.nearest] == near
