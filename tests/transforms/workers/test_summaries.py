import json
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
from hypothesis import given
from hypothesis import strategies as st

from alignset.transforms.workers.counts import Counts, add_by_name, add_counts
from alignset.transforms.workers.summaries import WriteSummary
from tests.support.made_batches import run_in_beam

dropped = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 9))
counts = st.lists(st.builds(Counts, st.integers(0, 9), st.integers(0, 9), dropped))


@given(counts, counts)
def test_counts_add_up_in_any_grouping(first: list[Counts], second: list[Counts]) -> None:
    whole, parts = add_counts(first + second), [*first, *second]
    assert whole.seen == sum(part.seen for part in parts)
    assert whole.kept == sum(part.kept for part in parts)
    names = {name for part in parts for name in part.dropped}
    assert whole.dropped == {
        name: sum(part.dropped.get(name, 0) for part in parts) for name in names
    }
    assert list(whole.dropped) == sorted(whole.dropped)
    assert add_counts([add_counts(first), add_counts(second)]) == whole


@dataclass(frozen=True)
class Summary:
    a: list[int]
    z: dict[str, int]
    n: int


def test_a_summary_in_beam(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "summary.json"

    def build(pipeline: beam.Pipeline) -> None:
        named = pipeline | beam.Create([{"b": 1}, {"a": 2, "b": 3}, {}, {"a": 1}])
        none = pipeline | "None" >> beam.Create([])
        five = pipeline | "Five" >> beam.Create([[5]])
        sums = {"z": (named, add_by_name), "n": (none, sum)}
        pipeline | WriteSummary(str(path), Summary, {"a": five}, sums)

    run_in_beam(build)
    assert json.loads(path.read_text()) == {"a": [5], "z": {"a": 3, "b": 4}, "n": 0}
    assert [file.name for file in path.parent.iterdir()] == ["summary.json"]
