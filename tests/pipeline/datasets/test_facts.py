"""Facts and charts of datasets whose documents or files are not as they should be; two compared."""

import json
import re
import resource
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.datasets import numbers, page_numbers
from alignset.pipeline.datasets.facts import Facts, find_facts
from alignset.pipeline.datasets.numbers import OTHERS, count_pairs, kept_keys
from alignset.pipeline.datasets.page_numbers import read_numbers
from alignset.pipeline.datasets.set_files import find_set
from alignset.pipeline.errors import UsageError
from alignset.pipeline.report.comparison import EXAMPLES, NOWHERE, write_comparison
from alignset.pipeline.report.histograms import charts_of
from alignset.pipeline.report.page import all_lists, page_data, render_page
from alignset.pipeline.report.render import Chart, draw
from alignset.pipeline.report.tables import fetch_tables, funnel_table
from alignset.pipeline.runs.documents import FetchReport, Funnel
from alignset.pipeline.runs.work_folder import TextSummary, WorkFolder
from alignset.transforms.columns.records import REJECTED
from alignset.transforms.corpus.corpus_documents import CountClass, HashFile, VocabularySummary
from alignset.transforms.rules.catalogue import PRODUCT
from alignset.transforms.rules.custom import describe_limit
from alignset.transforms.rules.rule import IMAGES, TEXTS
from alignset.transforms.storage import files as matching
from alignset.transforms.storage.documents import Counts, write_document
from tests.support.made_sets import put_made_set, put_rows
from tests.support.small_sets import put_rejected, put_shard, put_table


@pytest.fixture
def made_set(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    put_made_set(folder, 2, np.random.default_rng(3), pairs=300)
    return folder


# ---- Counts --------------------------------------------------------------------------------


def test_counts_are_of_rows_in_however_many_parts_images_are_compared(tmp_path: Path, monkeypatch):
    """Equal bytes at other URLs, equal perceptual hashes, opt-outs, hosts, and details that are
    keys."""
    put_shard(str(tmp_path), 0, 60)
    sidecar = tmp_path / "shards/00000.parquet"
    rows = pq.read_table(sidecar).to_pylist()
    for place, row in enumerate(rows):
        group = place // 3 if place < 30 else place
        row |= {"sha256": f"{group:064x}"[::-1], "phash": f"{place // 6:016x}"}
        row["opted_out"] = "noai_header,c2pa" if place < 5 else None
    rows[2]["url"] = rows[1]["url"]  # an image is a URL
    put_table(str(sidecar), pa.Table.from_pylist(rows, pq.read_schema(sidecar)))
    whys = [("fetch_failed", "dns")] * 3 + [("fetch_failed", None), ("duplicate_image", "ab")]
    put_rejected(str(tmp_path), "images-00000", [*whys, ("opted_out", "c2pa")])
    put_rejected(str(tmp_path), "text-00000", [("opted_out", "meta_robots"), ("taken_down", "a")])
    once = count_pairs(str(tmp_path))
    assert (once.pairs, once.kept, once.rejected_rows) == (60, {0: 60}, 8)
    assert (once.copies.images, once.copies.contents) == (29, 10)
    assert [images for images, *_ in once.groups] == [3] * 9 + [2]
    assert once.near == 10 + 30
    assert (once.hosts[0].host, once.hosts[0].details) == ("h", {"": 1, "dns": 3})
    assert once.reported == {"c2pa": 5, "noai_header": 5}
    assert once.details("opted_out") == {"c2pa": 1, "meta_robots": 1}
    assert once.details("duplicate_image") == {"": 1}
    monkeypatch.setattr(numbers, "PARTS", 4)
    monkeypatch.setattr(numbers, "IN_MEMORY", 40)
    assert count_pairs(str(tmp_path)) == once


# ---- A reason that both stages pass ----------------------------------------------------------


def test_a_reason_of_both_stages_adds_up_and_keeps_its_details_and_examples_apart(made_set: Path):
    texts = [("opted_out", "tdm_reservation")] * 1000 + [("blocked", "a.txt:host")] * 2
    images = [("opted_out", "noai_header")] * 5 + [("blocked", "a.txt:host")] * 2
    keys = put_rejected(str(made_set), "text-00001", texts)
    path = made_set / "rejected/text-00001.parquet"
    table = pq.read_table(path)
    also = pa.array(["too_few_words,blocked" if n % 2 else "too_few_words" for n in range(1002)])
    place = table.column_names.index("also_reasons")
    put_table(str(path), table.set_column(place, "also_reasons", also))
    put_rejected(str(made_set), "images-00002", images)
    (made_set / "shards/00002_stats.json").write_text("{}")
    facts = find_facts(str(made_set))
    assert facts.run is not None
    facts.language, facts.run = "ja,es", replace(facts.run, about={"title": "Dogs <b>"})
    page = render_page(facts)
    assert 'data-list="opted_out (texts)">opted_out</button>' in page
    assert "<h1><bdi>Dogs &lt;b&gt;</bdi></h1>" in page
    assert "Its alt-texts are in the languages <strong>ja, es</strong>." in page
    assert facts.details[TEXTS, "opted_out"] == {"tdm_reservation": 1000}
    assert facts.details[IMAGES, "opted_out"] == {"noai_header": 5}
    lists = all_lists(facts)
    sizes = {name: len(of) for name, of in lists.items() if "opted_out" in name}
    assert sizes == {"opted_out (texts)": 8, "opted_out (images)": 5}
    assert not any("blocked" in name for name in lists)
    shown = {example.key for of in lists.values() for example in of}
    of_list = {key for n, key in enumerate(keys) if n % 2 or texts[n][0] == "blocked"}
    assert not shown & of_list
    rows = {
        (step.step, row.name): row
        for step, _, reasons in funnel_table(facts, lists)
        for row in reasons
        if row.name == "opted_out"
    }
    assert rows["pairs", "opted_out"].key == "opted_out (texts)"
    assert rows["pairs", "opted_out"].more == "tdm_reservation 1,000"
    assert rows["opt_outs", "opted_out"].more == "noai_header 5"
    tables = {of.title: {row.name: row.count for row in of.rows} for of in fetch_tables(facts)}
    assert tables["Opted out by their owners"] == {"tdm_reservation": 1000, "noai_header": 5}
    assert tables["On a blocklist"] == {"a.txt:host": 4}


# ---- Documents and files that cannot be read -------------------------------------------------


def test_an_ended_run_stays_ended_whatever_its_documents_are(made_set: Path):
    (made_set / "manifest.json").write_text("{")
    (made_set / "funnel.json").write_text('{"pairs": "many"}')
    (made_set / "rejected/images-00001.parquet").write_bytes(b"PAR1")
    facts = find_facts(str(made_set))
    assert (facts.state, facts.waiting) == ("finished", 0)
    for name in ("manifest.json", "funnel.json", "A file is left out: rejected/images-00001"):
        (note,) = (note for note in facts.notes if note.startswith(name))
        assert "cannot be read" in note
    assert str(made_set) not in " ".join(facts.notes)
    assert any("its funnel.json tells nothing" in note for note in facts.notes)
    assert facts.kept == facts.counts.pairs > 0
    page = render_page(facts)
    assert "under way" not in page
    assert str(made_set) not in page


def test_rules_that_are_no_numbers_of_this_world_are_none(made_set: Path):
    path = made_set / "_temporary/run.json"
    told = path.read_text().replace('"min_image_side": 200', f'"min_image_side": {10**400}')
    path.write_text(told)
    facts = find_facts(str(made_set))
    assert "min_image_side" not in facts.rules
    assert "side" not in facts.numbers.images.axes


@pytest.mark.parametrize("name", ["hashes", "word_count", "url", "reason", "width"])
def test_a_rule_with_a_name_of_ours_has_no_chart(made_set: Path, name: str):
    """A manifest may be anybody's: `curate` takes no such rule."""
    of_product = PRODUCT.limits["max_unsafe_score"]
    measure = replace(of_product.measure, axis=name, column=name)
    rule = describe_limit(replace(of_product, name="max_x", reason="high_x", measure=measure))
    document = json.loads((made_set / "_temporary/run.json").read_text())
    document["rule_files"] = [{"name": "x.py", "sha256": "0" * 64, "rules": [rule]}]
    document["rules"]["max_x"] = 0.5
    (made_set / "_temporary/run.json").write_text(json.dumps(document))
    facts = find_facts(str(made_set))
    assert "max_x" in facts.catalogue.limits
    assert "<h2>Funnel</h2>" in render_page(facts)


def test_one_file_in_n_is_read_where_there_are_very_many_rows(made_set: Path, monkeypatch):
    whole = find_facts(str(made_set))
    monkeypatch.setattr(page_numbers, "MOST_ROWS", 1000)
    facts = find_facts(str(made_set))
    assert (facts.kept, facts.steps) == (whole.kept, whole.steps)
    assert facts.numbers.every == 4
    assert facts.numbers.images.free < whole.numbers.images.free
    assert any("One of 4 files was read" in note for note in facts.notes)


@pytest.mark.parametrize("version", ["0.2", "0.1"])
def test_rows_of_earlier_versions_tell_one_reason(made_set: Path, version: str):
    """What passes all limits but one by its values alone counts for that one."""
    now = find_facts(str(made_set))
    for path in made_set.glob("rejected/*.parquet"):
        table = pq.read_table(path).drop_columns(["also_reasons"])
        pq.write_table(table.drop_columns(["thumbnail"]) if version == "0.1" else table, path)
    facts = find_facts(str(made_set))
    assert facts.steps == now.steps
    assert any("An earlier version wrote rejected/" in note for note in facts.notes)
    assert facts.numbers.texts.free > now.numbers.texts.free
    alone, then = (of.numbers.texts.alone["min_language_score"].sum() for of in (now, facts))
    assert alone < then  # without the texts that are on too many images too
    assert "An earlier version" in render_page(facts)


# ---- A folder that is not a dataset -----------------------------------------------------------


def test_a_wrong_folder_is_not_walked(tmp_path: Path, monkeypatch):
    (tmp_path / "deep/shards").mkdir(parents=True)
    (tmp_path / "deep/00000_stats.json").write_text("{}")
    asked = []

    def match(spec: str) -> list[tuple[str, int]]:
        asked.append(spec)
        return matching.match(spec)

    monkeypatch.setattr("alignset.pipeline.datasets.folders.match", match)
    with pytest.raises(UsageError, match="is not a dataset"):
        find_facts(str(tmp_path))
    assert {*asked} == {f"{tmp_path}/{end}" for end in ("*", "*/*.tar", "*/*.parquet")}


def test_a_folder_of_a_set_is_no_set_of_its_own(made_set: Path, monkeypatch: pytest.MonkeyPatch):
    (made_set / "manifest.json").write_text("{}")
    with pytest.raises(UsageError, match=f"is a folder of the dataset '{made_set}': pass that one"):
        find_facts(f"{made_set}/shards/")
    monkeypatch.chdir(made_set)
    with pytest.raises(UsageError, match=r"is a folder of the dataset '\.': pass that one"):
        find_facts("shards")


# ---- Files of anybody -------------------------------------------------------------------------


def test_marks_that_turn_writing_reach_the_page_from_nowhere(made_set: Path):
    evil = "a\u202eb\x1b[31m"
    path = made_set / "rejected/images-00000.parquet"
    table = pq.read_table(path)
    rows = [row | {"detail": evil, "caption": evil} for row in table.to_pylist()]
    for row in rows[:60]:
        row |= {"reason": evil, "evaluation_set": evil, "evaluation_image": evil}
    url = {"url": f"http://{evil}/", "reason": "fetch_failed"}
    rows += [rows[-1] | url | {"key": f"{n:016x}"} for n in range(99)]
    put_table(str(path), pa.Table.from_pylist(rows, table.schema))
    put_rejected(str(made_set), "text-00001", [("blocked", f"{evil}.txt:host")] * 7)
    path.rename(made_set / f"rejected/images-{evil}.parquet")
    (made_set / f"shards/{evil}_stats.json").write_text("{}")
    page = render_page(find_facts(str(made_set)), f"/tmp/{evil}")
    assert "\u202e" not in page
    assert "\x1b" not in page
    assert r"a\u202eb" in page


@pytest.mark.parametrize("stage", ["text", "images"])
def test_a_hostile_file_neither_raises_nor_grows(made_set: Path, stage: str):
    """Wrong types, lists, no values, infinite ones, a million hosts, reasons and details, and a
    text of 1 MB in each row: time and memory are in proportion to the rows."""
    path, before = made_set / f"rejected/{stage}-00001.parquet", find_facts(str(made_set))
    sizes = []
    for rows in (30_000, 60_000):
        numbers_of = np.arange(rows)
        columns = {
            "key": [f"{n:016x}" for n in numbers_of],
            "url": [f"http://host{n}.example/" for n in numbers_of],
            "caption": pa.array(["x" * (1 << 20)])
            .dictionary_encode()
            .take(pa.array(np.zeros(rows, np.int64))),
            "reason": [f"reason {n}" for n in numbers_of],
            "detail": numbers_of,
            "also_reasons": [f"{n},b" for n in numbers_of],
            "width": np.where(numbers_of % 2, np.inf, np.nan),
            "height": [[1]] * rows,
            "unsafe_score": np.where(numbers_of % 2, -np.inf, 1e308),
            "evaluation_distance": ["near"] * rows,
            "thumbnail": numbers_of,
        }
        pq.write_table(pa.table(columns), path)
        used = resource.getrusage(resource.RUSAGE_SELF)
        begun = used.ru_utime + used.ru_stime
        facts = find_facts(str(made_set))
        page = render_page(facts)
        used = resource.getrusage(resource.RUSAGE_SELF)
        sizes.append((used.ru_utime + used.ru_stime - begun, used.ru_maxrss, len(page)))
        assert facts.counts.rejected_rows > rows
        assert max(len(of.ranked) for of in (facts.numbers.texts, facts.numbers.images)) <= 200
    (first_s, first_kib, _), (second_s, second_kib, page_bytes) = sizes
    assert second_s < 4 * first_s + 1  # in proportion, and no square
    assert second_kib - first_kib < 400 << 10
    assert page_bytes < 12_000_000
    assert before.kept == facts.kept


def test_further_reasons_without_end_are_in_memory_for_one_row(made_set: Path):
    path, facts = str(made_set / "rejected/text-00009.parquet"), find_facts(str(made_set))
    many = ",".join(f"{n:x}" for n in range(250))
    columns = {"key": [f"{n:016x}" for n in range(4000)], "reason": ["too_few_words"] * 4000}
    put_rows(path, columns | {"also_reasons": [f"{n},{many}" for n in range(4000)]}, REJECTED)
    tracemalloc.start()
    numbers_read = read_numbers([path], facts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert numbers_read.texts.free == 0
    assert peak < 40_000_000


def test_missing_columns_are_no_values(tmp_path: Path):
    put_made_set(tmp_path, 1, np.random.default_rng(1), pairs=50, texts=50)
    for path in tmp_path.glob("*/*.parquet"):
        pq.write_table(pq.read_table(path).select(["caption"]), path)
    facts = find_facts(str(tmp_path))
    assert facts.counts.rejected_rows + facts.kept == 100
    assert "<h2>Funnel</h2>" in render_page(facts)
    nothing = pa.table({"caption": pa.array([], pa.string())})
    for path in tmp_path.glob("*/*.parquet"):
        pq.write_table(nothing, path)
    assert find_facts(str(tmp_path)).seen == 0


def test_very_many_reasons_are_one(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(numbers, "MOST_NAMES", 1000)
    keys = {"key": [f"{n:016x}" for n in range(5000)], "reason": [f"r{n}" for n in range(5000)]}
    put_rows(f"{tmp_path}/rejected/text-00000.parquet", keys, REJECTED)
    counts = count_pairs(str(tmp_path))
    assert len(counts.dropped[TEXTS]) <= 1001
    assert counts.rejected_rows == 5000
    assert counts.reasons(TEXTS)[OTHERS] >= 4000
    keys |= {"reason": ["a"] * 5000, "detail": keys["reason"]}
    put_rows(f"{tmp_path}/rejected/text-00000.parquet", keys, REJECTED)
    counts = count_pairs(str(tmp_path))
    assert (counts.rejected_rows, len(counts.details("a"))) == (5000, 500)


# ---- What the page is given ---------------------------------------------------------------------


def test_a_page_has_bounds_and_says_what_was_left_out(made_set: Path, monkeypatch):
    monkeypatch.setattr("alignset.pipeline.report.page.MOST_TEXT_BYTES", 20_000)
    monkeypatch.setattr("alignset.pipeline.report.page.MOST_PICTURE_BYTES", 10_000)
    facts = find_facts(str(made_set))
    data = page_data(facts)
    examples, pictures = data["left_out"]
    assert examples > 0
    assert pictures > 0
    assert 0 < sum(len(e.get("picture", "")) for e in data["examples"]) <= 40_000
    page = render_page(facts)
    assert f"{examples:,} more examples are left out" in page
    assert f"{pictures:,} images are left out" in page
    assert len(page) < 200_000 + 20_000 + 40_000
    monkeypatch.undo()
    assert "left out, so that" not in render_page(facts)


def test_pairs_that_wait_are_not_dropped(made_set: Path):
    facts = find_facts(str(made_set))
    judged = facts.kept + sum(facts.counts.reasons(IMAGES).values())
    counts = Counts(9000, judged + 500, {"too_few_words": 9})
    vocabulary = VocabularySummary(by_count=[], cut_off_count=0, vocabulary=0)
    shards = {0: 300, 1: 300, 2: 500}
    summary = TextSummary(9000, counts, vocabulary, HashFile("v", 0, ""), shards)
    write_document(WorkFolder(f"{made_set}/_temporary").text_summary, summary)
    facts = find_facts(str(made_set))
    assert (facts.waiting, facts.planned_shards, len(facts.stats)) == (500, 3, 2)
    (words,) = (chart for chart in charts_of(facts) if chart.name == "Words of the text")
    assert sum(words.kept) == facts.kept
    page = render_page(facts)
    assert "waiting for a shard" in page
    assert "of those judged" in page
    (bar,) = (bar for step, bar, _ in funnel_table(facts, {}) if step.step == "fetch")
    assert '<rect class="w"' in bar


def ngram_chart(vocabulary: int, cut: int) -> Chart:
    by_count = [
        CountClass(max_count=high, min_count=low, ngrams=ngrams, occurrences=ngrams)
        for low, high, ngrams in ((1, 1, 50), (2, 2, 20), (3, 10, 6), (11, 100, 2))
    ]
    summary = VocabularySummary(by_count=by_count, cut_off_count=cut, vocabulary=vocabulary)
    funnel = Funnel(fetch=FetchReport(0, 0, {}, []), pairs=0, steps=[], vocabulary=summary)
    (chart,) = charts_of(Facts("", funnel=funnel))
    return chart


def test_ngrams_below_the_cut_are_dropped_and_those_within_it_in_part():
    chart = ngram_chart(vocabulary=13, cut=2)
    assert list(chart.kept) == [0, 5, 6, 2]
    assert list(chart.dropped) == [50, 15, 0, 0]
    assert "n-grams" in draw(chart)
    whole = ngram_chart(vocabulary=78, cut=0)
    assert list(whole.dropped) == [0, 0, 0, 0]
    assert whole.note.startswith("Nothing was cut off")


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
