"""What the datasets know in which images are stored."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.transforms.columns.pair_columns import SOURCE_LICENSE
from alignset.transforms.shards.stated_opt_outs import RESPONSE, RESPONSES
from alignset.transforms.shards.stored_evidence import filled, stored_evidence

DAY = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "holdout").mkdir()
    (tmp_path / "responses").mkdir()
    (tmp_path / "manifest.json").write_text("{}")
    rows = [
        {"key": f"{n:016x}", "url": f"http://a/{n}", "caption": "a", "page_license": f"cc-{n}"}
        for n in range(3)
    ]
    rows = [row | {"web_statement": None, "usage_terms": "ask"} for row in rows]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "holdout" / "00004.parquet")
    response = {"key": rows[1]["key"], "url": "http://a/1", "final_url": "http://b/1", "date": DAY}
    table = pa.Table.from_pylist([response | {"status": 200}], RESPONSES)
    pq.write_table(table, tmp_path / "responses" / "holdout-00004_responses.parquet")
    return tmp_path


def pairs(root: Path, *names: str) -> pa.Table:
    paths = [f"{root}/holdout/00004.tar" if name != "fetched" else None for name in names]
    urls = [f"http://a/{name}" for name in names]
    return pa.table({"url": urls, "caption": ["a"] * len(names), "source_path": paths})


def test_each_stored_pair_has_what_its_dataset_has(root: Path) -> None:
    evidence = stored_evidence(pairs(root, "2", "fetched", "1", "nowhere"))
    assert evidence[SOURCE_LICENSE].to_pylist() == ["cc-2", None, "cc-1", None]
    assert evidence["usage_terms"].to_pylist() == ["ask", None, "ask", None]
    assert evidence["web_statement"].null_count == 4
    known = [row and (row["final_url"], row["date"]) for row in evidence[RESPONSE].to_pylist()]
    assert known == [None, None, ("http://b/1", DAY), None]


@pytest.mark.parametrize("gone", ["manifest.json", "holdout/00004.parquet"])
def test_of_other_tools_and_broken_files_nothing_is_known(root: Path, gone: str) -> None:
    if gone == "manifest.json":
        (root / gone).unlink()
    else:
        (root / gone).write_bytes(b"PAR1 and no more")
    evidence = stored_evidence(pairs(root, "1", "2"))
    assert all(column.null_count == 2 for column in evidence.values())
    assert stored_evidence(pairs(root, "1").drop_columns(["source_path"])) == {}


def test_what_is_known_already_stays() -> None:
    own, more = (pa.array(values, pa.string()) for values in (["a", None], ["b", "c"]))
    assert filled(own, more).to_pylist() == ["a", "c"]
    assert filled(None, more).to_pylist() == ["b", "c"]


def test_a_text_that_all_rows_share_is_cut(root: Path) -> None:
    rows = pq.read_table(root / "holdout" / "00004.parquet").take([0] * 500 + [2])
    shared = pa.array(["x" * (1 << 20)]).dictionary_encode().take(pa.array([0] * len(rows)))
    at = rows.schema.get_field_index("usage_terms")
    path = root / "holdout" / "00004.parquet"
    pq.write_table(rows.set_column(at, "usage_terms", shared), path)
    assert stored_evidence(pairs(root, "2"))["usage_terms"].to_pylist() == ["x" * 4096]
