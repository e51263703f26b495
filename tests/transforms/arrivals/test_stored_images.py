"""Images that are stored already, and what their datasets know of them."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.transforms.arrivals.images import RESPONSES
from alignset.transforms.arrivals.stored_images import stored_bodies, with_stored_evidence
from alignset.transforms.columns.pair_columns import SOURCE_LICENSE
from alignset.transforms.fetching.fetch import Fetched

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
    evidence = with_stored_evidence(pairs(root, "2", "fetched", "1", "nowhere"))
    assert evidence[SOURCE_LICENSE].to_pylist() == ["cc-2", None, "cc-1", None]
    assert evidence["usage_terms"].to_pylist() == ["ask", None, "ask", None]
    assert evidence["web_statement"].null_count == 4
    known = [row and (row["final_url"], row["date"]) for row in evidence["response"].to_pylist()]
    assert known == [None, None, ("http://b/1", DAY), None]


@pytest.mark.parametrize("gone", ["manifest.json", "holdout/00004.parquet"])
def test_of_other_tools_and_broken_files_nothing_is_known(root: Path, gone: str) -> None:
    if gone == "manifest.json":
        (root / gone).unlink()
    else:
        (root / gone).write_bytes(b"PAR1 and no more")
    evidence = with_stored_evidence(pairs(root, "1", "2"))
    assert evidence[SOURCE_LICENSE].null_count == evidence["response"].null_count == 2
    fetched = pairs(root, "1").drop_columns(["source_path"])
    assert with_stored_evidence(fetched).equals(fetched)


def test_what_is_known_already_stays(root: Path) -> None:
    known = pairs(root, "1", "2").append_column("usage_terms", pa.array(["mine", None]))
    assert with_stored_evidence(known)["usage_terms"].to_pylist() == ["mine", "ask"]


def test_a_text_that_all_rows_share_is_cut(root: Path) -> None:
    rows = pq.read_table(root / "holdout" / "00004.parquet").take([0] * 500 + [2])
    shared = pa.array(["x" * (1 << 20)]).dictionary_encode().take(pa.array([0] * len(rows)))
    at = rows.schema.get_field_index("usage_terms")
    path = root / "holdout" / "00004.parquet"
    pq.write_table(rows.set_column(at, "usage_terms", shared), path)
    assert with_stored_evidence(pairs(root, "2"))["usage_terms"].to_pylist() == ["x" * 4096]


def test_stored_images_are_read_in_any_order_and_what_is_gone_costs_itself(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"0123456789")
    (tmp_path / "b").write_bytes(b"abcdefghij")
    places = [("b", 4, 3), ("a", 0, 10), ("b", 0, 2), ("a", 9, 1), ("b", 3, 0)]
    places += [("b", 8, 3), ("none", 0, 1), ("a", 0, 11), ("a", -1, 0)]
    columns = {
        "source_path": [str(tmp_path / name) for name, _, _ in places],
        "source_at": [at for _, at, _ in places],
        "source_size": [size for _, _, size in places],
    }
    bodies = sorted(stored_bodies(pa.table(columns), 10), key=lambda fetched: fetched.index)
    assert bodies == [
        *(
            Fetched(row, body, None)
            for row, body in enumerate([b"efg", b"0123456789", b"ab", b"9", b""])
        ),
        Fetched(5, None, "input_gone"),
        Fetched(6, None, "input_gone"),
        Fetched(7, None, "too_large"),
        Fetched(8, None, "sparse_or_link"),
    ]
