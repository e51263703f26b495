"""Two sets side by side: what only one keeps is counted by keys, with the other's reasons."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.datasets.set_files import find_set
from alignset.pipeline.report.comparison import EXAMPLES, NOWHERE, kept_keys, write_comparison
from alignset.transforms.columns.rejects import REJECTED
from tests.support.small_sets import put_rejected, put_shard, put_table


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
    put_table(f"{second}/rejected/text-00000.parquet", pa.Table.from_pylist(rows, REJECTED))
    return first, second, only_first, only_second


def compared(first: Path, second: Path, path: Path) -> tuple[str, list[str], list[str]]:
    """The page, and the reasons on the cards of each side."""
    assert write_comparison(str(first), str(second), str(path)) == str(path)
    page = path.read_text()
    sides = page.split("<h2>Only in ")[1:]
    why = [sorted(re.findall('class="why">([^<]*)<', side)) for side in sides]
    return page, why[0], why[1]


def test_what_only_one_keeps_and_why_the_other_does_not(sets, tmp_path: Path):
    first, second, only_first, only_second = sets
    page, why_first, why_second = compared(first, second, tmp_path / "compare.html")
    numbers = re.findall(r"<dt>([^<]*)</dt><dd>(\d+)", page)
    assert numbers == [("In both", "5"), ("Only in A", "12"), ("Only in B", "7")]
    assert why_first == ["fetch_failed: dns", NOWHERE, *["too_small"] * 10]
    assert why_second == [NOWHERE] * 7
    assert all(f">{key}<" in page for key in only_first + only_second)
    assert page.count('src="data:image/jpeg;base64,') == 19
    rows = re.findall(r'<td class="n">([\d+-]+)</td>' * 3, page)
    assert rows[0] == ("17", "23", "+6")
    assert "<script" not in page


def test_what_its_owner_or_a_list_keeps_out_is_not_shown(tmp_path: Path):
    first, second = tmp_path / "first", tmp_path / "second"
    own = put_shard(str(first), 0, 4)
    put_shard(str(second), 1, 1)
    reasons = ("blocked", "opted_out", "unsafe", "too_small")
    rows = [{"key": key, "reason": reason} for key, reason in zip(own, reasons, strict=True)]
    put_table(f"{second}/rejected/text-00000.parquet", pa.Table.from_pylist(rows, REJECTED))
    page, why, _ = compared(first, second, tmp_path / "compare.html")
    assert why == ["opted_out", "too_small", "unsafe"]
    assert page.count("not shown") == 2
    assert page.count('src="data:image/jpeg;base64,') == 2  # and the pair of the other side


def test_files_of_anybody_repeat_keys_and_have_odd_ones(sets, tmp_path: Path):
    first, second = tmp_path / "first", tmp_path / "second"
    own = sorted(put_shard(str(first), 0, 150))
    put_shard(str(second), 1, 3)
    sidecar = first / "shards" / "00000.parquet"
    table = pq.read_table(sidecar)
    odd = pa.array(["", "xyz", None, "g" * 16, "00000000000000A1", "é" * 8])
    others = table[: len(odd)].set_column(0, "key", odd)
    assert table.column_names[0] == "key"
    put_table(str(sidecar), pa.concat_tables([*[table] * 600, others]))
    assert kept_keys(find_set(str(first))).tolist() == [int(key, 16) for key in own]
    page, why, _ = compared(first, second, tmp_path / "compare.html")
    assert (len(why), page.count("Only in A</dt><dd>150")) == (EXAMPLES, 1)


def test_a_set_against_itself_and_against_an_empty_one(sets, tmp_path: Path):
    path = tmp_path / "compare.html"
    page, *why = compared(sets[0], sets[0], path)
    assert ("In both</dt><dd>17" in page, why) == (True, [[], []])
    put_rejected(str(tmp_path / "none"), "text-00000", [("too_few_words", None)])
    page, *_ = compared(sets[0], tmp_path / "none", path)
    assert "Only in A</dt><dd>17" in page
    assert re.search(r'too_few_words</td>(<td class="n">[^<]*</td>){2}<td class="n">\+1<', page)
