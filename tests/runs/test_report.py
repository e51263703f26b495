"""The report of a real run: its numbers are the funnel's, DuckDB's, and the web's."""

import json
import re
import shutil
import tarfile
from collections import Counter
from itertools import product
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from alignset.pipeline.datasets.facts import Facts, find_facts
from alignset.pipeline.report.__main__ import main
from alignset.pipeline.report.histograms import charts_of
from alignset.pipeline.report.page_data import all_lists, read_pictures
from alignset.pipeline.report.tables import funnel_table
from alignset.transforms.rules.catalogue import PRODUCT, limits
from tests.support.command import funnel, manifest, succeed
from tests.support.golden_run import Golden
from tests.support.memory_files import FILES
from tests.support.small_sets import put_table


def queried(query: str) -> list[tuple]:
    return duckdb.sql(query).fetchall()


def test_the_steps_are_the_funnels_and_the_details_duckdbs(golden: Golden):
    facts = find_facts(str(golden.output))
    assert (facts.state, facts.notes) == ("finished", [])
    steps = funnel(golden.output)["steps"]
    told = funnel_table(facts, {})
    assert [(s.name, s.seen, s.kept) for s in told] == [
        (s["step"], s["seen"], s["kept"]) for s in steps
    ]
    rejected = f"'{golden.output}/rejected/*.parquet'"
    by_reason = dict(queried(f"select reason, count(*) from {rejected} group by all"))
    assert {row.name: row.count for step in told for row in step.reasons} == by_reason
    details = queried(f"""select
        if(filename like '%/text-%', 'texts', 'images'), reason, coalesce(detail, ''), count(*)
        from read_parquet({rejected}, filename = true) group by all""")
    assert {
        (*which, d): n for which, counts in facts.details.items() for d, n in counts.items()
    } == {(plane, why, detail): count for plane, why, detail, count in details}


def test_records_count_the_pairs_of_the_shards(golden: Golden):
    facts = find_facts(str(golden.output))
    texts, images = facts.records.texts.whole, facts.records.images.whole
    assert texts.kept == images.pairs
    assert images.kept == manifest(golden.output)["pairs"] == funnel(golden.output)["pairs"]
    sidecars = f"'{golden.output}/shards/*.parquet'"
    hosts = queried(
        f"select regexp_extract(url, '://([^/]*)', 1), count(*) from {sidecars} group by all"
    )
    kept = {host: n["kept"] for host, n in images.tops["hosts"].counts.items() if "kept" in n}
    assert kept == dict(hosts)
    assert images.tops["hosts"].others == 0
    words = queried(f"select len(string_split(caption, ' ')), count(*) from {sidecars} group by 1")
    assert sum(n for _, n in words) == sum(images.histograms["words"]["kept"].values())


def test_bytes_and_formats_are_those_of_the_files(plain: Golden):
    """Of JPEGs, which stay as they came."""
    charts = {chart.name: chart for chart in charts_of(find_facts(str(plain.output)))}
    sizes = Counter[int]()
    for path in plain.output.glob("shards/*.tar"):
        with tarfile.open(path) as tar:
            sizes.update(m.size.bit_length() for m in tar if m.name.endswith(".jpg"))
    of_size = charts["Size of the file"]
    spans = [int(low).bit_length() for low, _ in of_size.spans]
    assert {n: kept for n, kept in zip(spans, of_size.kept, strict=True) if kept} == sizes
    of_format = charts["Format of the file"]
    assert dict(zip(of_format.labels, of_format.kept, strict=True))["jpeg"] == sizes.total() > 50


def test_texts_distances_and_bytes_are_duckdbs(golden: Golden):
    facts = find_facts(str(golden.output))
    sidecars, rejected = (f"'{golden.output}/{name}/*.parquet'" for name in ("shards", "rejected"))
    texts = dict(queried(f"select caption, count(*) from {sidecars} group by 1"))
    top = facts.records.images.whole.tops["texts"]
    assert all(1 <= ends["kept"] <= texts[text] for text, ends in top.counts.items())
    assert sum(texts.values()) == sum(n["kept"] for n in top.counts.values()) + top.others
    charts = {chart.name: chart for chart in charts_of(facts)}
    of_distance = charts["Distance to the nearest evaluation image"]
    counts = zip(of_distance.spans, of_distance.kept, of_distance.dropped, strict=True)
    for (low, high), kept, dropped in counts:
        within = f"where evaluation_distance >= {low} and evaluation_distance < {high}"
        assert [(kept,)] == queried(f"select count(*) from {sidecars} {within}")
        why = "and reason = 'evaluation_overlap'"
        assert [(dropped,)] == queried(f"select count(*) from {rejected} {within} {why}")
    assert sum(of_distance.dropped) > 0
    stats = f"read_json_auto('{golden.output}/shards/*_stats.json')"
    assert queried(f"select sum(bytes_downloaded) from {stats}") == [
        (facts.records.images.whole.bytes,)
    ]


def test_a_set_in_a_store_gives_the_same_page(golden: Golden, tmp_path: Path, capsys):
    FILES.clear()
    for path in golden.output.rglob("*"):
        if path.is_file() and path.name != "report.html":
            FILES[f"mem://bucket/set/{path.relative_to(golden.output)}"] = path.read_bytes()
    assert main(["mem://bucket/set"]) == 0
    assert "the report is in mem://bucket/set/report.html" in capsys.readouterr().err
    written = FILES["mem://bucket/set/report.html"]
    assert written == (golden.output / "report.html").read_bytes()
    assert main(["mem://bucket/nothing"]) == 2
    assert main(["mem://bucket/set", f"--output={tmp_path}/here.html"]) == 0
    assert '"out":"mem://bucket/set"' in (tmp_path / "here.html").read_text()
    FILES.clear()


def test_other_thresholds_keep_what_duckdb_counts(golden: Golden):
    facts = find_facts(str(golden.output))
    for side, aspect in product((0, 128, 208), (1.5, 3)):
        check_thresholds(facts, golden.output, side, aspect)


def check_thresholds(facts: Facts, out: Path, side: int, aspect: float) -> None:
    records = facts.records.images
    rules = facts.rules | {"min_image_side": float(side), "max_image_aspect": float(aspect)}
    if side == 0:
        rules["min_image_side"] = min(records.axis("side").edges)
    sample, passed = records.whole.sample, np.True_
    assert sample.is_all
    for limit in limits(PRODUCT.images):
        axis = records.axis(limit.measure.axis)
        bins = np.frombuffer(sample.bins[axis.name], np.uint8)
        passed = passed & axis.passes(bins, limit.edge(rules[limit.name]), beyond=limit.beyond)
    counted = int(passed.sum())
    least = int(rules["min_image_side"])
    passed = f"""least(width, height) > {least}
        and greatest(width, height) < least(width, height) * {aspect}"""
    (kept,) = queried(
        f"select count(*) from (select original_width width, original_height height "
        f"from '{out}/shards/*.parquet') where {passed}"
    )[0]
    (back,) = queried(
        f"select count(*) from '{out}/rejected/*.parquet' "
        f"where reason in ('too_small', 'too_elongated') and {passed}"
    )[0]
    assert counted == kept + back


def test_each_example_is_where_it_says_and_most_have_a_picture(golden: Golden):
    facts = find_facts(str(golden.output))
    lists = all_lists(facts)
    rejected = queried(f"select key, reason from '{golden.output}/rejected/*.parquet'")
    kept = {key for (key,) in queried(f"select key from '{golden.output}/shards/*.parquet'")}
    examples = [e for name, own in lists.items() if not name.startswith("near:") for e in own]
    for example in examples:
        if example.reason:
            assert (example.key, example.reason) in rejected
        else:
            assert example.key in kept
    reasons = Counter(reason for _, reason in rejected)
    assert {name.removesuffix(" (texts)") for name in lists} >= reasons.keys()
    pictured = [e for e in examples if e.reason in ("", "too_small", "too_elongated")]
    assert all(read_pictures(str(golden.output), pictured))


def test_the_run_left_the_page_and_the_command_writes_it_again(golden: Golden, tmp_path: Path):
    left = (golden.output / "report.html").read_text()
    shutil.copytree(golden.output, tmp_path / "set")
    (tmp_path / "set/report.html").unlink()
    assert main([str(tmp_path / "set")]) == 0
    assert (tmp_path / "set/report.html").read_text() == left  # it tells no path
    assert main([str(golden.output), f"--output={tmp_path}/again.html"]) == 0
    assert f'"out":"{golden.output}"' in (tmp_path / "again.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', left, re.DOTALL)[1])
    assert {example["key"] for example in data["examples"]}
    assert "Content-Security-Policy" in left
    assert not re.search(r"(src|href)=\"?(https?:)?//", left)


def test_a_run_that_is_under_way(golden: Golden, tmp_path: Path, capsys):
    """As after a kill: no closing documents, and one shard less."""
    out = tmp_path / "set"
    shutil.copytree(golden.output, out)
    for name in ("manifest.json", "funnel.json", "report.html", "README.md"):
        (out / name).unlink()
    whole = find_facts(str(golden.output))
    for end in ("shards/00000_stats.json", "report/images-00000.json"):
        (out / end).unlink()
    facts = find_facts(str(out))
    assert facts.state == "under way"
    assert 0 < facts.kept < whole.kept
    assert facts.steps[:7] == whole.steps[:7]
    assert facts.waiting > 0
    assert main([str(out)]) == 0
    assert "under way" in (out / "report.html").read_text()


def test_a_set_of_an_older_version_says_what_is_missing(golden: Golden, tmp_path: Path):
    out = tmp_path / "set"
    shutil.copytree(golden.output, out)
    shutil.rmtree(out / "report")
    facts = find_facts(str(out))
    assert facts.steps == find_facts(str(golden.output)).steps
    assert "The text rules recorded nothing that can be read" in facts.notes[0]
    assert "recorded nothing for a report, as older versions do not" in facts.notes[1]
    assert main([str(out)]) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "there is no folder 'nowhere'"),
        (["EMPTY"], "is not a dataset, or its run has written nothing yet"),
        (["EMPTY", "--output=report.txt"], "must end in .html"),
        (["EMPTY", "EMPTY"], "pass one dataset; got 2"),
        (["EMPTY", "--compare"], "--compare takes two datasets; got 1"),
        ([], "the following arguments are required: OUT"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], said: str, tmp_path: Path, capsys):
    try:
        status = main([word.replace("EMPTY", str(tmp_path)) for word in arguments])
    except SystemExit as error:
        status = int(error.code or 0)
    assert status == 2
    told = capsys.readouterr().err
    assert said in told
    assert len(told.splitlines()) == 1


def test_a_set_of_texts_alone(tmp_path: Path):
    texts = ["a dog in a garden", "a cat", "the cat that sleeps", "a dog in a garden"]
    urls = [f"http://a.example/{n}" for n in (0, 1, 2, 0)]
    put_table(f"{tmp_path}/pairs.parquet", pa.table({"url": urls, "caption": texts}))
    succeed(tmp_path / "pairs.parquet", tmp_path / "set", "--text_only")
    facts = find_facts(str(tmp_path / "set"))
    assert (facts.state, facts.kept, facts.notes) == ("finished", 2, [])
    (words,) = (chart for chart in charts_of(facts) if chart.name == "Words of the text")
    assert (words.kept[4], words.kept[5], words.dropped[2]) == (1, 1, 1)
    assert sum(words.kept) == 2
    page = (tmp_path / "set/report.html").read_text()
    assert "the cat that sleeps" in page
    assert "too_few_words" in page
