from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from alignset.transforms.decontamination.evaluation_index import EvaluationIndex, open_index
from alignset.transforms.decontamination.overlap_measure import Features, Nearest
from alignset.transforms.images.examine import Image
from alignset.transforms.shards.evaluation_search import EvaluationSearch
from tests.support.rules import run_rules
from tests.transforms.decontamination.test_evaluation_index import MEASURE, made

RULES = run_rules(min_image_side=10)


def image(phash: int, width: int = 150) -> tuple[bytes, Image]:
    return b"", Image("png", width, 110, phash, True)


class _Counting(EvaluationIndex):
    """An index that notes how many are searched for at once."""

    def __init__(self, folder: Path) -> None:
        super().__init__(MEASURE, folder)
        self.sizes: list[int] = []

    def nearest(self, features: Features) -> Sequence[Nearest | None]:
        self.sizes.append(len(features))
        return super().nearest(features)


def test_images_are_searched_for_together_whatever_thread_brings_them(tmp_path: Path) -> None:
    index = _Counting(Path(made(tmp_path)))
    hashes = np.fromfile(tmp_path / "index" / "phashes.u64", "<u8").tolist()
    search = EvaluationSearch(index, 2000, RULES)
    groups = [range(first, first + 8) for first in range(0, 1600, 8)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda rows: search.add({r: image(hashes[r % 3]) for r in rows}), groups))
    search.finish()
    assert sum(index.sizes) == 1600
    assert max(index.sizes) < 300
    assert len(index.sizes) <= 7
    assert [found and found.row for found in search.nearest] == [
        row % 3 if row < 1600 else None for row in range(2000)
    ]
    assert search.distances.to_pylist() == [0.0] * 1600 + [None] * 400


def test_nothing_is_near_without_an_index_or_where_the_size_is_wrong(tmp_path: Path) -> None:
    index = open_index(made(tmp_path), MEASURE)
    for found_in, near in ((None, [False, False]), (index, [False, True])):
        search = EvaluationSearch(found_in, 2, RULES)
        search.add({0: image(1, 400), 1: image(1)})
        search.add({})
        search.finish()
        assert [found is not None for found in search.nearest] == near
