"""Facts about a dataset, or a run that is under way, for its report: documents, counts, numbers,
and what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TypeVar

from alignset.pipeline.datasets.funnel import funnel
from alignset.pipeline.datasets.numbers import PairCounts, count_pairs
from alignset.pipeline.datasets.page_numbers import Judging, Numbers, read_numbers
from alignset.pipeline.datasets.set_files import SetFiles, find_own_set, find_set
from alignset.pipeline.errors import UsageError
from alignset.pipeline.runs.documents import Funnel, Manifest, RunDescription, Step
from alignset.pipeline.runs.work_folder import TextSummary, WorkFolder
from alignset.pipeline.shown_texts import counted
from alignset.transforms.rules.given import FETCH_FAILED
from alignset.transforms.rules.rule import IMAGES, TEXTS
from alignset.transforms.rules.rule_settings import RuleSettings
from alignset.transforms.shards.shard_stats import ShardStats
from alignset.transforms.storage.documents import (
    Counts,
    DocumentError,
    find_document,
    readable_document,
)
from alignset.transforms.storage.files import exists, match
from alignset.transforms.workers.threads import map_in_threads

Document = TypeVar("Document")
_MOST_TOLD = 5  # of files that cannot be read


@dataclass
class Facts(Judging):
    """The data of a report.

    Attributes:
      out: the dataset's folder, as it was given. counts: of its rows.
      steps: of the funnel. waiting: pairs that no shard has yet.
      stats: of its shards that are whole, by path. planned_shards: of how many.
      language: that is kept.
      details: of all pairs that were dropped, by stage and reason, then by detail.
      notes: what is missing, or counted otherwise, in whole sentences.
    """

    out: str
    counts: PairCounts = field(default_factory=PairCounts)
    numbers: Numbers = field(default_factory=Numbers)
    steps: list[Step] = field(default_factory=list)
    waiting: int = 0
    stats: dict[str, ShardStats | None] = field(default_factory=dict)
    planned_shards: int = 0
    language: str = ""
    details: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    funnel: Funnel | None = None

    @property
    def kept(self) -> int:
        """How many pairs are in the dataset."""
        return self.funnel.pairs if self.funnel else self.counts.pairs

    @property
    def seen(self) -> int:
        """How many pairs there were."""
        return max((step.seen for step in self.steps), default=0)

    def find(self, name: str, kind: type[Document]) -> Document | None:
        """A document of the dataset; a note tells where it cannot be read."""
        try:
            return find_document(f"{self.out}/{name}", kind)
        except (DocumentError, OSError) as error:
            why = str(error).replace(f"{self.out}/", "").removeprefix(f"{name} ")
            self.notes.append(f"{name} cannot be read, and what it tells is missing: {why[:300]}.")
            return None


def find_facts(out: str, counts: PairCounts | None = None) -> Facts:
    """All facts about a dataset.

    Args:
      counts: of its files, where they are known.

    Raises:
      UsageError: there is no such folder, or nothing in it belongs to a dataset.
    """
    facts = count_facts(out, counts)
    paths = [*facts.files.kept_files, *facts.files.rejected_files]
    rows = facts.counts.pairs + facts.counts.rejected_rows
    facts.numbers = read_numbers(paths, facts, rows)
    if facts.numbers.every > 1:
        facts.notes.append(
            f"One of {facts.numbers.every:,} files was read for histograms, examples, hosts and "
            "other thresholds; the funnel counts all pairs."
        )
    if not facts.names_all:
        facts.notes.append(
            "An earlier version wrote rejected/, whose rows name one reason alone. Counts of other "
            "thresholds of texts are too high where further rules apply."
        )
    return facts


def count_facts(out: str, counts: PairCounts | None = None) -> Facts:
    """The same without the numbers of histograms, thresholds and examples."""
    facts = describe_rules(out)
    facts.counts = counts or count_pairs(out, files=facts.files, skip_broken=True)
    files = [path for name in ("shards", "holdout") for path, _ in match(f"{facts.out}/{name}")]
    stats = [path for path in files if path.endswith("_stats.json")]
    documents = map_in_threads(lambda path: readable_document(path, ShardStats), stats)
    facts.stats = dict(zip(stats, documents, strict=True))
    facts.planned_shards = len(stats)
    for stage, reasons in facts.counts.dropped.items():
        facts.details |= {(stage, reason): of for reason, of in reasons.items()}
    if facts.state == "finished":
        facts.funnel = facts.find("funnel.json", Funnel)
    if facts.funnel is None:
        _count_steps(facts)
    else:
        facts.steps = facts.funnel.steps
        if facts.funnel.fetch.failed:
            facts.details[IMAGES, FETCH_FAILED] = dict(facts.funnel.fetch.details)
    facts.notes += _what_is_missing(facts)
    return facts


def describe_rules(out: str) -> Facts:
    """Facts about a dataset's files and rules alone: nothing is counted.

    Raises:
      UsageError: there is no such folder, or nothing in it belongs to a dataset.
    """
    out = out.rstrip("/") or out
    files, facts = find_own_set(out), Facts(out)
    facts.state = "finished" if exists(f"{out}/manifest.json") else "under way"
    manifest = facts.find("manifest.json", Manifest)
    facts.run = run = manifest or facts.find(WorkFolder("_temporary").description, RunDescription)
    if run is None and files is None:
        above, _, name = (out if "/" in out else f"./{out}").rpartition("/")
        if name in ("shards", "holdout", "rejected") and exists(f"{above}/manifest.json"):
            raise UsageError(f"{out!r} is a folder of the dataset {above!r}: pass that one")
        files = find_set(out)
    facts.files = files or SetFiles(out, [], [])
    if facts.files.folder:
        facts.state, facts.catalogue = "foreign", facts.files.folder.catalogue
    if run is not None:
        facts.catalogue = run.catalogue
        facts.language = str(run.rules.get("language", ""))
        facts.text_only = bool(run.job.get("text_only"))
        names = {
            rule.name for rule in facts.catalogue.rules
        } | RuleSettings.__dataclass_fields__.keys()
        for name, value in run.rules.items():
            if name in names and isinstance(value, int | float) and abs(value) <= 1e15:
                facts.rules[name] = float(value)
    return facts


def _count_steps(facts: Facts) -> None:
    """The funnel by the rows that are there, such as in a run that has not ended."""
    counts, text = facts.counts, facts.find(WorkFolder("_temporary").text_summary, TextSummary)
    dropped, images = counts.reasons(TEXTS), counts.reasons(IMAGES)
    passed = counts.pairs + sum(images.values())
    of_texts = text.counts if text else Counts(passed + sum(dropped.values()), passed, dropped)
    stages = of_texts.dropped, None if facts.text_only else images
    facts.steps = funnel(of_texts.seen, *stages, catalogue=facts.catalogue)
    if facts.state == "under way" and not facts.text_only:
        facts.waiting = max(0, of_texts.kept - passed)
        facts.planned_shards = len(text.shards) if text else len(facts.stats)
    if facts.state == "foreign":
        facts.stats = dict.fromkeys(facts.files.kept_files)
        facts.planned_shards = len(facts.stats)
        dropping = [step for step in facts.steps if step.kept < step.seen]
        # Where nothing was dropped, any of our steps would say something of a run that was none.
        facts.steps = dropping or [replace(step, step="images") for step in facts.steps[-1:]]


def _what_is_missing(facts: Facts) -> Iterator[str]:
    faults = [why.replace(f"{facts.out}/", "") for why in facts.counts.faults]
    yield from (f"A file is left out: {why}." for why in faults[:_MOST_TOLD])
    if len(faults) > _MOST_TOLD:
        yield f"{len(faults) - _MOST_TOLD:,} more files cannot be read."
    rows = facts.counts.pairs + facts.counts.rejected_rows
    if facts.files.folder:
        yield from facts.files.folder.notes
    elif facts.state == "under way" and not facts.text_only:
        written, planned = len(facts.stats), facts.planned_shards
        of = f"{written:,} of " if written != planned else ""
        whose = f"{of}{counted(planned, 'shard')}" if planned else "texts so far"
        yield f"The run has not ended: the counts are of {whose}."
    elif facts.state == "finished" and facts.funnel is None:
        yield "The run has ended, but its funnel.json tells nothing: rows are counted instead."
    elif rows < facts.seen:
        yield (
            f"{facts.seen - rows:,} of {facts.seen:,} pairs have no row in rejected/. Histograms, "
            "examples and other thresholds are of the others."
        )
