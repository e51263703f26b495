"""The documents of a run: what lies in its work folder, and what it leaves at its end.

docs/shard_format.md says what their fields are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec import UNSET, UnsetType

from pipeline.inputs.find_inputs import InputFile
from transforms.corpus.hash_sets import HashFile
from transforms.corpus.vocabulary import VocabularySummary
from transforms.decontamination.evaluation_images import EvaluationFile, EvaluationSet
from transforms.pages.parse_pages import PageCounts
from transforms.shards.failed_fetches import FailingHost
from transforms.storage.broken_files import BrokenFiles
from transforms.storage.documents import find_document, read_document
from transforms.workers.summaries import Counts

Setting = str | int | float | bool
Settings = dict[str, Setting]


@dataclass(frozen=True)
class RunDescription:
    """All that decides what the output is: `run.json`, and the beginning of the manifest."""

    job: Settings
    rules: Settings
    resize: Settings
    fetch: Settings
    input: list[InputFile]
    evaluation: list[EvaluationFile]
    given_vocabulary: HashFile | None


@dataclass(frozen=True)
class PageSummary:
    """`pages.json`: what was counted where pages were parsed."""

    counts: PageCounts


@dataclass(frozen=True)
class TextSummary:
    """`text.json`: what the text plane has made.

    Attributes:
      rows_read: by the first reading; `counts` are by the second.
      vocabulary_file: that of the run, or the one that was given.
      shards: the numbers of those that were planned.
      broken: the input files that cannot be read to their end.
    """

    rows_read: int
    counts: Counts
    vocabulary: VocabularySummary
    vocabulary_file: HashFile
    shards: list[int] = field(default_factory=list)
    broken: BrokenFiles = field(default_factory=BrokenFiles)


@dataclass(frozen=True, order=True)
class WrittenShard:
    """What the image plane's summary says of a shard: the pairs that it was given, and holds."""

    number: int
    pairs: int
    kept: int
    sha256: str  # of the tar


@dataclass(frozen=True)
class ImageSummary:
    """`images.json`: what the image plane has made.

    Attributes:
      hosts: those with the most failures. statuses: all shards' `status_dict`, added up.
      evaluation_images: the evaluation sets, by name.
    """

    shards: list[WrittenShard]
    counts: Counts
    statuses: dict[str, int]
    hosts: list[FailingHost]
    evaluation_images: dict[str, EvaluationSet]


@dataclass(frozen=True)
class Step:
    """A step of the funnel."""

    step: str
    seen: int
    kept: int
    dropped: dict[str, int]  # by reason


@dataclass(frozen=True)
class FetchReport:
    """What funnel.json says of fetching: `details` are counts by detail, most first."""

    tried: int
    failed: int
    details: dict[str, int]
    hosts: list[FailingHost]


@dataclass(frozen=True, kw_only=True)
class BrokenInput(BrokenFiles):
    """What funnel.json says of input files that cannot be read to their end, of so many files."""

    files: int


@dataclass(frozen=True, kw_only=True)
class Funnel:
    """`funnel.json`; `broken_input` and `pages` where there were some."""

    broken_input: BrokenInput | UnsetType = UNSET
    pages: PageCounts | UnsetType = UNSET
    fetch: FetchReport
    pairs: int
    steps: list[Step]
    vocabulary: VocabularySummary


@dataclass(frozen=True)
class ShardEntry:
    """What the manifest says of a shard."""

    pairs: int
    sha256: str


@dataclass(frozen=True)
class Retry:
    """What the manifest says of a `--retry_failed`; `shards` are the first and last it added."""

    tried: int
    kept: int
    shards: tuple[int, int]
    fetch: Settings


@dataclass(frozen=True)
class Manifest(RunDescription):
    """`manifest.json`."""

    versions: dict[str, str]
    pairs: int
    vocabulary: VocabularySummary
    evaluation_images: dict[str, EvaluationSet]
    shards: dict[str, ShardEntry]
    retries: list[Retry] | UnsetType = UNSET


@dataclass(frozen=True)
class RetryPlan:
    """`retry.json`: how many pairs are fetched again, and the shards planned for them."""

    pairs: int
    shards: list[int]


@dataclass(frozen=True)
class RetryBase:
    """`base.json`: the closing documents that a retry begins from, kept until its end."""

    manifest: Manifest
    funnel: Funnel


@dataclass(frozen=True)
class WorkFolder:
    """What lies in a run's work folder, `_temporary/`, which goes at its end.

    Attributes:
      path: of the folder, as all workers find it.
    """

    path: str

    @property
    def description(self) -> str:
        return f"{self.path}/run.json"

    @property
    def plan(self) -> str:
        """The folder of the pairs of each shard."""
        return f"{self.path}/plan"

    @property
    def pages(self) -> str:
        """The folder of what pages were parsed to."""
        return f"{self.path}/pages"

    @property
    def start(self) -> str:
        """What `Fence` keeps."""
        return f"{self.path}/start"

    @property
    def page_summary(self) -> str:
        return f"{self.path}/pages.json"

    @property
    def text_summary(self) -> str:
        return f"{self.path}/text.json"

    @property
    def image_summary(self) -> str:
        return f"{self.path}/images.json"

    @property
    def retry_plan(self) -> str:
        return f"{self.path}/retry.json"

    @property
    def retry_base(self) -> str:
        return f"{self.path}/base.json"

    def find_pages(self) -> PageSummary | None:
        """What was counted of pages; None where they are not parsed, or there were none."""
        return find_document(self.page_summary, PageSummary)

    def find_text(self) -> TextSummary | None:
        """What the text plane has made; None where it has not ended."""
        return find_document(self.text_summary, TextSummary)

    def find_images(self) -> ImageSummary | None:
        """What the image plane has made; None where it has not ended."""
        return find_document(self.image_summary, ImageSummary)

    def find_retry_plan(self) -> RetryPlan | None:
        """What is fetched again; None where that is not planned yet."""
        return find_document(self.retry_plan, RetryPlan)

    def read_retry_base(self) -> RetryBase:
        """The closing documents that a retry begins from."""
        return read_document(self.retry_base, RetryBase)
