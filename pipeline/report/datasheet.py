"""The datasheet of a set: what the run can answer is answered, the rest is marked for a person."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import jinja2

from alignset.pipeline.report.contents import as_code
from alignset.pipeline.report.datasheet_text import SECTIONS, Question
from alignset.pipeline.report.earlier_rules import Earlier, earlier_evaluation
from alignset.pipeline.report.wording import (
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
from alignset.pipeline.shown_texts import counted
from alignset.transforms.rules.given import FETCH_FAILED
from alignset.transforms.shards.shard_documents import NearDuplicates
from alignset.transforms.shards.shard_files import SHARD_SCHEMA

TO_BE_FILLED = "**To be filled by a person**"
_HEAD = """\
# Datasheet of {{ pairs }} image and alt-text pairs

These are the questions of *Datasheets for Datasets* (Gebru et al., 2021), in alignset's words.
The run has answered {{ answered }} of {{ questions }} questions, {{ partly }} of them in part.
What it cannot know is marked {{ mark }}; whoever publishes the set fills it in.
"""
_SHEETS = jinja2.Environment(autoescape=False, undefined=jinja2.StrictUndefined)


def datasheet(manifest: Manifest, funnel: Funnel, earlier: Earlier | None = None) -> str:
    """The text of the datasheet, in Markdown.

    Args:
      earlier: the manifests of the sets that it was made of, by where they are.
    """
    facts = _facts(manifest, funnel, earlier or {})

    def rendered(template: str) -> str:
        return _compiled(template).render(facts).strip()

    answers = [
        (section, question, rendered(question.answer), rendered(question.person))
        for section, questions in SECTIONS.items()
        for question in questions
    ]
    answered = [person for _, _, answer, person in answers if answer]
    head = _compiled(_HEAD).render(
        pairs=f"{manifest.pairs:,}",
        answered=len(answered),
        partly=len([*filter(None, answered)]),
        questions=len(answers),
        mark=TO_BE_FILLED,
    )
    return "\n".join([head, *_lines(answers), ""])


@cache
def _compiled(template: str) -> jinja2.Template:
    return _SHEETS.from_string(template)


def _lines(answers: list[tuple[str, Question, str, str]]) -> Iterator[str]:
    last = ""
    for section, question, answer, person in answers:
        if section != last:
            yield f"\n## {section}"
            last = section
        yield f"\n**{question.asked}**\n"
        if answer:
            yield answer
        if answer and person:
            yield ""
        if person or not answer:
            yield f"{TO_BE_FILLED}{f': {person}' if person else ''}."


def _facts(manifest: Manifest, funnel: Funnel, earlier: Earlier) -> dict[str, Any]:
    """What the answers are made of."""
    text_only = bool(manifest.job["text_only"])
    near, broken = funnel.near_duplicates, funnel.broken_input
    return {
        "manifest": manifest,
        "n": "{:,}".format,
        "counted": counted,
        "code": as_code,
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
