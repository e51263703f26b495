from hypothesis import given
from hypothesis import strategies as st

from alignset.transforms.workers.counts import Counts, add_counts

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
