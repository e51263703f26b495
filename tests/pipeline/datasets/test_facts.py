"""What is known of a dataset whose documents or records are not as they should be."""

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests.support.made_records import put_largest_set, put_made_set

from alignset.pipeline.datasets import set_records
from alignset.pipeline.datasets.facts import Facts, find_facts
from alignset.pipeline.errors import UsageError
from alignset.pipeline.report.histograms import charts_of
from alignset.pipeline.report.page import render_page
from alignset.pipeline.report.page_data import all_lists, page_data
from alignset.pipeline.report.sliders import answers
from alignset.pipeline.report.tables import blocked_rows, funnel_table, opt_out_rows
from alignset.pipeline.runs.documents import Step
from alignset.transforms.columns.record_files import decode_record, encode_record
from alignset.transforms.columns.records import Axis, Record
from alignset.transforms.rules.rule import IMAGES, TEXTS
from alignset.transforms.storage import files as matching


@pytest.fixture
def made_set(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    put_made_set(folder, 2, np.random.default_rng(3), pairs=300)
    return folder


def changed(path: Path, **parts: object) -> None:
    record = decode_record(path.read_bytes(), "")
    path.write_bytes(encode_record(replace(record, **parts)))  # type: ignore[arg-type]


# ---- A reason that both stages pass -------------------------------------------------------


def test_a_reason_of_both_planes_adds_up_and_keeps_its_details_and_examples_apart(made_set: Path):
    texts, images = made_set / "report/text-00000.json", made_set / "report/images-00000.json"
    for path, count, detail in ((texts, 1000, "tdm_reservation"), (images, 5, "noai_header")):
        record = decode_record(path.read_bytes(), "")
        example = msgspec.structs.replace(
            record.examples[0],
            key=f"{count:016x}",
            lists=["opted_out"],
            reason="opted_out",
            detail=detail,
        )
        outcomes = record.outcomes | {"opted_out": {detail: count}, "blocked": {"a.txt:host": 2}}
        changed(path, outcomes=outcomes, examples=[*record.examples, example])
    facts = find_facts(str(made_set))
    assert facts.dropped["opted_out"] == 1005
    assert facts.dropped["blocked"] == 4
    assert facts.details[TEXTS, "opted_out"] == {"tdm_reservation": 1000}
    assert facts.details[IMAGES, "opted_out"] == {"noai_header": 5}
    lists = all_lists(facts)
    keys = {name: [e.key for e in of] for name, of in lists.items() if "opted_out" in name}
    assert keys == {
        "opted_out (texts)": [f"{1000:016x}"],
        "opted_out (images)": [f"{5:016x}"],
    }
    rows = {
        (step.name, row.name): row
        for step in funnel_table(facts, lists)
        for row in step.reasons
        if row.name == "opted_out"
    }
    assert rows["pairs", "opted_out"].key == "opted_out (texts)"
    assert rows["pairs", "opted_out"].more == "tdm_reservation 1,000"
    assert rows["opt_outs", "opted_out"].key == "opted_out (images)"
    assert rows["opt_outs", "opted_out"].more == "noai_header 5"
    assert {row.name: row.count for row in opt_out_rows(facts)} == {
        "tdm_reservation": 1000,
        "noai_header": 5,
    }
    assert [(row.name, row.count) for row in blocked_rows(facts)] == [("a.txt:host", 4)]


def test_what_cost_most_is_the_sum_of_both_planes():
    steps = [
        Step("blocklist", 3000, 2000, {"blocked": 1000}),
        Step("words", 2000, 1100, {"too_few_words": 900}),
        Step("blocked_images", 1100, 1095, {"blocked": 5}),
    ]
    (told,) = answers(Facts("", steps=steps), [], {"too_few_words": [1]})
    assert told.title == "What cost most"
    assert told.text.startswith("blocked dropped 1,005 pairs, 33.5 % of all.")
    assert told.key == ""  # of which no example is shown


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


def test_a_looser_threshold_that_brings_nothing_is_no_answer() -> None:
    axis = Axis("side", [160.0, 200.0])
    facts = Facts("", rules={"min_image_side": 200.0})
    facts.records.images.whole = Record(axes=[axis], alone={"min_image_side": {"2": 5}})
    assert answers(facts, [], {}) == []


def test_what_cost_most_leads_to_its_examples(made_set: Path):
    facts = find_facts(str(made_set))
    reason = next(iter(facts.dropped))
    lists = page_data(facts)["lists"]
    told = answers(facts, [], lists)[0]
    assert told.key.startswith(reason)
    assert lists[told.key]
    assert f'data-list="{told.key}">Show examples</button>' in render_page(facts)


# ---- A run that is under way --------------------------------------------------------------


def test_pairs_that_wait_are_not_dropped(made_set: Path):
    facts = find_facts(str(made_set))
    passed, judged = facts.records.texts.whole.kept, facts.records.images.whole.pairs
    assert facts.waiting == passed - judged > 0
    (words,) = (chart for chart in charts_of(facts) if chart.name == "Words of the text")
    assert sum(words.kept) == facts.records.images.whole.kept
    # Words of made images are not those of made texts: what waits is counted bin by bin.
    assert 0 < sum(words.waiting) <= passed
    page = render_page(facts)
    assert "waiting for a shard" in page
    assert "of those judged" in page
    fetch = next(step for step in funnel_table(facts, {}) if step.name == "fetch")
    assert '<rect class="w"' in fetch.bar


# ---- Documents and records that cannot be read --------------------------------------------


def test_an_ended_run_stays_ended_whatever_its_documents_are(made_set: Path):
    (made_set / "manifest.json").write_text("{")
    (made_set / "funnel.json").write_text('{"pairs": "many"}')
    facts = find_facts(str(made_set))
    assert (facts.state, facts.waiting) == ("finished", 0)
    for name in ("manifest.json", "funnel.json"):
        (note,) = (note for note in facts.notes if note.startswith(name))
        assert "cannot be read" in note
    assert str(made_set) not in " ".join(facts.notes)
    assert any("its funnel.json tells nothing" in note for note in facts.notes)
    assert facts.kept == facts.records.images.whole.kept > 0
    page = render_page(facts)
    assert "under way" not in page
    assert str(made_set) not in page


def test_a_cut_record_is_no_record_of_an_older_version(made_set: Path):
    (made_set / "manifest.json").write_text("{")
    path = made_set / "report/images-00001.json"
    path.write_bytes(path.read_bytes()[:500])
    notes = " ".join(find_facts(str(made_set)).notes)
    assert "A record cannot be read and is left out: images-00001.json" in notes
    assert "older versions" not in notes
    path.unlink()
    notes = " ".join(find_facts(str(made_set)).notes)
    assert "1 of 2 shards recorded nothing for a report, as older versions do not" in notes


def test_records_of_anybody_take_bounded_memory():
    total = set_records.Sum()
    for part in range(40):
        outcomes = {f"reason_{part}_{n}": {f"detail_{n}": 1} for n in range(50)}
        details = {"kept": {f"detail_{part}_{n}": 2 for n in range(1000)}}
        total.add([Record(2050, outcomes | details)], {})
    counted = total.whole.outcomes
    assert len(counted) == 64
    assert all(len(of) <= 1024 for of in counted.values())
    assert sum(sum(of.values()) for of in counted.values()) == total.whole.pairs == 40 * 2050 - 0


def test_rules_that_are_no_numbers_of_this_world_are_none(made_set: Path):
    path = made_set / "_temporary/run.json"
    told = path.read_text().replace('"min_image_side": 200', f'"min_image_side": {10**400}')
    path.write_text(told)
    assert "min_image_side" not in find_facts(str(made_set)).rules


# ---- A folder that is not a dataset --------------------------------------------------------------


def test_a_wrong_folder_is_not_walked(tmp_path: Path, monkeypatch):
    (tmp_path / "deep/shards").mkdir(parents=True)
    (tmp_path / "deep/00000_stats.json").write_text("{}")
    asked = []

    def match(spec: str) -> list[tuple[str, int]]:
        asked.append(spec)
        return matching.match(spec)

    monkeypatch.setattr("alignset.pipeline.datasets.folder_samples.match", match)
    with pytest.raises(UsageError, match="is not a dataset"):
        find_facts(str(tmp_path))
    assert asked == [f"{tmp_path}/{end}" for end in ("*", "*/*.tar", "*/*.parquet")]


def test_a_folder_of_a_set_is_no_set_of_its_own(made_set: Path, monkeypatch: pytest.MonkeyPatch):
    (made_set / "manifest.json").write_text("{}")
    with pytest.raises(UsageError, match=f"is a folder of the dataset '{made_set}': pass that one"):
        find_facts(f"{made_set}/shards/")
    monkeypatch.chdir(made_set)
    with pytest.raises(UsageError, match=r"is a folder of the dataset '\.': pass that one"):
        find_facts("shards")


# ---- What the page is given ---------------------------------------------------------------


def test_marks_that_turn_writing_reach_the_page_from_nowhere(made_set: Path):
    path = made_set / "report/images-00000.json"
    record = decode_record(path.read_bytes(), "")
    evil = "a\u202eb\x1b[31m"
    examples = [
        msgspec.structs.replace(e, detail=evil, near=evil, format=evil, caption=evil, lists=[evil])
        for e in record.examples
    ]
    outcomes = record.outcomes | {"blocked": {f"{evil}.txt:host": 7}, "fetch_failed": {evil: 9}}
    hosts = msgspec.structs.replace(
        record.tops["hosts"], counts={evil: {f"fetch_failed: dns{evil}": 5}}
    )
    changed(
        path,
        examples=examples,
        outcomes=outcomes,
        tops={"hosts": hosts},
        histograms=record.histograms | {"formats": {"kept": {evil: 3}}},
    )
    path.rename(made_set / f"report/images-{evil}.json")
    page = render_page(find_facts(str(made_set)), f"/tmp/{evil}")
    assert "\u202e" not in page
    assert "\x1b" not in page


def test_a_page_has_bounds_and_says_what_was_left_out(made_set: Path, monkeypatch):
    monkeypatch.setattr("alignset.pipeline.report.page_data.MOST_TEXT_BYTES", 20_000)
    monkeypatch.setattr("alignset.pipeline.report.page_data.MOST_PICTURE_BYTES", 30_000)
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


def test_the_largest_page_has_12_megabytes_at_most(tmp_path: Path):
    put_largest_set(tmp_path / "set", np.random.default_rng(0))
    facts = find_facts(str(tmp_path / "set"))
    assert facts.records.faults == []
    page = render_page(facts).encode()
    assert 10_000_000 < len(page) <= 12_000_000
    assert b"more examples are left out" in page
    assert b"images are left out" in page
