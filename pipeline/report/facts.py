"""What is known of a set, of a run that is under way too: its counts, its rules, what its shards
recorded, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from msgspec import UnsetType

from pipeline.job import Job
from pipeline.options import UsageError
from pipeline.report.foreign_sets import find_foreign, is_foreign
from pipeline.report.funnel import funnel as steps_of
from pipeline.report.set_records import SetRecords, read_records
from pipeline.rules import Rules
from pipeline.runs.documents import Funnel, Manifest, RunDescription, Step
from pipeline.runs.work_folder import TextSummary, WorkFolder
from transforms.columns.reasons import FETCH_FAILED, IMAGE_STEPS, TEXT_STEPS
from transforms.columns.records import KEPT
from transforms.storage.documents import DocumentError, find_document
from transforms.storage.files import is_local
from transforms.storage.matching import match
from transforms.workers.summaries import Counts

Document = TypeVar("Document")
Numbers = dict[str, float]
RULES = tuple(Rules.__dataclass_fields__)
_TEXT_REASONS = {reason for reasons in TEXT_STEPS.values() for reason in reasons}


@dataclass
class Facts:
    """What the report is made of.

    Attributes:
      out: the set's folder, as it was given. state: finished, under way, or foreign.
      steps: of the funnel. waiting: pairs that no shard has yet.
      kept: pairs in the set. shards: how many are whole; planned: of how many.
      rules: those that are numbers, by name. language: that is kept.
      details: by outcome and detail, of all pairs.
      notes: what is missing, or counted otherwise, in whole sentences.
    """

    out: str
    state: str = "finished"
    steps: list[Step] = field(default_factory=list)
    waiting: int = 0
    kept: int = 0
    shards: int = 0
    planned: int = 0
    rules: Numbers = field(default_factory=dict)
    language: str = ""
    text_only: bool = False
    details: dict[str, dict[str, int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    records: SetRecords = field(default_factory=SetRecords)
    funnel: Funnel | None = None
    run: RunDescription | None = None

    @property
    def seen(self) -> int:
        """How many pairs there were; of a set whose texts recorded nothing, of its shards."""
        return max((step.seen for step in self.steps), default=0)

    @property
    def dropped(self) -> dict[str, int]:
        """How many pairs were dropped for each reason that was given, the most first."""
        items = [(reason, n) for step in self.steps for reason, n in step.dropped.items() if n]
        return dict(sorted(items, key=lambda item: (-item[1], item[0])))


def find_facts(out: str) -> Facts:
    """What is known of a set.

    Raises:
      UsageError: there is no such folder, or nothing in it is a set's.
    """
    out = out.rstrip("/") or out
    if is_local(out) and not Path(out).is_dir():
        raise UsageError(f"there is no folder {out!r}: give the --output of a run")
    manifest = _find(f"{out}/manifest.json", Manifest)
    work = WorkFolder(f"{out}/_temporary")
    run = manifest or _find(work.description, RunDescription)
    stats = [path for name in ("shards", "holdout") for path in _stats(f"{out}/{name}")]
    if run is None and not stats and not match(f"{out}/rejected"):
        if is_foreign(out):
            return _foreign_facts(out)
        raise UsageError(
            f"{out!r} is no set, or its run has written nothing yet: it has no manifest.json, "
            "shards/ or rejected/; give the --output of a run"
        )
    facts = Facts(out, run=run, shards=len(stats))
    if run is not None:
        numbers = {n: v for n, v in run.rules.items() if isinstance(v, int | float) and n in RULES}
        facts.rules = {name: float(value) for name, value in numbers.items()}
        facts.language = str(run.rules.get("language", ""))
        facts.text_only = bool(run.job.get("text_only"))
    facts.records = read_records(out, facts.rules)
    facts.funnel = _find(f"{out}/funnel.json", Funnel) if manifest else None
    if facts.funnel is not None:
        facts.steps, facts.kept = facts.funnel.steps, facts.funnel.pairs
        facts.planned = facts.shards
    else:
        _count_so_far(facts, _find(work.text_summary, TextSummary))
    _tell_details(facts)
    facts.notes += _what_is_missing(facts, manifest)
    return facts


def _count_so_far(facts: Facts, text: TextSummary | None) -> None:
    """The funnel of a run that has not ended, by what its splits and shards recorded."""
    facts.state = "under way"
    texts, images = facts.records.texts.whole, facts.records.images.whole
    counts = text.counts if text else _counts(texts.pairs, texts.kept, texts.outcomes)
    of_images = _counts(images.pairs, images.kept, images.outcomes)
    facts.steps = steps_of(counts, TEXT_STEPS)
    if facts.text_only:
        facts.kept = counts.kept
        return
    facts.steps += steps_of(of_images, IMAGE_STEPS)
    facts.kept = of_images.kept
    facts.waiting = max(0, counts.kept - of_images.seen)
    facts.planned = len(text.shards) if text else 0


def _counts(pairs: int, kept: int, outcomes: Mapping[str, Mapping[str, int]]) -> Counts:
    dropped = {name: sum(n.values()) for name, n in outcomes.items() if name != KEPT}
    return Counts(pairs, kept, dropped)


def _tell_details(facts: Facts) -> None:
    """The details of each outcome; of fetches by the funnel, which counts a retried one once."""
    texts, images = facts.records.texts.whole.outcomes, facts.records.images.whole.outcomes
    facts.details = {
        name: dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
        for name, counts in [*texts.items(), *images.items()]
        if name != KEPT
    }
    if facts.funnel is not None and facts.funnel.fetch.failed:
        facts.details[FETCH_FAILED] = dict(facts.funnel.fetch.details)


def _what_is_missing(facts: Facts, manifest: Manifest | None) -> list[str]:
    notes = [f"A record cannot be read and is left out: {why}." for why in facts.records.broken[:5]]
    if facts.state == "under way":
        if not facts.planned and not facts.text_only and not facts.shards:
            notes.append(
                "The text rules have not ended: the counts are of the splits that are done."
            )
        elif not facts.text_only:
            of = f"{facts.shards:,} of {facts.planned:,}" if facts.planned else f"{facts.shards:,}"
            notes.append(f"The run has not ended: the counts are of {of} shards.")
    recorded = facts.records.images.records
    if recorded < facts.shards:
        notes.append(
            f"{facts.shards - recorded:,} of {facts.shards:,} shards recorded nothing for a "
            "report: an older version wrote them. Histograms, examples and other thresholds are "
            "of the others."
        )
    if manifest is not None and not isinstance(manifest.takedowns, UnsetType):
        notes.append(
            "Pairs were taken down since the run. The funnel tells of them; histograms, other "
            "thresholds and the largest hosts still count them. None of them is shown."
        )
    if manifest is not None and not isinstance(manifest.retries, UnsetType):
        notes.append(
            "Failed fetches were tried again. The table of hosts counts first tries too; the "
            "funnel counts each pair once."
        )
    return notes


def _foreign_facts(out: str) -> Facts:
    foreign = find_foreign(out)
    facts = Facts(out, "foreign", shards=foreign.shards, planned=foreign.shards)
    facts.steps, facts.kept, facts.details = foreign.steps, foreign.kept, foreign.details
    facts.records, facts.notes = foreign.records, foreign.notes
    return facts


def _stats(folder: str) -> list[str]:
    return [path for path, _ in match(folder) if path.endswith("_stats.json")]


def _find(path: str, kind: type[Document]) -> Document | None:
    try:
        return find_document(path, kind)
    except DocumentError:
        return None


def needs_holdout(run: RunDescription | None) -> bool:
    """Whether a set holds pairs out, which an `--input` reads with `--holdout` alone."""
    return bool(run and run.job.get("holdout", Job.__dataclass_fields__["holdout"].default))
