"""What the card tells of a dataset's files."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from alignset.pipeline.datasets.sizes_and_days import as_example, look_into
from alignset.pipeline.runs.documents import Manifest, ShardEntry
from alignset.transforms.storage.documents import read_document
from tests.support.golden_run import Golden


def manifest_of(output: Path) -> Manifest:
    return read_document(f"{output}/manifest.json", Manifest)


def test_what_is_in_a_set(golden: Golden):
    manifest = manifest_of(golden.output)
    contents = look_into(str(golden.output), manifest)
    tables = [pq.read_table(path) for path in sorted(golden.output.glob("shards/*.parquet"))]
    widths = sorted(width for table in tables for width in table["width"].to_pylist())
    assert contents.pairs == len(widths) == manifest.pairs
    assert contents.quantiles["width, px"][2] == widths[(len(widths) - 1) // 2]
    assert contents.tar_bytes == sum(p.stat().st_size for p in golden.output.glob("shards/*.tar"))
    rows = [row for table in tables for row in table.to_pylist()][:5]
    assert [json.loads(line)["key"] for line in contents.examples] == [row["key"] for row in rows]


def test_words_licences_and_languages_are_counted(tmp_path: Path) -> None:
    texts = ["a brown dog", "a brown,dog", "犬が庭で遊んでいる", "dog"]
    columns = {
        "key": ["00"] * 16,
        "caption": texts * 4,
        "url": [""] * 16,
        "language": ["de", *["en"] * 15],
        "page_license": ["by", "by", None, "x" * 200, *map(str, range(12))],
        "web_statement": [None, "", *[None] * 14],
        "License": ["cc0", None, *[None] * 14],
        "Terms": [1.5] * 16,
    }
    (tmp_path / "pairs").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "pairs/a.parquet")
    own = {"License": "string", "Terms": "double", "score": "double"}
    contents = look_into(str(tmp_path), SimpleNamespace(job={"text_only": True}, columns=own))
    assert (contents.pairs, contents.shards, contents.quantiles) == (16, 0, {})
    assert contents.languages == {"en": 15, "de": 1}
    licences = contents.licences
    assert [*licences] == ["page_license", "License"]
    assert [*licences["page_license"].items()][:2] == [("by", 2), ("0", 1)]
    assert licences["page_license"][""] == 4  # rarer values
    assert licences["License"] == {"cc0": 1}
    assert [sorted(json.loads(line)) for line in contents.examples] == [
        ["caption", "key", "url"]
    ] * 5


def test_of_many_shards_a_few_are_read(plain: Golden, tmp_path: Path):
    """Of 10,000 the same sixteen each time; the others need not be there."""
    (tmp_path / "shards").mkdir()
    for number in range(0, 10_000, 625):
        path = plain.output / "shards" / "00001.parquet"
        (tmp_path / "shards" / f"{number:05d}.parquet").symlink_to(path)
    manifest = manifest_of(plain.output)
    shards = {f"{number:05d}": ShardEntry(10, "") for number in range(10_000)}
    shards["99999"] = ShardEntry(0, "")  # not looked for
    contents = look_into(str(tmp_path), replace(manifest, shards=shards))
    assert contents.shards == 16


HOSTILE = 'a | b ``` <script>alert(1)</script> &amp; \n---\n# \u202e\u2028\U000e0041 \\u003c " é 犬'


@given(st.text(max_size=40), st.sampled_from([HOSTILE, "```", ""]))
def test_an_example_is_one_line_of_json_without_markup(text: str, more: str):
    row = {"key": "00", "caption": text + more, "url": more + text, "width": 1, "height": 2}
    line = as_example(row)
    assert json.loads(line) == row
    long = json.loads(as_example(row | {"caption": "a" * 10_000, "url": "b" * 10_000}))
    assert (long["caption"], long["url"]) == ("a" * 300 + "…", "b" * 200 + "…")
    assert line.isprintable()
    assert not set("<>&`") & set(line)
