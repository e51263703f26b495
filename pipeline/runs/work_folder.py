"""Files in the work folder of a run, `_temporary/`, which is removed at its end."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from alignset.pipeline.errors import UsageError
from alignset.pipeline.runs.documents import Manifest
from alignset.pipeline.runs.run_lock import LOCK
from alignset.transforms.corpus.corpus_documents import CountSpread, HashFile, VocabularySummary
from alignset.transforms.decontamination.overlap_settings import EvaluationSet
from alignset.transforms.pages.page_counts import PageCounts
from alignset.transforms.shards.shard_stats import Asked, Copies
from alignset.transforms.storage.broken_files import BrokenFiles
from alignset.transforms.storage.documents import (
    Counts,
    find_document,
    read_document,
    readable_document,
)
from alignset.transforms.storage.files import exists, is_local, match, remove, remove_leftovers
from alignset.transforms.storage.stores import remove_remote
from alignset.transforms.workers.attempts import ATTEMPTS, WINNERS

LOG = logging.getLogger("alignset")
CHANGE = "change.json"
RECHECKED = "recheck.parquet"  # in a dataset: what `recheck` found, until the dataset changes
OF_EARLIER_VERSIONS = ("base.json", "takedown.json", "deduplicate.json")


@dataclass(frozen=True)
class PageSummary:
    """`pages.json`: what was counted where pages were parsed."""

    counts: PageCounts


@dataclass(frozen=True)
class TextSummary:
    """`text.json`: what the text stage has made.

    Attributes:
      rows_read: by the first reading; `counts` are by the second.
      shards: how many pairs each planned shard has, by its number.
      vocabulary_file: the run's, or the one that was passed.
      stored: how many of their pairs have an image in a shard of the input.
      broken: the input files that cannot be read to their end.
      images_per_text, texts_per_image: how many texts and images have which number of them.
    """

    rows_read: int
    counts: Counts
    vocabulary: VocabularySummary = field(default_factory=VocabularySummary)
    vocabulary_file: HashFile | None = None
    shards: dict[int, int] = field(default_factory=dict)
    broken: BrokenFiles = field(default_factory=BrokenFiles)
    images_per_text: CountSpread = field(default_factory=CountSpread)
    texts_per_image: CountSpread = field(default_factory=CountSpread)
    stored: int = 0


@dataclass(frozen=True)
class ImageSummary:
    """`images.json`: what the image stage has made.

    Attributes:
      evaluation_images: the evaluation sets, by name. evaluation_index: the place of their index,
        or "".
      connections: that a worker had open at once, at most. limits: at the end of how many shards
        each thing limited them.
      copies: what leaves since its image is there twice; it is taken out afterwards.
    """

    evaluation_images: dict[str, EvaluationSet]
    evaluation_index: str = ""
    copies: Copies = field(default_factory=Copies)
    connections: int = 0
    limits: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """`change.json`: a change of a finished dataset that has not ended. It is written before the
    first file of the dataset changes, and the same command resumes.

    Attributes:
      command: "takedown", "recheck" or "deduplicate".
      words: its flags that decide what changes; a command with others does not resume it.
      manifest: of the dataset as it will be, with the entry of this change; its shards are those
        before it.
    """

    command: str
    words: list[str]
    manifest: Manifest


class WorkFolder:
    """Files in a run's work folder, `_temporary/`, which is removed at its end.

    Args:
      path: of the folder, as all workers find it.

    Attributes:
      plan, blocklists, pages: folders of the pairs of each shard, of the compiled blocklists, and
        of what pages were parsed to.
      attempts: the folder of all attempts at shards and at parts of evaluation images.
      removed_before: the keys of the pairs that were taken down from datasets of the input.
      descriptors: of the images to train on. leaving: what leaves, as `leaving_pairs.py` has it.
      ranking, rewritten: say that pairs are ranked by similarity, and files are rewritten.
      scratch: a folder on the disk of a local output; None: the system's own.
    """

    def __init__(self, path: str) -> None:
        self.path, self.scratch = path, path if is_local(path) else None
        self.plan, self.blocklists, self.pages = (
            f"{path}/{name}" for name in ("plan", "blocklists", "pages")
        )
        self.description, self.change = f"{path}/run.json", f"{path}/{CHANGE}"
        self.leaving, self.attempts = f"{path}/leaving", f"{path}/{ATTEMPTS}"
        self.ranking = f"{path}/ranking.json"
        self.removed_before = f"{path}/removed_before.u64"
        self.page_summary = f"{path}/pages.json"
        self.text_summary, self.image_summary = f"{path}/text.json", f"{path}/images.json"
        self.descriptors = f"{path}/descriptors"
        self.found_copies, self.rewritten = f"{path}/found.json", f"{path}/rewritten.json"

    def find_change(
        self, out: str, command: str, words: Sequence[str], then: str = "and then run this"
    ) -> Change | None:
        """Finds the change of a finished dataset that this command resumes; None where there is
        none.

        Args:
          out: the dataset. words: as in `Change`. then: what to do after another command.

        Raises:
          UsageError: another command was stopped, or the same with other words.
        """
        for name in OF_EARLIER_VERSIONS:
            if exists(f"{self.path}/{name}"):
                raise UsageError(
                    f"a command of an earlier version of alignset was stopped in {out}; resume it "
                    f"with that version, {then}"
                )
        change = find_document(self.change, Change)
        if change and (change.command, change.words) != (command, [*words]):
            whole = " ".join([change.command, *change.words])
            raise UsageError(
                f"alignset {whole} was stopped on {out}; run it again as it was, {then}"
            )
        return change

    def refuse_stopped(self, out: str, then: str = "and then run this") -> None:
        """Raises UsageError where a command on a finished dataset was stopped."""
        self.find_change(out, "", [], then)

    def tell_takedown(self, out: str) -> None:
        """Logs that a takedown of a dataset was stopped: pairs that leave may still be there."""
        path = next(filter(exists, (self.change, f"{self.path}/takedown.json")), "")  # until 0.2
        change = readable_document(self.change, Change)  # None: of another version, or none
        if path and (change is None or change.command != "deduplicate"):
            LOG.warning(
                "a takedown of %s was stopped: what is shown may hold pairs that leave; resume it",
                out,
            )

    def find_pages(self) -> PageSummary | None:
        """Counts of pages; None where they are not parsed, or there were none."""
        return find_document(self.page_summary, PageSummary)

    def find_text(self) -> TextSummary | None:
        """Results of the text stage; None where it has not ended."""
        return find_document(self.text_summary, TextSummary)

    def asked(self) -> Asked:
        """How many images came, and how many another dataset knew."""
        parts = [read_document(path, Asked) for path, _ in match(f"{self.path}/asked")]
        return Asked(sum(of.fetched for of in parts), sum(of.known for of in parts))

    def find_images(self) -> ImageSummary | None:
        """Results of the image stage; None where it has not ended."""
        return find_document(self.image_summary, ImageSummary)

    def clear(self) -> None:
        """Removes all but the lock: first the file that a command would resume from, and attempts
        before what says which of them are published."""
        remove(self.change)
        if self.scratch:
            own = [] if Path(self.attempts).is_symlink() else Path(self.attempts).glob("*-*")
            for path in (*own, *Path(self.path).glob("*")):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                elif path.name != LOCK:
                    path.unlink(missing_ok=True)
            return
        # A folder's own list leaves out what begins in _, as the lock does. Attempts are listed
        # when the plans are gone, without which none begins.
        paths = [path for path, _ in match(f"{self.path}/")]
        remove_remote([path for path in paths if not path.startswith(f"{self.attempts}/")])
        paths = [path for path, _ in match(f"{self.attempts}/")]
        winners = f"{self.attempts}/{WINNERS}/"
        for is_last in (False, True):
            remove_remote([path for path in paths if path.startswith(winners) is is_last])

    def clean(self, out: str) -> None:
        """Takes the folder away from an output, and the lock last, on which other commands wait; in
        a store that stays."""
        self.clear()
        if self.scratch:
            remove_leftovers(out)
            Path(self.path, LOCK).unlink(missing_ok=True)
            with suppress(OSError):  # not there, or another run's by now
                Path(self.path).rmdir()
