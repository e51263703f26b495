"""Facts and numbers of datasets whose documents or files are not as they should be."""

import json
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
from alignset.pipeline.datasets.numbers import OTHERS, Tally, count_pairs
from alignset.pipeline.datasets.page_numbers import read_numbers
from alignset.pipeline.errors import UsageError
from alignset.pipeline.report.histograms import charts_of
from alignset.pipeline.report.page import render_page
from alignset.pipeline.report.page_data import all_lists, page_data
from alignset.pipeline.report.sliders import answers
from alignset.pipeline.report.tables import fetch_tables, funnel_table
from alignset.pipeline.runs.documents import Step
from alignset.pipeline.runs.work_folder import TextSummary, WorkFolder
from alignset.transforms.columns.rejects import REJECTED
from alignset.transforms.corpus.corpus_documents import HashFile, VocabularySummary
from alignset.transforms.rules.catalogue import PRODUCT
from alignset.transforms.rules.custom import describe_limit
from alignset.transforms.rules.rule import IMAGES, TEXTS
from alignset.transforms.storage import files as matching
from alignset.transforms.storage.documents import write_document
from alignset.transforms.workers.counts import Counts
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


def test_a_tally_forgets_the_rarest_and_counts_them_as_others():
    tally = Tally(most=100)
    for part in range(50):
        names = ["often"] * 5 + [f"{part} {n}" for n in range(40)]
        tally.add(pa.array(names), pa.array(["a"] * len(names)))
    assert tally.totals()["often"] == 250
    assert len(tally.counts) <= 100
    assert tally.counts.total() + tally.others == 50 * 45


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
    assert facts.dropped["opted_out"] == 1005
    assert facts.dropped["blocked"] == 4
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


def test_what_cost_most_is_the_sum_of_both_stages(made_set: Path):
    steps = [
        Step("blocklist", 3000, 2000, {"blocked": 1000}),
        Step("words", 2000, 1100, {"too_few_words": 900}),
        Step("blocked_images", 1100, 1095, {"blocked": 5}),
    ]
    ((title, text, key),) = answers(Facts("", steps=steps), [], {"too_few_words": [1]})
    assert title == "What cost most"
    assert text.startswith("blocked dropped 1,005 pairs, 33.5 % of all.")
    assert key == ""  # of which no example is shown
    facts = find_facts(str(made_set))
    lists = page_data(facts)["lists"]
    _, _, key = next(answers(facts, [], lists))
    assert key.startswith(next(iter(facts.dropped)))
    assert lists[key]
    assert f'data-list="{key}">Show examples</button>' in render_page(facts)


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("all", "Its alt-texts are in all languages."),
        ("ja,es", "Its alt-texts are in the languages <strong>ja, es</strong>."),
        ("en", "Its alt-texts are in the language <strong>en</strong>."),
        ("", ""),
    ],
)
def test_a_page_says_the_title_and_the_languages(made_set: Path, language: str, said: str) -> None:
    facts = find_facts(str(made_set))
    assert facts.run is not None
    facts.language, facts.run = language, replace(facts.run, about={"title": "Dogs <b>"})
    page = render_page(facts)
    assert "<h1><bdi>Dogs &lt;b&gt;</bdi></h1>" in page
    assert said in page
    assert ("Its alt-texts" in page) == bool(said)


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
    path, judging = str(made_set / "rejected/text-00009.parquet"), find_facts(str(made_set)).judging
    many = ",".join(f"{n:x}" for n in range(250))
    columns = {"key": [f"{n:016x}" for n in range(4000)], "reason": ["too_few_words"] * 4000}
    put_rows(path, columns | {"also_reasons": [f"{n},{many}" for n in range(4000)]}, REJECTED)
    tracemalloc.start()
    numbers_read = read_numbers([path], judging)
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
    monkeypatch.setattr("alignset.pipeline.report.page_data.MOST_TEXT_BYTES", 20_000)
    monkeypatch.setattr("alignset.pipeline.report.page_data.MOST_PICTURE_BYTES", 10_000)
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
