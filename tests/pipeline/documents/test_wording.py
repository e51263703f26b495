"""What card, datasheet and Croissant say alike: the counts of opt-outs, wherever they stand."""

from dataclasses import replace

from alignset.pipeline.documents.wording import opt_outs, span
from alignset.pipeline.runs.documents import FetchReport, Funnel, OptOuts, Step
from alignset.transforms.corpus.corpus_documents import VocabularySummary

FETCH = FetchReport(10, 6, {"dns": 3}, [])
FUNNEL = Funnel(fetch=FETCH, pairs=4, steps=[], vocabulary=VocabularySummary())


def test_opt_outs_are_the_wishes_that_were_honoured_and_reasons_of_any_step():
    assert opt_outs(FUNNEL) == {}
    wishes = {"robots_txt": 2, "c2pa": 1}
    steps = [
        Step("blocklist", 20, 17, {"blocked": 3}),
        Step("fetch", 17, 11, {"fetch_failed": 6}),
        Step("decode", 11, 9, {"blocked": 1, "opted_out": 1, "undecodable": 0}),
    ]
    honoured = replace(FUNNEL, steps=steps, opted_out=OptOuts("reject", wishes))
    assert opt_outs(honoured) == wishes | {"blocked": 4}
    kept = replace(FUNNEL, opted_out=OptOuts("report", wishes))
    assert opt_outs(kept) == {}


def test_a_span_of_one_day_is_a_day():
    assert span("2024-05-18", "2024-05-18") == "on 2024-05-18"
    assert span("2024-05-18", "2024-05-30") == "from 2024-05-18 to 2024-05-30"
