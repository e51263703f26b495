"""Two sets side by side: what only one keeps is counted by keys, with the other's reasons."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec import UNSET

from alignset.pipeline.datasets.facts import Facts
from alignset.pipeline.datasets.kept_keys import NOWHERE, kept_keys, key_numbers, only_in
from alignset.pipeline.datasets.set_files import find_set
from alignset.pipeline.report.comparison import (
    has_other_input,
    rule_differences,
    step_deltas,
    steps_over_stages,
    write_comparison,
)
from alignset.pipeline.runs.documents import FetchReport, Funnel, SourceSet, Step
from alignset.transforms.columns.rejects import REJECTED
from alignset.transforms.corpus.corpus_documents import VocabularySummary
from alignset.transforms.rules.catalogue import PRODUCT
from tests.support.small_sets import image, keys, put_rejected, put_shard, put_table


def test_keys_are_their_hex_digits_as_numbers():
    own = [*keys(0, 50), "0" * 16, "f" * 16]
    assert key_numbers(pa.array(own)).tolist() == [int(key, 16) for key in own]
    odd = pa.array(["", "xyz", None, "g" * 16, "00000000000000A1", "é" * 8])
    assert key_numbers(odd).tolist() == [0] * 6
    assert len(key_numbers(pa.array([], pa.string()))) == 0
    assert key_numbers(pa.array(own)[3:7]).tolist() == [int(key, 16) for key in own[3:7]]


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str], list[str]]:
    """A holds shards 0 and 1, B shards 1 and 2, and dropped all but one of shard 0 for reasons."""
    first, second = (tmp_path_factory.mktemp(name) for name in ("a", "b"))
    only_first = put_shard(str(first), 0, 12)
    put_shard(str(first), 1, 5)
    put_shard(str(second), 1, 5)
    only_second = put_shard(str(second), 2, 7)
    rows = [
        {"key": key, "url": f"http://h/{key}", "caption": key, "reason": "too_small"}
        for key in only_first[:11]
    ]
    rows[0] |= {"reason": "fetch_failed", "detail": "dns"}
    rows.insert(0, rows[3] | {"reason": "duplicate_pair"})  # another row of a pair that was judged
    put_table(f"{second}/rejected/text-00000.parquet", pa.Table.from_pylist(rows, REJECTED))
    return first, second, only_first, only_second


def test_rules_that_differ_and_those_that_are_off():
    first, second = (
        SimpleNamespace(state="finished", run=SimpleNamespace(rules=rules), catalogue=PRODUCT)
        for rules in (
            {"min_words": 3, "max_words": 20, "language": "de", "min_image_side": 200},
            {"min_words": 0, "max_words": 10**9, "language": "", "min_image_side": 200, "new": 1},
        )
    )
    assert list(rule_differences(first, second)) == [
        ("language", "de", "off"),
        ("max_words", "20", "off"),
        ("min_words", "3", "off"),
        ("new", "–", "1"),
    ]


def test_what_only_one_keeps_and_why_the_other_does_not(sets):
    first, second, only_first, only_second = sets
    files = find_set(str(first)), find_set(str(second))
    held = [kept_keys(of_set) for of_set in files]
    told = only_in(files[0], held[0], files[1], held[1])
    assert told.pairs == 12
    assert told.reasons == {"too_small": 10, "fetch_failed": 1, NOWHERE: 1}
    assert {example.key for example in told.examples} == set(only_first)
    reasons = {example.key: example.reason for example in told.examples}
    assert reasons[only_first[0]] == "fetch_failed"
    assert reasons[only_first[3]] == "too_small"
    assert reasons[only_first[11]] == NOWHERE
    other = only_in(files[1], held[1], files[0], held[0])
    assert (other.pairs, other.reasons) == (7, {NOWHERE: 7})
    assert {example.key for example in other.examples} == set(only_second)


def test_files_of_anybody_repeat_keys_and_have_reasons_without_end(sets, tmp_path: Path):
    first, second = tmp_path / "first", tmp_path / "second"
    own = sorted(put_shard(str(first), 0, 150))
    put_shard(str(second), 1, 3)
    sidecar = first / "shards" / "00000.parquet"
    table = pq.read_table(sidecar)
    put_table(str(sidecar), pa.concat_tables([table] * 600))  # more than is read at once
    rows = [{"key": key, "reason": f"reason_{key}"} for key in own for _ in range(2)]
    put_table(f"{second}/rejected/text-00000.parquet", pa.Table.from_pylist(rows, REJECTED))
    files = find_set(str(first)), find_set(str(second))
    held = [kept_keys(of_set) for of_set in files]
    assert held[0].tolist() == [int(key, 16) for key in own]
    told = only_in(files[0], held[0], files[1], held[1])
    assert told.reasons == {f"reason_{key}": 1 for key in own}
    assert len(told.examples) == len({example.key for example in told.examples}) == 24
    page = tmp_path / "compare.html"
    write_comparison(str(first), str(second), str(page))
    assert page.read_text().count("<td>reason_") == 100


def test_a_set_against_itself(sets):
    files = find_set(str(sets[0]))
    held = kept_keys(files)
    assert only_in(files, held, files, held).pairs == 0
    assert np.all(np.diff(held.astype(object)) > 0)


def test_the_page(sets, tmp_path: Path):
    path = tmp_path / "compare.html"
    assert write_comparison(str(sets[0]), str(sets[1]), str(path)) == str(path)
    page = path.read_text()
    assert "12 pairs that A keeps and B does not" in page
    assert "7 pairs that B keeps and A does not" in page
    assert page.count('src="data:image/jpeg;base64,') == 19
    assert image(0, 0)[:2] == b"\xff\xd8"
    assert "<script" not in page


def test_rejects_of_another_name_are_read_too(tmp_path: Path):
    """Of a dataset that holds nothing."""
    put_rejected(str(tmp_path), "text-00000", [("too_few_words", None)])
    assert len(kept_keys(find_set(str(tmp_path)))) == 0


A = [Step("words", 100, 90, {"few": 10}), Step("sizes", 90, 80, {"small": 4, "long": 6})]
B = [Step("words", 80, 79, {"few": 1}), Step("sizes", 79, 60, {"small": 19})]


def facts(steps: list[Step], *history: SourceSet) -> Facts:
    funnel = Funnel(
        history=[*history] or UNSET,
        fetch=FetchReport(0, 0, {}, []),
        pairs=steps[-1].kept,
        steps=steps,
        vocabulary=VocabularySummary(),
    )
    return Facts("", steps=steps, funnel=funnel)


def test_a_chain_of_sets_is_one_funnel():
    first, second = facts(A), facts(B, SourceSet("history/00", 80, A))
    assert steps_over_stages(first) == A
    assert steps_over_stages(second) == [
        Step("words", 100, 89, {"few": 11}),
        Step("sizes", 89, 60, {"small": 23, "long": 6}),
    ]
    deltas = {delta.name: (delta.first, delta.second) for delta in step_deltas(first, second)}
    assert deltas["pairs at the start"] == (100, 100)
    assert deltas["sizes"] == (80, 60)
    assert deltas["small"] == (4, 23)
    assert not has_other_input(second)
    third = [Step("words", 60, 50, {"few": 10})]
    whole = facts(
        third, SourceSet("history/00", 60, B, [SourceSet("history/00/history/00", 80, A)])
    )
    assert steps_over_stages(whole)[-1].kept == 50
    assert steps_over_stages(whole)[0] == Step("words", 100, 79, {"few": 21})


@pytest.mark.parametrize(
    "history",
    [
        [SourceSet("history/00", 70, A)],
        [SourceSet("history/00")],
        [SourceSet("history/00", 80, A)] * 2,
    ],
    ids=["rejects were read too", "of another version", "two sets"],
)
def test_what_is_no_chain_has_its_own_funnel(history: list[SourceSet]):
    second = facts(B, *history)
    assert steps_over_stages(second) == B
    assert has_other_input(second)
