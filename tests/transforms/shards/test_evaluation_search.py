from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tests.support.picture_files import encoded, photograph
from tests.transforms.decontamination.test_evaluation_index import MEASURE, made
from transforms.decontamination.evaluation_index import EvaluationIndex, open_index
from transforms.decontamination.overlap_measure import Features, Look, Nearest
from transforms.images.examine import Image, examine
from transforms.shards.evaluation_search import EvaluationSearch

BODY = encoded(photograph(1), "PNG")


def look(phash: int) -> Look:
    image = examine(BODY)
    assert isinstance(image, Image)
    return Look(BODY, Image(image.format, image.width, image.height, phash, True))


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
    hashes = np.fromfile(tmp_path / "index" / "phashes.u64", "<u8")
    search = EvaluationSearch(index, 2000)
    groups = [range(first, first + 8) for first in range(0, 1600, 8)]
    with ThreadPoolExecutor(4) as pool:
        looks = [look(int(hash_)) for hash_ in hashes]
        list(pool.map(lambda rows: search.put(rows, [looks[row % 3] for row in rows]), groups))
    search.finish()
    assert sum(index.sizes) == 1600
    assert max(index.sizes) < 300
    assert len(index.sizes) <= 7
    assert [found and found.row for found in search.nearest] == [
        row % 3 if row < 1600 else None for row in range(2000)
    ]
    assert search.distances.to_pylist() == [0.0] * 1600 + [None] * 400


def test_without_an_index_nothing_is_near() -> None:
    search = EvaluationSearch(None, 2)
    search.put([0], [look(1)])
    search.finish()
    assert search.nearest == [None, None]
    assert search.distances.null_count == 2


def test_nothing_to_search_for(tmp_path: Path) -> None:
    search = EvaluationSearch(open_index(made(tmp_path), MEASURE), 0)
    search.put([], [])
    search.finish()
    assert len(search.distances) == 0
