"""The report of a real run: its numbers are the funnel's, DuckDB's, and the web's."""

import shutil
from itertools import product
from pathlib import Path

import duckdb
import numpy as np
import pytest

from alignset.pipeline.commands import report as main
from alignset.pipeline.datasets.facts import find_facts
from alignset.pipeline.report.histograms import charts_of
from tests.support.command import funnel, manifest
from tests.support.golden_run import Golden
from tests.support.memory_files import FILES


def queried(query: str) -> list[tuple]:
    return duckdb.sql(query).fetchall()


def test_numbers_are_duckdbs(golden: Golden):
    facts = find_facts(str(golden.output))
    numbers = facts.numbers
    sidecars, rejected = (f"'{golden.output}/{name}/*.parquet'" for name in ("shards", "rejected"))
    assert facts.kept == manifest(golden.output)["pairs"] == funnel(golden.output)["pairs"]
    hosts = queried(
        f"select regexp_extract(url, '://([^/]*)', 1), count(*) from {sidecars} group by all"
    )
    kept = {host: of["kept"] for host, of in numbers.hosts.nested().items() if "kept" in of}
    assert (kept, numbers.hosts.others) == (dict(hosts), 0)
    assert numbers.words[0].sum() == facts.kept
    texts = dict(queried(f"select caption, count(*) from {sidecars} group by 1"))
    top = numbers.kept_texts.totals()
    assert all(1 <= n <= texts[text] for text, n in top.items())
    assert sum(texts.values()) == sum(top.values()) + numbers.kept_texts.others
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
    (size,) = queried(f"select sum(bytes_downloaded) from {stats}")[0]
    assert size == sum(of.bytes_downloaded for of in facts.stats.values() if of)


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


def test_other_thresholds_keep_what_duckdb_counts(golden: Golden, capsys):
    """Any two of them at once: by the command, and by the page's sample, which is of all rows."""
    out = golden.output
    facts = find_facts(str(out))
    for side, aspect in product((0, 128, 208), (1.5, 3)):
        passed = f"""least(width, height) > {side}
            and greatest(width, height) < least(width, height) * {aspect}"""
        kept, back = queried(f"""select
            (select count(*) from (select original_width width, original_height height
                from '{out}/shards/*.parquet') where {passed}),
            (select count(*) from '{out}/rejected/*.parquet'
                where reason in ('too_small', 'too_elongated') and {passed})""")[0]
        flags = f"--min_image_side={side}", f"--max_image_aspect={aspect}"
        assert main([str(out), *flags]) == 0
        lines = capsys.readouterr().out.splitlines()
        up_to = "up to " * (back > 0)
        assert lines[0] == f"{facts.kept} pairs are kept now"
        assert lines[1] == f"{up_to}{kept + back} pairs with {' '.join(flags)}"
        assert lines[2] == f"  {facts.kept - kept} of those that are kept now go"
        assert lines[3].endswith(f"come: 0 by rules of texts, {up_to}{back} by rules of images")
        assert len(lines) == 4 + bool(up_to)
        images, thresholds = facts.numbers.images, {"side": side, "aspect": aspect}
        assert images.free == len(images.hashes)
        passed = np.True_
        for limit in images.limits if side else ():
            axis, own = images.axes[limit.measure.axis], facts.rules[limit.name]
            edge = limit.edge(thresholds.get(axis.name, own))
            passed = passed & axis.passes(images.bins[axis.name], edge, beyond=limit.keeps_above)
        assert not side or passed.sum() == kept + back


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--min_words=2"], "up to 1 of those that were dropped come: up to 1 by rules of texts"),
        (["--max_words=7", "--min_image_side=10"], "of those that are kept now go"),
        (["--min_words=x"], "--min_words must be a number; got 'x'"),
        (["--min_image_side=-3"], "min_image_side must be >= 0; got -3.0"),
        (["--min_sides=3"], "is no threshold of"),
        (["--min_language_score=0.9"], "scores of kept texts are not recorded; pass at most 0.5"),
        (["--max_unsafe_score=0.3"], "no row of"),
        (["--min_words"], "unrecognized arguments: --min_words; pass a threshold as --FLAG=NUMBER"),
        (["--min_words=2", "--output=a.html"], "pass neither --compare nor --output"),
    ],
)
def test_thresholds_are_counted_or_refused_in_one_line(
    golden: Golden, flags: list[str], said: str, capsys
):
    page = (golden.output / "report.html").stat().st_mtime_ns
    try:
        status = main([str(golden.output), *flags])
    except SystemExit as error:
        status = int(error.code or 0)
    told = capsys.readouterr()
    assert said in told.out + told.err
    assert (status, len(told.err.splitlines())) in ((0, 0), (2, 1))
    assert (golden.output / "report.html").stat().st_mtime_ns == page


def test_thresholds_say_which_rows_are_not_there(golden: Golden, tmp_path: Path, capsys):
    out = tmp_path / "set"
    shutil.copytree(golden.output, out, ignore=shutil.ignore_patterns("rejected"))
    count = len(queried(f"select key from '{golden.output}/rejected/*.parquet'"))
    assert main([str(out), "--min_words=4"]) == 0
    said = f"{count} dropped pairs without a row in rejected/ not counted"
    assert said in capsys.readouterr().out


def test_a_run_that_is_under_way(golden: Golden, tmp_path: Path, capsys):
    """As after a kill: no closing documents, and one shard less."""
    out = tmp_path / "set"
    shutil.copytree(golden.output, out)
    for name in ("manifest.json", "funnel.json", "report.html", "README.md"):
        (out / name).unlink()
    whole = find_facts(str(golden.output))
    (out / "shards/00000_stats.json").unlink()
    facts = find_facts(str(out))
    assert facts.state == "under way"
    assert 0 < facts.kept < whole.kept
    assert facts.steps[-1].kept == facts.kept
    assert main([str(out)]) == 0
    assert "under way" in (out / "report.html").read_text()
    (out / "_temporary").mkdir()
    shutil.copy(golden.output / "manifest.json", out / "_temporary/run.json")
    assert main([str(out), "--min_words=4"]) == 0
    assert "the run has not ended: these are" in capsys.readouterr().out


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
