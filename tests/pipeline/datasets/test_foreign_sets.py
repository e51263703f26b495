"""Sets of img2dataset: what anybody may have written into their sidecars."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from alignset.pipeline.datasets.foreign_sets import find_foreign
from alignset.transforms.columns.records import LONGEST_TEXT

ROWS = 20_000


def put_foreign(folder: Path, table: pa.Table) -> None:
    pq.write_table(table, folder / "00000.parquet", store_schema=False)
    (folder / "00000_stats.json").write_text('{"count": 2, "successes": 2}')


def test_a_long_text_that_is_repeated_is_in_memory_once(tmp_path: Path):
    repeated = pa.DictionaryArray.from_arrays(np.zeros(ROWS, np.int32), ["x" * 20_000])
    urls = [f"http://h{n % 3}.org/{n}" for n in range(ROWS)]
    put_foreign(tmp_path, pa.table({"url": urls, "caption": repeated}))
    before = pa.default_memory_pool().max_memory()
    record = find_foreign(str(tmp_path)).records.images
    assert pa.default_memory_pool().max_memory() - before < 100_000_000
    assert record.whole.pairs == ROWS
    assert len(record.whole.tops["hosts"].counts) == 3
    (examples,) = record.examples().values()
    assert {example.caption for example in examples} == {"x" * (LONGEST_TEXT - 1) + "…"}


def test_columns_of_other_types_are_left_out(tmp_path: Path):
    put_foreign(
        tmp_path,
        pa.table(
            {
                "url": ["http://h.org/1", None],
                "caption": [["a"], ["b"]],
                "status": ["success", "failed_to_download"],
                "error_message": [None, "dns"],
                "original_width": [640, None],
                "original_height": ["480", "x"],
            }
        ),
    )
    examples = find_foreign(str(tmp_path)).records.images.examples()
    (kept,), (lost,) = examples["kept"], examples["failed_to_download"]
    assert (kept.url, kept.caption, kept.width, kept.height) == ("http://h.org/1", "", 640, 0)
    assert (lost.url, lost.detail) == ("", "dns")


def test_columns_that_are_there_twice_are_left_out(tmp_path: Path):
    columns = [pa.array([text]) for text in ("http://h.org/1", "http://h.org/2", "a")]
    put_foreign(tmp_path, pa.Table.from_arrays(columns, names=["url", "url", "caption"]))
    (example,) = find_foreign(str(tmp_path)).records.images.examples()["failed_to_download"]
    assert (example.url, example.caption) == ("", "a")
