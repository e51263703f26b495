"""What card and Croissant say alike: the counts of opt-outs, wherever they stand."""

from dataclasses import replace

import pytest
from msgspec import UNSET

from alignset.pipeline.datasets.sizes_and_days import Contents
from alignset.pipeline.documents.card import dataset_card
from alignset.pipeline.documents.croissant import croissant
from alignset.pipeline.documents.wording import opt_outs, span, with_images
from alignset.pipeline.runs.documents import (
    Days,
    FetchReport,
    Funnel,
    Manifest,
    NamedList,
    OptOuts,
    SourceSet,
    Step,
)
from alignset.transforms.corpus.corpus_documents import VocabularySummary
from alignset.transforms.decontamination.overlap_settings import EvaluationSet
from alignset.transforms.safety.model_files import OPEN_NSFW
from alignset.transforms.storage.documents import read_document
from tests.support.golden_run import Golden

FETCH = FetchReport(10, 6, {"dns": 3}, [])
FUNNEL = Funnel(fetch=FETCH, pairs=4, steps=[], vocabulary=VocabularySummary())


def test_opt_outs_are_the_opt_outs_that_were_honoured_and_reasons_of_any_step():
    assert opt_outs(FUNNEL) == {}
    stated = {"robots_txt": 2, "c2pa": 1}
    steps = [
        Step("blocklist", 20, 17, {"blocked": 3}),
        Step("fetch", 17, 11, {"fetch_failed": 6}),
        Step("decode", 11, 9, {"blocked": 1, "opted_out": 1, "undecodable": 0}),
    ]
    honoured = replace(FUNNEL, steps=steps, opted_out=OptOuts("reject", stated))
    assert opt_outs(honoured) == stated | {"blocked": 4}
    kept = replace(FUNNEL, opted_out=OptOuts("report", stated))
    assert opt_outs(kept) == {}


def test_a_span_of_one_day_is_a_day():
    assert span("2024-05-18", "2024-05-18") == "on 2024-05-18"
    assert span("2024-05-18", "2024-05-30") == "from 2024-05-18 to 2024-05-30"


MODEL = replace(OPEN_NSFW, path="nsfw.onnx")
Made = tuple[Manifest, Funnel, dict[str, Manifest]]


@pytest.fixture(scope="module")
def made(golden: Golden) -> Made:
    """A set without evaluation images, a classifier or a cut vocabulary, of one that had each."""
    funnel = read_document(f"{golden.output}/funnel.json", Funnel)
    manifest = read_document(f"{golden.output}/manifest.json", Manifest)
    before = replace(
        manifest,
        rules=manifest.rules | {"vocabulary_size": 919, "max_unsafe_score": 0.5},
        evaluation_images={"exam": EvaluationSet(12, 3), "<b>`": EvaluationSet(1, 0)},
        unsafe_model=MODEL,
        blocklists=[NamedList("hosts.txt", "ab12", {"host": 7})],
        fetched=Days("2026-11-20", "2026-11-21"),
    )
    steps = [Step("decode", 20, 8, {"opted_out": 5, "blocked": 7})]
    now = replace(
        manifest,
        rules=manifest.rules | {"vocabulary_size": 100_000_000, "max_unsafe_score": 1.0},
        evaluation_images={},
        fetched=UNSET,
        overlap=UNSET,
        unsafe_model=UNSET,
    )
    return now, replace(funnel, history=[SourceSet("history/00", 8, steps)]), {"history/00": before}


def test_the_card_tells_what_an_earlier_set_had_filtered(made: Made):
    now, funnel, earlier = made
    card = dataset_card(now, funnel, Contents(), earlier)
    assert "so copies of test sets may be in here" not in card
    for told in (
        "This run had no evaluation images.\n",
        "`exam` (12 images, and 3 that could not be decoded), `` <b>` `` (1 image)",
        "`history/00` dropped images with a score above `0.5` by `nsfw.onnx`. This run scored none",
        "| `vocabulary_size` | 100000000; before, `history/00`: `919` |  |\n",
        f"- `history/00`: {now.vocabulary.vocabulary:,}\n",
        "- `history/00`: `hosts.txt`\n",
        "| `history/00: opted_out` | 5 |\n| `history/00: blocked` | 7 |\n",
        "No image was fetched by this run, so no host's opt-outs were read. Earlier, of "
        "`history/00`: While ",
        "fetched for `history/00` from `2026-11-20` to `2026-11-21` (UTC); the days of others are "
        "unknown",
    ):
        assert told in card
    assert "shocking images are not filtered" not in card
    assert "No pair was left out because of an opt-out" not in card


def test_croissant_tells_it_too(made: Made):
    now, funnel, earlier = made
    text = croissant(now, funnel, earlier).decode().replace("`", "")
    assert "This run scored none" in text
    assert "shocking images are not filtered" not in text


def test_a_set_of_texts_between_loses_what_was_said_of_images(made: Made):
    now, funnel, earlier = made
    texts = replace(now, job=now.job | {"text_only": True})
    before = {"history/00/history/00": earlier["history/00"], "history/00": texts}
    assert with_images(before) == {}
    assert with_images({"history/00": now, "history/000": texts}) == {"history/00": now}
    card = dataset_card(now, funnel, Contents(), before)
    assert "**No evaluation images were passed, so copies of test sets may be in here.**" in card
    assert "shocking images are not filtered" in card
    assert "before, `history/00/history/00`: `919`" in card  # its texts came along


def test_settings_of_another_make_are_not_asked_for(made: Made):
    now, funnel, earlier = made
    bare = replace(earlier["history/00"], rules={}, fetch={}, job={}, overlap={})
    card = dataset_card(now, funnel, Contents(), {"history/00": bare})
    assert "score above `?` by" in card
