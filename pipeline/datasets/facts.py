"""Facts about a dataset, or a run that is under way: its counts, its rules, its shards' records,
and what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from msgspec import UNSET, UnsetType

from alignset.pipeline.datasets.copy_groups import PICTURES, CopyPictures, GroupPicture
from alignset.pipeline.datasets.funnel import funnel
from alignset.pipeline.datasets.set_records import SetRecords, read_records
from alignset.pipeline.errors import UsageError
from alignset.pipeline.rules import Rules
from alignset.pipeline.runs.documents import Funnel, Manifest, RunDescription, Step
from alignset.pipeline.runs.work_folder import TextSummary, WorkFolder
from alignset.pipeline.shown_texts import counted
from alignset.transforms.columns.records import KEPT
from alignset.transforms.rules.catalogue import PRODUCT, Catalogue
from alignset.transforms.rules.given import FETCH_FAILED, LESS_SIMILAR
from alignset.transforms.rules.rule import IMAGES, TEXTS
from alignset.transforms.shards.shard_stats import MOST_GROUPS, NearDuplicates, SharedContents
from alignset.transforms.storage.documents import DocumentError, find_document
from alignset.transforms.storage.files import exists, is_local, match
from alignset.transforms.workers.counts import Counts

Document = TypeVar("Document")
Numbers = dict[str, float]
_MOST_TOLD = 5  # of records that cannot be read


@dataclass
class Facts:
    """The data of a report.

    Attributes:
      out: the dataset's folder, as it was given. state: finished, under way, or foreign.
      steps: of the funnel. waiting: pairs that no shard has yet.
      kept: pairs in the dataset. shards: how many are whole; planned_shards: of how many.
      rules: those that are numbers, by name. language: that is kept.
      details: of all pairs that were dropped, by stage and reason, then by detail.
      notes: what is missing, or counted otherwise, in whole sentences.
      copies, near: of its images, where that was counted.
      catalogue: the rules of the dataset, of users too.
    """

    out: str
    state: str = "finished"
    steps: list[Step] = field(default_factory=list)
    waiting: int = 0
    kept: int = 0
    shards: int = 0
    planned_shards: int = 0
    rules: Numbers = field(default_factory=dict)
    language: str = ""
    text_only: bool = False
    details: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    records: SetRecords = field(default_factory=SetRecords)
    copies: SharedContents | UnsetType = UNSET
    near: NearDuplicates | UnsetType = UNSET
    funnel: Funnel | None = None
    run: RunDescription | None = None
    catalogue: Catalogue = PRODUCT

    @property
    def seen(self) -> int:
        """How many pairs there were; of a dataset whose texts recorded nothing, of its shards."""
        return max((step.seen for step in self.steps), default=0)

    @property
    def dropped(self) -> dict[str, int]:
        """How many pairs were dropped for each reason, by either stage, the most first."""
        total: Counter[str] = Counter()
        for step in self.steps:
            total.update(step.dropped)
        items = [(reason, n) for reason, n in total.items() if n]
        return dict(sorted(items, key=lambda item: (-item[1], item[0])))

    @property
    def copy_groups(self) -> list[GroupPicture]:
        """The largest groups of images with the same bytes; none where a part of the pairs was
        kept since they were counted."""
        if self.dropped.get(LESS_SIMILAR.reason):
            return []
        pictures = self.find(PICTURES, CopyPictures)
        return pictures.groups[:MOST_GROUPS] if pictures else []

    def find(self, name: str, kind: type[Document]) -> Document | None:
        """A document of the dataset; of one that cannot be read there is a note."""
        try:
            return find_document(f"{self.out}/{name}", kind)
        except (DocumentError, OSError) as error:
            why = str(error).replace(f"{self.out}/", "").removeprefix(f"{name} ")
            self.notes.append(f"{name} cannot be read, and what it tells is missing: {why[:300]}.")
            return None


def find_facts(out: str) -> Facts:
    """Facts about a dataset.

    Raises:
      UsageError: there is no such folder, or nothing in it belongs to a dataset.
    """
    out = out.rstrip("/") or out
    if is_local(out) and not Path(out).is_dir():
        raise UsageError(f"there is no folder {out!r}: pass the --output of a run")
    facts = Facts(out)
    facts.state = "finished" if exists(f"{out}/manifest.json") else "under way"
    manifest = facts.find("manifest.json", Manifest)
    work = WorkFolder("_temporary")
    run = manifest or facts.find(work.description, RunDescription)
    stats = [path for name in ("shards", "holdout") for path in _stats(f"{out}/{name}")]
    if run is None and not stats and not match(f"{out}/rejected"):
        above, _, name = (out if "/" in out else f"./{out}").rpartition("/")
        if name in ("shards", "holdout", "rejected") and exists(f"{above}/manifest.json"):
            raise UsageError(f"{out!r} is a folder of the dataset {above!r}: pass that one")
        if foreign := _foreign_facts(out):
            return foreign
        raise UsageError(
            f"{out!r} is not a dataset, or its run has written nothing yet: it has no "
            "manifest.json, "
            "shards/ or rejected/; pass the --output of a run, or a folder of shards"
        )
    facts.shards = facts.planned_shards = len(stats)
    _tell_rules(facts, run)
    facts.records = read_records(out, facts.rules, facts.catalogue)
    is_finished = facts.state == "finished"
    facts.funnel = facts.find("funnel.json", Funnel) if is_finished else None
    if facts.funnel is not None:
        facts.steps, facts.kept = facts.funnel.steps, facts.funnel.pairs
        facts.copies, facts.near = facts.funnel.copies, facts.funnel.near_duplicates
    else:
        _count_by_records(facts, facts.find(work.text_summary, TextSummary))
    _tell_details(facts)
    facts.notes += _what_is_missing(facts, manifest)
    return facts


def _tell_rules(facts: Facts, run: RunDescription | None) -> None:
    if run is None:
        return
    facts.catalogue = run.catalogue
    names = {rule.name for rule in facts.catalogue.rules} | Rules.__dataclass_fields__.keys()
    facts.run, facts.language = run, str(run.rules.get("language", ""))
    facts.text_only = bool(run.job.get("text_only"))
    for name, value in run.rules.items():
        if name in names and isinstance(value, int | float) and abs(value) <= 1e15:
            facts.rules[name] = float(value)


def _count_by_records(facts: Facts, text: TextSummary | None) -> None:
    """The funnel by what splits and shards recorded: of a run that has not ended, for one."""
    texts, images = facts.records.texts.whole, facts.records.images.whole
    counts = text.counts if text else _counts(texts.pairs, texts.kept, texts.outcomes)
    of_images = _counts(images.pairs, images.kept, images.outcomes)
    stages = counts.dropped, None if facts.text_only else of_images.dropped
    facts.steps = funnel(counts.seen, *stages, catalogue=facts.catalogue)
    if facts.text_only:
        facts.kept = counts.kept
        return
    facts.kept = of_images.kept
    if facts.state == "under way":
        facts.waiting = max(0, counts.kept - of_images.seen)
        facts.planned_shards = len(text.shards) if text else 0


def _counts(pairs: int, kept_pairs: int, outcomes: Mapping[str, Mapping[str, int]]) -> Counts:
    drop_counts = {name: sum(n.values()) for name, n in outcomes.items() if name != KEPT}
    return Counts(pairs, kept_pairs, drop_counts)


def _tell_details(facts: Facts) -> None:
    """The details of each outcome; of fetches by the funnel, which counts a retried one once."""
    planes = ((TEXTS, facts.records.texts.whole), (IMAGES, facts.records.images.whole))
    facts.details = {
        (plane, name): dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
        for plane, whole in planes
        for name, counts in whole.outcomes.items()
        if name != KEPT
    }
    if facts.funnel is not None and facts.funnel.fetch.failed:
        facts.details[IMAGES, FETCH_FAILED] = dict(facts.funnel.fetch.details)


def _what_is_missing(facts: Facts, manifest: Manifest | None) -> list[str]:
    faults = facts.records.faults
    notes = [f"A record cannot be read and is left out: {why}." for why in faults[:_MOST_TOLD]]
    if len(faults) > _MOST_TOLD:
        notes.append(f"{len(faults) - _MOST_TOLD:,} more records cannot be read.")
    notes += _how_far(facts) if facts.state == "under way" else _what_is_of_others(facts)
    if manifest is not None and not isinstance(manifest.takedowns, UnsetType):
        notes.append(
            "Pairs were taken down since the run. The funnel tells of them; histograms, other "
            "thresholds and the largest hosts still count them. None of them is shown."
        )
    if manifest is not None and not isinstance(manifest.deduplications, UnsetType):
        notes.append(
            "Copies left since the run. The funnel tells of them; histograms and other thresholds "
            "still count them."
        )
    if manifest is not None and not isinstance(manifest.retries, UnsetType):
        notes.append(
            "Failed fetches were tried again. The table of hosts counts first tries too; the "
            "funnel counts each pair once."
        )
    return notes


def _how_far(facts: Facts) -> list[str]:
    """How much of a run that has not ended is counted."""
    if facts.text_only:
        return []
    if not facts.planned_shards and not facts.shards:
        return ["The text rules have not ended: the counts are of the splits that are done."]
    of = f"{facts.shards:,} of " if facts.planned_shards else ""
    shards = counted(facts.planned_shards or facts.shards, "shard")
    return [f"The run has not ended: the counts are of {of}{shards}."]


def _what_is_of_others(facts: Facts) -> list[str]:
    """Parts of a finished dataset without records."""
    notes = []
    if facts.funnel is None:
        notes.append(
            "The run has ended, but its funnel.json tells nothing: the counts are of what its "
            "splits and shards recorded."
        )
    elif not facts.records.texts.records and facts.seen:
        notes.append(
            "The text rules recorded nothing that can be read: there are no histograms, examples "
            "or other thresholds of texts that were dropped."
        )
    broken_count = sum(not name.startswith("text-") for name in facts.records.faults)
    missing = facts.shards - facts.records.images.records - broken_count
    if missing > 0:
        notes.append(
            f"{missing:,} of {facts.shards:,} shards recorded nothing for a report, as older "
            "versions do not. Histograms, examples and other thresholds are of the others."
        )
    return notes


def _foreign_facts(out: str) -> Facts | None:
    """Facts about a folder of another tool; None where it has no shards."""
    # Its images are decoded here; our own datasets have recorded what theirs are.
    from alignset.pipeline.datasets.folders import find_folder_copies, read_folder

    folder = read_folder(out)
    if folder is None:
        return None
    facts = Facts(folder.place, "foreign", shards=len(folder.shards), planned_shards=folder.of)
    facts.catalogue, facts.notes = folder.catalogue, [*folder.notes]
    facts.records = read_records(folder.place, {}, facts.catalogue)
    _count_by_records(facts, None)
    dropping = [step for step in facts.steps if step.kept < step.seen]
    # Where nothing was dropped, any of our steps would say something of a run that was none.
    facts.steps = dropping or [replace(step, step="images") for step in facts.steps[-1:]]
    facts.copies, facts.near = find_folder_copies(folder)
    _tell_details(facts)
    return facts


def _stats(folder: str) -> list[str]:
    return [path for path, _ in match(folder) if path.endswith("_stats.json")]
