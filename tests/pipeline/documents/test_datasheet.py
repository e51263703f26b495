"""The datasheet: each question has the run's answer, or a mark that a person must answer it."""

import re
from dataclasses import replace

import pytest

from alignset.pipeline.documents.datasheet import TO_BE_FILLED, datasheet
from alignset.pipeline.runs.documents import Days, Funnel, Manifest, Retry
from alignset.transforms.shards.shard_stats import NearDuplicates
from alignset.transforms.storage.documents import read_document
from tests.support.golden_run import Golden
from tests.support.root import ROOT

TEMPLATE = (ROOT / "pipeline/documents/datasheet.j2").read_text()
ASKED = re.findall(r'question\(\s*"(.+?)"', TEMPLATE)


@pytest.fixture
def made(golden: Golden) -> tuple[Manifest, Funnel]:
    funnel = read_document(f"{golden.output}/funnel.json", Funnel)
    return read_document(f"{golden.output}/manifest.json", Manifest), funnel


def answers(sheet: str) -> dict[str, str]:
    """By question."""
    parts = re.split(r"(?m)^\*\*(.+\?)\*\*$", sheet)
    texts = (re.sub(r"(?m)^## .*$", "", text).strip() for text in parts[2::2])
    return dict(zip(parts[1::2], texts, strict=True))


def test_every_question_is_answered_or_marked(made):
    sheet = answers(datasheet(*made))
    assert [*sheet] == ASKED
    assert len(ASKED) == 50
    assert all(sheet.values())
    marked = [asked for asked, answer in sheet.items() if answer.startswith(TO_BE_FILLED)]
    told = [asked for asked, answer in sheet.items() if TO_BE_FILLED not in answer]
    partly = len(ASKED) - len(marked) - len(told)
    assert "Who paid for its creation?" in marked
    assert "How many instances are there?" in told
    text = datasheet(*made)
    assert f"has answered {len(told) + partly} of {len(ASKED)} questions, {partly} of them" in text


def test_answers_have_the_runs_numbers(made):
    manifest, funnel = made
    sheet = answers(datasheet(*made))
    assert sheet["How many instances are there?"] == f"{manifest.pairs} pairs."
    fetch = next(step for step in funnel.steps if step.step == "fetch")
    failed = fetch.dropped["fetch_failed"]
    assert f"{failed} images could not be fetched" in sheet["Is anything missing from instances?"]
    changed = sheet["Was the data cleaned or changed?"]
    assert f"\n- fetch: {failed} of {fetch.seen}\n" in changed
    near = funnel.near_duplicates
    assert isinstance(near, NearDuplicates)
    noise = sheet["Are there errors, noise or redundancies?"]
    assert f"{near.images} images have the perceptual hash of another" in noise


def test_what_differs_between_runs_is_told(made):
    manifest, funnel = made
    other = replace(
        manifest,
        fetch=manifest.fetch | {"contact": "me@x.example"},
        fetched=Days("2026-11-25", "2026-11-26"),
        resize=manifest.resize | {"resize_mode": "border"},
        retries=[Retry(1, 1, (3, 3), manifest.fetch)],
        evaluation_images={},
    )
    sheet = answers(datasheet(other, funnel))
    assert sheet["How can they be reached?"] == "`me@x.example`"
    assert "from 2026-11-25 to 2026-11-26 (UTC)" in sheet["When was it collected?"]
    assert "resized to `border` of 256 px as jpg" in sheet["What does each instance consist of?"]
    assert "1 times images were fetched again" in sheet["Will it be updated?"]
    assert "No evaluation images" in sheet["Could its composition affect later uses?"]
    assert TO_BE_FILLED in answers(datasheet(*made))["How can they be reached?"]
    texts = replace(manifest, job=manifest.job | {"text_only": True}, shards={})
    sheet = answers(datasheet(texts, funnel))
    assert sheet["Is the set self-contained?"].startswith("No: the images are links")


def test_names_of_somebody_else_are_code(made):
    manifest, funnel = made
    file = replace(manifest.input[0], path="/h/<script>`\n## a.csv", format="csv")
    sheet = datasheet(replace(manifest, input=[file]), funnel)
    assert "``<script>`?## a.csv``" in sheet
