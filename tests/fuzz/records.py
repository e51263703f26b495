"""Records of a report that somebody wrote: each is refused by its name, or adds up and is drawn."""

from __future__ import annotations

import json
from copy import deepcopy
from functools import cache
from random import Random
from typing import Any

import numpy as np

from alignset.pipeline.datasets.facts import Facts
from alignset.pipeline.datasets.set_records import SetRecords
from alignset.pipeline.report.charts import draw
from alignset.pipeline.report.histograms import charts_of
from alignset.pipeline.report.page_data import encode_for_page, page_data
from alignset.pipeline.report.sliders import sliders
from alignset.pipeline.report.tables import failing_host_rows, host_rows
from alignset.transforms.columns.record_files import RecordError, decode_record, encode_record
from tests.support.made_records import made_record

RULES = {"min_image_side": 200.0, "max_image_aspect": 3.0, "max_unsafe_score": 0.5}
NASTY: tuple[Any, ...] = (
    *(0, -1, 1 << 53, 1 << 64, 10**23, 1.5, 1e308, -0.0, True, None),
    *("", "x", "-1", "5000", "1000000000", "٣", "a" * 3000, "</script>", "\u202e", "\ud800"),
    *([], {}, [[]], [0] * 300, {"": 0}, {"x": {"y": 1}}),
)


@cache
def _whole() -> Any:
    return json.loads(encode_record(made_record(np.random.default_rng(1), 60, 0)))


def check(random: Random) -> None:
    """A record with a few values, keys or names that are others."""
    record = deepcopy(_whole())
    for _ in range(random.randint(1, 4)):
        _change(record, random)
    encoded = json.dumps(record).encode()
    try:
        decoded = decode_record(encoded, "images-00000.json")
    except RecordError as error:
        said = str(error)
        if said.startswith("images-00000.json ") and len(said) < 400:
            return
        raise
    facts = Facts("nowhere", rules=RULES, records=SetRecords())
    facts.records.images.add([decoded, decoded], RULES)
    for chart in charts_of(facts):
        draw(chart)
    host_rows(facts)
    failing_host_rows(facts)
    list(sliders(facts))
    encode_for_page(page_data(facts))


def _change(inner: Any, random: Random) -> None:
    """Changes something at a random depth."""
    while isinstance(inner, dict | list) and inner:
        at = random.choice([*inner]) if isinstance(inner, dict) else random.randrange(len(inner))
        if not isinstance(inner[at], dict | list) or not inner[at] or random.random() < 0.2:
            break
        inner = inner[at]
    if isinstance(inner, dict) and random.random() < 0.3:
        inner[str(random.choice(NASTY))[:4000]] = inner.pop(at)
    else:
        inner[at] = deepcopy(random.choice(NASTY))  # else the next change is one of NASTY itself
