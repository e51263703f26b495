"""The datasheet of a set: what the run can answer is answered, the rest is marked for a person."""

from __future__ import annotations

import re
from collections.abc import Callable

from alignset.pipeline.documents.wording import Earlier, common_facts, template
from alignset.pipeline.runs.documents import BrokenInput, Funnel, Manifest
from alignset.transforms.rules.given import FETCH_FAILED
from alignset.transforms.shards.shard_documents import NearDuplicates
from alignset.transforms.shards.shard_files import SHARD_SCHEMA

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


def datasheet(manifest: Manifest, funnel: Funnel, earlier: Earlier) -> str:
    """The text of the datasheet, in Markdown.

    Args:
      manifest, funnel, earlier: as of `common_facts`.
    """
    near, broken = funnel.near_duplicates, funnel.broken_input
    facts = common_facts(manifest, funnel, earlier) | {
        "mark": TO_BE_FILLED,
        "original": manifest.resize["resize_mode"] == "original",
        "columns": ", ".join(f"`{name}`" for name in SHARD_SCHEMA.names if name != "caption"),
        "steps": funnel.steps,
        "seen": funnel.steps[0].seen if funnel.steps else 0,
        "failed": sum(step.dropped.get(FETCH_FAILED, 0) for step in funnel.steps),
        "broken": broken.broken if isinstance(broken, BrokenInput) else 0,
        "near": near if isinstance(near, NearDuplicates) else None,
        "private": bool(manifest.fetch["allow_private_addresses"]),
        "retries": len(manifest.retries or []),
    }
    counts = _Questions()
    sheet = template("datasheet.j2")
    sheet.render(facts, question=counts, counts=counts)  # the head of the sheet tells how many
    return f"{sheet.render(facts, question=_Questions(), counts=counts)}\n"
