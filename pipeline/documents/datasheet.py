"""The datasheet of a set: what the run can answer is answered, the rest is marked for a person."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from alignset.pipeline.documents.earlier_rules import Earlier, earlier_evaluation
from alignset.pipeline.documents.templates import template
from alignset.pipeline.documents.wording import (
    contact,
    crawl_days,
    earlier_fetch_span,
    fetch_span,
    heeded,
    opt_outs,
    sources,
    unfiltered,
)
from alignset.pipeline.runs.documents import BrokenInput, Funnel, Manifest
from alignset.transforms.rules.given import FETCH_FAILED
from alignset.transforms.shards.shard_files import SHARD_SCHEMA
from alignset.transforms.shards.shard_stats import NearDuplicates

TO_BE_FILLED = "**To be filled by a person**"


class _Questions:
    """Writes each question with its answer, and counts the answers."""

    def __init__(self) -> None:
        self.asked = self.answered = self.partly = 0

    def __call__(self, asked: str, person: str = "", caller: Callable[[], str] = str) -> str:
        """A question, its answer by the run, and what a person still has to say.

        Args:
          person: "" for nothing. caller: gives the answer, "" where only a person can.
        """
        # A line's end within an answer is a space, unless a list begins there.
        answer = re.sub(r"(?<!\n)\n(?!\n|- )", " ", caller().strip())
        self.asked += 1
        self.answered += bool(answer)
        self.partly += bool(answer and person)
        mark = f"{TO_BE_FILLED}{f': {person}' if person else ''}."
        marks = [mark] if person or not answer else []
        return "\n\n".join([f"**{asked}**", *filter(None, [answer]), *marks])


def datasheet(manifest: Manifest, funnel: Funnel, earlier: Earlier | None = None) -> str:
    """The text of the datasheet, in Markdown.

    Args:
      earlier: the manifests of the sets that it was made of, by where they are.
    """
    facts = _facts(manifest, funnel, earlier or {})
    counts = _Questions()
    sheet = template("datasheet.j2")
    sheet.render(facts, question=counts, counts=counts)  # the head of the sheet tells how many
    return f"{sheet.render(facts, question=_Questions(), counts=counts)}\n"


def _facts(manifest: Manifest, funnel: Funnel, earlier: Earlier) -> dict[str, Any]:
    """What the answers are made of."""
    text_only = bool(manifest.job["text_only"])
    near, broken = funnel.near_duplicates, funnel.broken_input
    return {
        "manifest": manifest,
        "mark": TO_BE_FILLED,
        "text_only": text_only,
        "original": manifest.resize["resize_mode"] == "original",
        "columns": ", ".join(f"`{name}`" for name in SHARD_SCHEMA.names if name != "caption"),
        "held_out": sum(shard.pairs for shard in manifest.held_out.values()),
        "steps": funnel.steps,
        "seen": funnel.steps[0].seen if funnel.steps else 0,
        "failed": sum(step.dropped.get(FETCH_FAILED, 0) for step in funnel.steps),
        "broken": broken.broken if isinstance(broken, BrokenInput) else 0,
        "near": near if isinstance(near, NearDuplicates) else None,
        "sources": sources(manifest),
        "unfiltered": unfiltered(manifest, text_only, earlier),
        "days": crawl_days(funnel),
        "fetched": fetch_span(manifest),
        "heeded": heeded(manifest, earlier),
        "evaluated": [] if text_only else earlier_evaluation(earlier),
        "fetched_before": "" if text_only else earlier_fetch_span(earlier),
        "opt_outs": opt_outs(funnel),
        "contact": contact(manifest),
        "private": bool(manifest.fetch["allow_private_addresses"]),
        "retries": len(manifest.retries or []),
    }
