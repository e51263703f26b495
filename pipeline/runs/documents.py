"""The documents that a run leaves at its end.

docs/files.md says what their fields are.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from msgspec import UNSET, UnsetType

from alignset.pipeline.inputs.splits import InputFile
from alignset.pipeline.shown_texts import counted
from alignset.transforms.corpus.corpus_documents import CountSpread, HashFile, VocabularySummary
from alignset.transforms.decontamination.overlap_settings import EvaluationFile, EvaluationSet
from alignset.transforms.pages.page_counts import PageCounts
from alignset.transforms.rules.catalogue import Catalogue, make_catalogue
from alignset.transforms.rules.custom import read_description
from alignset.transforms.safety.model_files import UnsafeModel
from alignset.transforms.shards.shard_places import HOLDOUT
from alignset.transforms.shards.shard_stats import FailingHost, NearDuplicates, SharedContents
from alignset.transforms.storage.broken_files import BrokenFiles

LAYOUT = "0.3"  # of the files of a dataset; up to 0.2 manifests did not name theirs
Setting = str | int | float | bool
Settings = dict[str, Setting]


@dataclass(frozen=True)
class NamedList:
    """A blocklist: its name, its file's SHA-256, and how many entries it has of each kind."""

    name: str
    sha256: str
    entries: dict[str, int]


@dataclass(frozen=True)
class NamedRules:
    """A file with rules of users: its name, and what each of them declares.

    Attributes:
      flags: of the rules that were chosen among others in it.
    """

    name: str
    sha256: str
    rules: list[dict[str, Any]]
    flags: list[str] | UnsetType = UNSET


@dataclass(frozen=True)
class Grown:
    """How a dataset grew out of another.

    Attributes:
      manifest: the SHA-256 of the other's manifest; a run that has not ended knows this alone.
      day: on which it ended, as in 2024-05-18 (UTC).
      joined: how many pairs the other does not hold. left: how many of its pairs are not held any
        more, for each reason.
      fetched, known: how many images came, and how many were not requested, since the other or
        another dataset knew them.
    """

    manifest: str
    day: str = ""
    joined: int = 0
    left: dict[str, int] = field(default_factory=dict)
    fetched: int = 0
    known: int = 0

    @property
    def words(self) -> str:
        """As "364 pairs joined, 162 left (rare_token 120, unsafe 42); 9 images fetched, 506 known".

        >>> Grown("", "", 1, {"rare_token": 2}, 3, 4).words
        '1 pair joined, 2 left (rare_token 2); 3 images fetched, 4 known'
        """
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in self.left.items())
        left = f"{sum(self.left.values()):,} left{f' ({reasons})' if reasons else ''}"
        fetched = f"{counted(self.fetched, 'image')} fetched, {self.known:,} known"
        return f"{counted(self.joined, 'pair')} joined, {left}; {fetched}"


@dataclass(frozen=True)
class RunDescription:
    """All that decides what the output is: `run.json`, and the beginning of the manifest.

    Attributes:
      overlap: how images are compared with evaluation images, where there are evaluation images.
      unsafe_model: where images are scored. blocklists: where there are some.
      rule_files: where there are rules of users.
      columns: of the input that go with the pairs, with their types as `type_name` has them.
      about: title, description and license, as far as they were given.
      grown: where `alignset grow` runs.
      layout: LAYOUT of the version that began the run.
    """

    job: Settings
    rules: Settings
    resize: Settings
    fetch: Settings
    input: list[InputFile]
    evaluation: list[EvaluationFile]
    given_vocabulary: HashFile | None
    overlap: Settings | UnsetType = field(default=UNSET, kw_only=True)
    unsafe_model: UnsafeModel | UnsetType = field(default=UNSET, kw_only=True)
    blocklists: list[NamedList] | UnsetType = field(default=UNSET, kw_only=True)
    rule_files: list[NamedRules] | UnsetType = field(default=UNSET, kw_only=True)
    columns: dict[str, Any] | UnsetType = field(default=UNSET, kw_only=True)
    about: dict[str, str] | UnsetType = field(default=UNSET, kw_only=True)
    grown: Grown | UnsetType = field(default=UNSET, kw_only=True)
    layout: str | UnsetType = field(default=UNSET, kw_only=True)

    @property
    def overlap_measure(self) -> str:
        """How images were compared with evaluation images: "copy", but in earlier versions."""
        return str((self.overlap or {}).get("measure", "phash"))

    @property
    def extension(self) -> str:
        """The ending of its images' names."""
        is_original = self.resize["resize_mode"] == "original"
        return "jpg" if is_original else str(self.resize["encode_format"])

    @property
    def catalogue(self) -> Catalogue:
        """The product's rules and the user rules in this manifest; the latter cannot measure."""
        try:
            own = [read_description(rule) for of in self.rule_files or [] for rule in of.rules]
        except (KeyError, TypeError, ValueError, AttributeError):  # a manifest may be anybody's
            own = []
        return make_catalogue(tuple(own), self.rules)


@dataclass(frozen=True)
class Step:
    """A step of the funnel."""

    step: str
    seen: int
    kept: int
    dropped: dict[str, int]  # by reason


@dataclass(frozen=True)
class SourceSet:
    """An earlier dataset that a dataset was made of.

    Attributes:
      folder: where its documents and rejects are, within the dataset's own.
      pairs, steps: as its funnel has them; none where that is of another version.
      history: the datasets that it was made of itself.
    """

    folder: str
    pairs: int = 0
    steps: list[Step] = field(default_factory=list)
    history: list[SourceSet] = field(default_factory=list)


@dataclass(frozen=True)
class Connections:
    """How many connections a worker had open at once, at most; and at the end of how many shards
    each thing limited them."""

    most: int
    limits: dict[str, int]


@dataclass(frozen=True)
class FetchReport:
    """The fetching in funnel.json: `details` are counts by detail, most first.

    `connections` are only told, and not written, since they differ from run to run.
    """

    tried: int
    failed: int
    details: dict[str, int]
    hosts: list[FailingHost]
    connections: Connections | UnsetType = UNSET


@dataclass(frozen=True)
class OptOuts:
    """The opt-outs in funnel.json: whether the pairs were dropped, and how many state each opt-out,
    most first. A dropped pair counts once, by the first opt-out that was found; a kept pair counts
    with each."""

    opt_outs: str = ""
    details: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BrokenInput(BrokenFiles):
    """The input files in funnel.json that cannot be read to their end, and the number of all."""

    files: int


@dataclass(frozen=True, kw_only=True)
class Funnel:
    """`funnel.json`; `broken_input` and `pages` where there were some, `holdout` where pairs are
    held out.

    Attributes:
      pairs: how many are kept. holdout: how many of them are held out.
      copies: the images that are kept and have the bytes of another. near_duplicates: those that
        have its perceptual hash and other bytes.
      images_per_text, texts_per_image: how many texts and images have which number of them, over
        the distinct pairs in the wanted language.
    """

    history: list[SourceSet] | UnsetType = UNSET
    broken_input: BrokenInput | UnsetType = UNSET
    pages: PageCounts | UnsetType = UNSET
    fetch: FetchReport
    opted_out: OptOuts | UnsetType = UNSET
    pairs: int
    holdout: int | UnsetType = UNSET
    steps: list[Step]
    vocabulary: VocabularySummary
    copies: SharedContents | UnsetType = UNSET
    near_duplicates: NearDuplicates | UnsetType = UNSET
    images_per_text: CountSpread | UnsetType = UNSET
    texts_per_image: CountSpread | UnsetType = UNSET


@dataclass(frozen=True)
class Days:
    """The first and the last day of something, as in 2024-05-18 (UTC)."""

    first: str
    last: str


@dataclass(frozen=True)
class ShardEntry:
    """A shard in the manifest; `sha256` is its tar's, and an empty shard has no tar."""

    pairs: int
    sha256: str | None


@dataclass(frozen=True)
class Evidence:
    """A row of EVIDENCE by which pairs were taken out: its `url`, its SHA-256, when it was read
    (UTC), and how many pairs it forbids."""

    url: str
    sha256: str
    read_at: str
    pairs: int


@dataclass(frozen=True)
class Takedown:
    """A takedown in the manifest.

    Attributes:
      day: on which it began, as in 2024-05-18 (UTC).
      pairs: how many it took out of the dataset. dropped: how many that were dropped before may not
        be read again since.
      forgotten: whether rejected/ holds neither URL nor text of them.
      reason: one of REMOVAL_REASONS; none where it is an opt-out.
      evidence: where `recheck` took them out.
    """

    day: str
    lists: list[NamedList]
    pairs: int
    dropped: int
    forgotten: bool
    reason: str | UnsetType = UNSET
    evidence: list[Evidence] | UnsetType = UNSET


@dataclass(frozen=True)
class Deduplication:
    """An `alignset deduplicate` in the manifest.

    Attributes:
      day: on which it began, as in 2024-05-18 (UTC).
      dropped: how many pairs left for each reason. moved: how many got another URL, until 0.2.
      near: true where images that look like a better one left too.
    """

    day: str
    dropped: dict[str, int]
    moved: int | UnsetType = UNSET
    near: bool | UnsetType = UNSET


@dataclass(frozen=True)
class Manifest(RunDescription):
    """`manifest.json`: how a dataset was made, and what its other files do not say.

    Attributes:
      rows: that the input had; each is a pair of the dataset or a row of `rejected/`.
      evaluation_index: the name of the index of evaluation images. holdout: the shards of what is
        held out.
      fetched: where images were fetched; all that the manifest knows of a clock.
      takedowns, deduplications: where something was taken out.
      broken_input, pages: where there were some.
      near_duplicates: of a dataset that near-duplicates left.
      images_per_text, texts_per_image: how many texts and images have which number of them, over
        the distinct pairs in the wanted language.
    """

    versions: dict[str, str]
    pairs: int
    vocabulary: VocabularySummary
    evaluation_images: dict[str, EvaluationSet]
    shards: dict[str, ShardEntry]
    holdout: dict[str, ShardEntry] | UnsetType = UNSET
    fetched: Days | UnsetType = UNSET
    evaluation_index: str | UnsetType = UNSET
    takedowns: list[Takedown] | UnsetType = UNSET
    deduplications: list[Deduplication] | UnsetType = UNSET
    rows: int | UnsetType = UNSET
    broken_input: BrokenInput | UnsetType = UNSET
    pages: PageCounts | UnsetType = UNSET
    near_duplicates: NearDuplicates | UnsetType = UNSET
    images_per_text: CountSpread | UnsetType = UNSET
    texts_per_image: CountSpread | UnsetType = UNSET

    def completed_by(self, funnel: Funnel) -> Manifest:
        """The manifest with what only the funnel says in a dataset of 0.2 and before."""
        if self.rows is not UNSET:
            return self
        near = funnel.near_duplicates
        return replace(
            self,
            rows=funnel.steps[0].seen if funnel.steps else self.pairs,
            broken_input=funnel.broken_input,
            pages=funnel.pages,
            near_duplicates=near if near and near.distances else UNSET,
            images_per_text=funnel.images_per_text,
            texts_per_image=funnel.texts_per_image,
        )

    @property
    def held_out(self) -> dict[str, ShardEntry]:
        """The shards of what is held out; none where nothing is."""
        return self.holdout or {}

    @property
    def holding(self) -> list[int]:
        """The numbers of the shards that hold something."""
        return [number for number, of in self.entries.items() if of.pairs]

    @property
    def entries(self) -> dict[int, ShardEntry]:
        """All shards by their numbers."""
        sides = ((0, self.shards), (HOLDOUT, self.held_out))
        return {first + int(name): of for first, side in sides for name, of in side.items()}

    @property
    def numbers(self) -> list[int]:
        """The numbers of all shards."""
        return sorted(self.entries)
