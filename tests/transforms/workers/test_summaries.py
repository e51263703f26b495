import json
from pathlib import Path

import apache_beam as beam
from hypothesis import given
from hypothesis import strategies as st

from tests.support.made_batches import run_in_beam
from transforms.workers.summaries import WriteJson, add_counts

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
        counts = {
            "z": pipeline | beam.Create(given),
            "n": pipeline | "None" >> beam.Create([]),
        }
        one = pipeline | "One" >> beam.Create([[5]])
        pipeline | WriteJson(str(path), {"a": one}, counts)

    run_in_beam(build)
    assert json.loads(path.read_text()) == {"a": [5], "z": {"a": 3, "b": 4}, "n": {}}
    assert [one.name for one in path.parent.iterdir()] == ["summary.json"]
