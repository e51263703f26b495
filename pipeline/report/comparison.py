"""Two datasets side by side: their funnels, and which pairs only one of them keeps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa

from alignset.pipeline.datasets.facts import Facts, count_facts
from alignset.pipeline.datasets.numbers import kept_keys, keys_in
from alignset.pipeline.datasets.page_numbers import NEVER_PICTURED, NEVER_SHOWN
from alignset.pipeline.datasets.sample import Pair, take_sample
from alignset.pipeline.datasets.set_files import SetFiles, no_set
from alignset.pipeline.datasets.stored_images import shown_picture
from alignset.pipeline.report.render import render
from alignset.pipeline.report.tables import percent
from alignset.pipeline.runs.documents import Step
from alignset.pipeline.shown_texts import printable
from alignset.transforms.columns.records import UInt64s, key_column, key_hashes
from alignset.transforms.storage.files import write_atomically

EXAMPLES = 12
NOWHERE = "not in its input"


def write_comparison(first: str, second: str, path: str) -> str:
    """Writes the comparison of two datasets; returns where it is.

    Raises:
      UsageError: one of them is not a dataset of ours.
    """
    facts = count_facts(first), count_facts(second)
    if foreign := [of.out for of in facts if of.files.folder]:
        raise no_set(foreign[0])
    files = facts[0].files, facts[1].files
    keys = kept_keys(files[0]), kept_keys(files[1])
    alone = [np.setdiff1d(*of, assume_unique=True) for of in (keys, keys[::-1])]
    page = render(
        "compare.html",
        names=[printable(name.rstrip("/") or name) for name in (first, second)],
        facts=facts,
        both=len(keys[0]) - len(alone[0]),
        alone=list(map(len, alone)),
        rows=list(funnel_rows(*facts)),
        examples=[list(_examples(*files, alone[0])), list(_examples(*files[::-1], alone[1]))],
        percent=percent,
    )
    write_atomically(path, page.encode("utf-8", "replace"))
    return path


def funnel_rows(first: Facts, second: Facts) -> Iterator[tuple[str, bool, int, int]]:
    """The kept pairs of each step, and the dropped ones of each reason: its name, whether it is a
    reason, and the counts of both."""
    yield "pairs at the start", False, first.seen, second.seen
    both = [{step.step: step for step in of.steps} for of in (first, second)]
    for name in both[0] | both[1]:
        one, other = (of.get(name, Step(name, 0, 0, {})) for of in both)
        yield name, False, one.kept, other.kept
        for reason in one.dropped | other.dropped:
            counts = one.dropped.get(reason, 0), other.dropped.get(reason, 0)
            if any(counts):
                yield reason, True, *counts


def _examples(
    files: SetFiles, others: SetFiles, alone: UInt64s
) -> Iterator[tuple[Pair, list[tuple[str, bytes | str]]]]:
    """Some pairs that one dataset keeps alone, with their images, and the other's reasons."""
    chosen = alone[np.argsort(key_hashes(alone))[:EXAMPLES]]

    def find_keys(path: str) -> pa.Array:
        return key_column(np.intersect1d(keys_in(path), chosen))

    reasons = {of.key: of for of in take_sample(others.rejected_files, EXAMPLES, find_keys)[0]}
    limits = others.catalogue.limits.values()
    hidden = {limit.reason for limit in limits if math.isfinite(limit.measure.blurs)}
    for pair in take_sample(files.kept_files, EXAMPLES, find_keys)[0]:
        other = reasons.get(pair.key, Pair(reason=NOWHERE))
        if other.reason not in NEVER_SHOWN:
            is_hidden = other.reason in NEVER_PICTURED | hidden
            body = None if is_hidden else dict(files.images(pair.file, [pair.key])).get(pair.key)
            picture = shown_picture(body, "not shown" if is_hidden else "no image is stored")
            yield replace(pair, reason=other.reason, detail=other.detail), [("", picture)]
