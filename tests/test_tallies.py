import json
from pathlib import Path

import apache_beam as beam
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given
from hypothesis import strategies as st

from tests.made_batches import run_in_beam
from transforms.tallies import CombineCounts, WriteJson, add_counts

counts = st.lists(st.dictionaries(st.sampled_from("abcd"), st.integers(0, 9)))


@given(counts, counts)
def test_counts_add_up_in_any_grouping(first: list[dict], second: list[dict]) -> None:
    whole = add_counts(first + second)
    names = {name for one in first + second for name in one}
    assert whole == {name: sum(one.get(name, 0) for one in first + second) for name in names}
    assert list(whole) == sorted(whole)
    assert add_counts([add_counts(first), add_counts(second)]) == whole


def test_counts_and_json_in_beam(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "summary.json"

    def build(pipeline: beam.Pipeline) -> None:
        given = [{"b": 1}, {"a": 2, "b": 3}, {}, {"a": 1}]
        total = pipeline | beam.Create(given) | "Add" >> CombineCounts()
        nothing = pipeline | "None" >> beam.Create([]) | "AddNone" >> CombineCounts()
        assert_that(total, equal_to([{"a": 3, "b": 4}]), label="total")
        assert_that(nothing, equal_to([{}]), label="nothing")
        pipeline | WriteJson(str(path), {"z": total, "n": nothing})

    run_in_beam(build)
    assert json.loads(path.read_text()) == {"z": {"a": 3, "b": 4}, "n": {}}
    assert [one.name for one in path.parent.iterdir()] == ["summary.json"]
