"""Whatever command ended a dataset: `describe` writes the same bytes of a copy of it, and all that
tells of the dataset counts what is there."""

from collections.abc import Iterator

import pytest

from tests.support.agreement import check_dataset, dropped_of
from tests.support.command import funnel
from tests.support.described_sets import SETS, DescribedSets
from tests.support.golden_run import Golden
from tests.support.small_web import small_web


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DescribedSets]:
    with small_web() as web:
        yield DescribedSets(web, tmp_path_factory.mktemp("described"))


@pytest.mark.parametrize("name", SETS)
def test_all_that_tells_of_a_dataset_agrees(sets: DescribedSets, name: str) -> None:
    out = sets.find(name)
    assert dropped_of(funnel(out)).keys() >= {*SETS[name].drops}
    check_dataset(out, whole=not name.startswith("downloaded"))


@pytest.mark.parametrize("name", ["golden", "plain"])
def test_so_it_is_of_the_golden_sets(name: str, request: pytest.FixtureRequest) -> None:
    run: Golden = request.getfixturevalue(name)
    check_dataset(run.output)


def test_what_was_downloaded_keeps_the_counts_of_its_funnel(sets: DescribedSets) -> None:
    before, after = (funnel(sets.find(name)) for name in ("all", "downloaded, deduplicated"))
    assert after["fetch"] == before["fetch"]
    assert after["opted_out"] == before["opted_out"]
    assert after["steps"][0] == before["steps"][0]
    assert dropped_of(after) >= dropped_of(before)
    left = dropped_of(after) - dropped_of(before)
    assert {"taken_down", "duplicate_image"} <= left.keys()
    assert left.total() == before["pairs"] - after["pairs"]
