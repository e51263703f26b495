"""What the card tells of a dataset's files."""

import json
import os
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from alignset.pipeline.datasets.sizes_and_days import (
    as_example,
    fetch_days,
    licence_counts,
    look_into,
    word_counts,
)
from alignset.pipeline.runs.documents import Days, Manifest, ShardEntry
from alignset.pipeline.runs.work_folder import WrittenShard
from alignset.transforms.pairs.texts import measure_texts
from alignset.transforms.storage.documents import read_document
from tests.support.command import succeed
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


def test_words_are_counted_as_the_rules_count_them() -> None:
    texts = pa.chunked_array([["a brown dog", "a brown,dog", "犬が庭で遊んでいる", "dog"]])
    counts = word_counts(texts).tolist()
    assert (counts[0], counts[3]) == (3, 1)
    assert counts[2] > 3
    assert counts == measure_texts(texts.chunk(0), np.ones(4, np.bool_)).word_count.tolist()


def test_licences_are_counted_by_column_the_most_frequent_first(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    columns = {
        "page_license": ["by", "by", None, "x" * 200, *map(str, range(12))],
        "web_statement": [None, "", *[None] * 14],
        "License": ["cc0", None, *[None] * 14],
        "Terms": [1.5] * 16,
    }
    pq.write_table(pa.table(columns), path)
    described = SimpleNamespace(columns={"License": "string", "Terms": "double", "score": "double"})
    licences, pairs = licence_counts([path], described)
    assert pairs == 16
    assert [*licences] == ["page_license", "License"]
    assert [*licences["page_license"].items()][:2] == [("by", 2), ("0", 1)]
    assert licences["page_license"][""] == 4  # rarer values
    assert licences["License"] == {"cc0": 1}


def test_of_many_shards_a_few_are_read(plain: Golden, tmp_path: Path):
    """Of 10,000 the same sixteen each time; the others need not be there."""
    (tmp_path / "shards").mkdir()
    for number in range(0, 10_000, 625):
        path = plain.output / "shards" / "00001.parquet"
        (tmp_path / "shards" / f"{number:05d}.parquet").symlink_to(path)
    manifest = manifest_of(plain.output)
    shards = {f"{number:05d}": ShardEntry(10, "") for number in range(10_000)}
    contents = look_into(str(tmp_path), replace(manifest, shards=shards))
    assert contents.shards == 16


def test_shards_without_a_pair_are_not_looked_for(plain: Golden):
    manifest = manifest_of(plain.output)
    shards = {"00000": ShardEntry(0, ""), "99999": ShardEntry(0, ""), "00001": ShardEntry(1, "")}
    assert look_into(str(plain.output), replace(manifest, shards=shards)).shards == 1
    assert not look_into(str(plain.output), replace(manifest, shards={})).examples


def test_a_set_of_texts_has_examples(plain: Golden, tmp_path: Path):
    flags = [f for f in plain.flags if f.startswith(("--max_images", "--max_texts"))]
    succeed(plain.pairs, tmp_path / "set", "--text_only", *flags)
    contents = look_into(str(tmp_path / "set"), manifest_of(tmp_path / "set"))
    assert [sorted(json.loads(line)) for line in contents.examples] == [
        ["caption", "key", "url"]
    ] * 5


HOSTILE = 'a | b ``` <script>alert(1)</script> &amp; \n---\n# \u202e\u2028\U000e0041 \\u003c " é 犬'


@given(st.text(max_size=40), st.sampled_from([HOSTILE, "```", ""]))
def test_an_example_is_one_line_of_json_without_markup(text: str, more: str):
    row = {"key": "00", "caption": text + more, "url": more + text, "width": 1, "height": 2}
    line = as_example(row)
    assert json.loads(line) == row
    assert line.isprintable()
    assert not set("<>&`") & set(line)


def test_long_texts_are_cut():
    line = as_example({"key": "00", "caption": "a" * 10_000, "url": "b" * 10_000})
    assert json.loads(line) == {"key": "00", "caption": "a" * 300 + "…", "url": "b" * 200 + "…"}


def written(output: Path) -> list[WrittenShard]:
    return [WrittenShard(int(p.stem), 1, "") for p in output.glob("shards/*.parquet")]


def test_the_days_are_when_the_stats_were_written(plain: Golden, tmp_path: Path):
    (tmp_path / "shards").mkdir()
    days = {0: 1_779_000_000, 1: 1_778_900_000, 2: 1_779_200_000, 7: 0}  # seconds since 1970
    for number, second in days.items():
        path = tmp_path / "shards" / f"{number:05d}_stats.json"
        path.touch()
        os.utime(path, (second, second))
    shards = [WrittenShard(number, 1, "") for number in range(3)]
    random.shuffle(shards)
    run = manifest_of(plain.output)
    days_of = lambda *given: fetch_days(str(tmp_path), *given)  # noqa: E731
    assert days_of(shards, run) == Days("2026-05-16", "2026-05-19")
    assert days_of(shards, run, Days("2025-01-01", "2025-01-02")) == Days(
        "2025-01-01", "2026-05-19"
    )
    assert days_of([], run) is UNSET
    of_shards = replace(run, input=[replace(run.input[0], format="webdataset")])
    assert days_of(shards, of_shards) is UNSET
