"""Numbers of the report's page, out of a dataset's Parquet files: histograms, what other thresholds
would keep, the most frequent names, and examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from alignset.pipeline.datasets.numbers import Place, Tally, hex_numbers, stage_of
from alignset.pipeline.datasets.set_files import SetFiles
from alignset.pipeline.runs.documents import RunDescription
from alignset.transforms.columns.hashing import Bools, UInt64s
from alignset.transforms.columns.pair_columns import LANGUAGE_COLUMNS
from alignset.transforms.columns.records import (
    KEPT,
    LONGEST_TEXT,
    MOST_WORDS,
    Axis,
    Ints,
    hosts_of,
    key_hashes,
    least_rows,
    nearest_rows,
)
from alignset.transforms.pairs.texts import measure_texts
from alignset.transforms.rules import given
from alignset.transforms.rules.catalogue import PRODUCT, STEPS_OF_COPIES, Catalogue, limits
from alignset.transforms.rules.columns import verified_column
from alignset.transforms.rules.language_codes import UNDETERMINED
from alignset.transforms.rules.rule import IMAGES, TEXTS, Limit, Rows
from alignset.transforms.rules.thresholds import MAX_IMAGES_PER_TEXT, MIN_LANGUAGE_SCORE
from alignset.transforms.rules.verdicts import axes_of, numbers_of, values_of
from alignset.transforms.storage.broken_files import BrokenInputError
from alignset.transforms.storage.parquet_files import schema_of
from alignset.transforms.workers.threads import map_in_threads

# What is never shown, whatever a file holds: what a list, or its owner's notice, keeps out.
NEVER_SHOWN = frozenset({given.BLOCKED, given.REMOVED_BEFORE, given.TAKEN_DOWN})
NEVER_PICTURED = NEVER_SHOWN | {given.OPTED_OUT}
_ALSO_HIDDEN = rf"\b({'|'.join(sorted(NEVER_SHOWN))})\b"  # among further reasons
NEAR = "near:"
MOST_SAMPLED = 4096
MOST_ROWS = 200_000_000  # that are read for a page; of more, one file in n
SHOWN_WORDS = 30  # texts of so many words and of more are one bar
_MOST_LISTS = 200
_OF_A_SPLIT = 8  # examples of a kind that a file of dropped texts gives
_TEXTS_OF_A_FILE = 32
# Files that examples come from, while these give enough: a tar answers slowly from a store.
_KEPT_FILES, _DROPPED_FILES = 8, 64
_LONGEST = 1 << 10  # characters of a text that are read, and so whose words are counted
_UNJUDGED_TEXTS = {entry.reason for entry in given.OF_ROWS}
_SIDES = ("width", "height")
_TEXTS = ("key", "url", "caption", "reason", "detail", "also_reasons", LANGUAGE_COLUMNS[0])
NEAREST = ("evaluation_set", "evaluation_image")
# What `Rows` has besides columns of rules; a stranger's manifest may have a rule of such a name.
_OF_ROWS = {"shorter", "longer", "word_count", "foreign", "hashes", "own_language_score"}


@dataclass(frozen=True)
class Example:
    """A pair that is shown.

    Attributes:
      row: its columns. values: its measures, by axis. path: of the file that it stands in.
      hash: by which it was chosen.
    """

    row: Mapping[str, Any]
    values: Mapping[str, float]
    path: str
    hash: int

    @property
    def key(self) -> str:
        return self.row["key"] or ""

    @property
    def reason(self) -> str:
        """Empty where it is kept."""
        return self.row["reason"] or ""

    @property
    def place(self) -> Place:
        return self.path, self.key

    @property
    def id(self) -> tuple[str, ...]:
        """A pair may be in both stages, and a key in two files."""
        return *self.place, self.reason


class Judged(NamedTuple):
    """n rows, and what the rules of a stage said of them.

    Fields:
      rows: with `hashes` of the keys, uint64[n]. is_kept: bool[n]. is_counted: bool[n], whether the
        rules judged a row.
      is_free: bool[n], whether nothing but limits is against it. against: bool[n] by limit.
    """

    rows: Rows
    is_kept: Bools
    is_counted: Bools
    is_free: Bools
    against: Mapping[str, Bools]


@dataclass
class StageNumbers:
    """Numbers of the rows that the rules of a stage judged.

    Attributes:
      limits: the rules that have an axis. axes: by name.
      heights: int64[2, bins] by axis, of kept and of dropped rows.
      alone: int64[bins] by rule, of the rows that all other rules keep.
      free: how many rows nothing but limits is against. hashes, bins: a sample of them, those with
        the smallest hashes of their keys: uint64[m], and uint8[m] by axis.
      ranked: examples with their ranks, by list: an outcome, or `near:` with a rule, a space and an
        outcome.
    """

    limits: Sequence[Limit] = ()
    axes: Mapping[str, Axis] = field(default_factory=dict)
    free: int = 0
    ranked: dict[str, list[tuple[float, Example]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        axes = self.axes
        self.heights = {name: np.zeros((2, axis.bins), np.int64) for name, axis in axes.items()}
        limits = {of.name: axes[of.measure.axis].bins for of in self.limits}
        self.alone = {name: np.zeros(bins, np.int64) for name, bins in limits.items()}
        self.hashes = np.zeros(0, np.uint64)
        self.bins = {name: np.zeros(0, np.uint8) for name in axes}

    def full(self, place: int) -> set[str]:
        """The lists that take no example of a file that is so far behind."""
        return {
            name
            for name, of in [*self.ranked.items()]
            if place >= (_KEPT_FILES if name.endswith(KEPT) else _DROPPED_FILES)
            and len(of) >= _most(name)
        }

    def rank(self, name: str, examples: Sequence[tuple[float, Example]], most: int) -> None:
        """Adds examples to a list, which keeps so many, each key once."""
        if examples and (name in self.ranked or len(self.ranked) < _MOST_LISTS):
            both = {of.key: (rank, of) for rank, of in [*examples, *self.ranked.get(name, ())]}
            order = sorted(both.values(), key=lambda item: (item[0], item[1].hash, item[1].key))
            self.ranked[name] = order[:most]

    def add(self, judged: Judged) -> None:
        """Adds rows."""
        hashes, bins = judged.rows["hashes"], dict[str, Ints]()
        for name, limit in {limit.measure.axis: limit for limit in self.limits}.items():
            bins[name] = limit.bins(judged.rows, self.axes[name])
            for place, which in enumerate((judged.is_kept, ~judged.is_kept)):
                of_rows = bins[name][which & judged.is_counted]
                self.heights[name][place] += np.bincount(of_rows, minlength=self.axes[name].bins)
        times = sum(judged.against.values(), np.zeros(len(hashes), np.int64))
        for limit in self.limits:
            alone = judged.is_free & (times == judged.against[limit.name])
            size = len(self.alone[limit.name])
            self.alone[limit.name] += np.bincount(bins[limit.measure.axis][alone], minlength=size)
        rows = np.flatnonzero(judged.is_free)
        self.free += len(rows)
        rows = least_rows(hashes, rows, MOST_SAMPLED)
        self._sample(hashes[rows], {name: of[rows].astype(np.uint8) for name, of in bins.items()})

    def merge(self, other: StageNumbers, place: int) -> None:
        """Adds the numbers of the file at a place."""
        full = self.full(place)
        for name in (name for name in other.ranked if name not in full):
            self.rank(name, other.ranked[name], _most(name))
        for own, others in ((self.heights, other.heights), (self.alone, other.alone)):
            for name, of in others.items():
                own[name] += of
        self.free += other.free
        self._sample(other.hashes, other.bins)

    def _sample(self, hashes: UInt64s, bins: Mapping[str, npt.NDArray[np.uint8]]) -> None:
        joined = np.concatenate([self.hashes, hashes])
        order = np.argsort(joined, kind="stable")[:MOST_SAMPLED]
        self.hashes = joined[order]
        self.bins = {n: np.concatenate([of, bins[n]])[order] for n, of in self.bins.items()}


def _most(name: str) -> int:
    """How many examples a list has."""
    return 96 if name == KEPT else 12 if name.startswith(NEAR) else 36


@dataclass
class Numbers:
    """All numbers of a page.

    Attributes:
      texts, images: of the rows that the rules of each stage judged.
      words: int64[2, SHOWN_WORDS + 1], pairs by the words of their texts: kept, and dropped.
      hosts: pairs of images by host and outcome. languages: pairs by language and outcome;
      words_of_languages: by language and number of words.
      frequent_texts: texts that were dropped as such. kept_texts: those that are kept.
      without_hash: kept pairs that have no hash to compare.
      every: of so many files one was read.
    """

    texts: StageNumbers = field(default_factory=StageNumbers)
    images: StageNumbers = field(default_factory=StageNumbers)
    words: Ints = field(default_factory=lambda: np.zeros((2, SHOWN_WORDS + 1), np.int64))
    hosts: Tally = field(default_factory=Tally)
    languages: Tally = field(default_factory=Tally)
    words_of_languages: Tally = field(default_factory=Tally)
    frequent_texts: Tally = field(default_factory=Tally)
    kept_texts: Tally = field(default_factory=Tally)
    without_hash: int = 0
    every: int = 1

    def of(self, stage: str) -> StageNumbers:
        return self.texts if stage == TEXTS else self.images

    def merge(self, other: Numbers, place: int) -> None:
        """Adds the numbers of the file at a place."""
        for stage in (TEXTS, IMAGES):
            self.of(stage).merge(other.of(stage), place)
        self.words += other.words
        self.without_hash += other.without_hash
        for name in ("hosts", "languages", "words_of_languages", "frequent_texts", "kept_texts"):
            getattr(self, name).merge(getattr(other, name))


@dataclass(kw_only=True)
class Judging:
    """The rules of a dataset, as far as its rows tell of them.

    Attributes:
      files: of its rows. state: finished, under way, or foreign: rules that drop nothing.
      run: how it was made, if that is known. catalogue: its rules, of users too.
      rules: those that are numbers, by name.
    """

    files: SetFiles = field(default_factory=lambda: SetFiles("", [], []))
    state: str = "finished"
    run: RunDescription | None = None
    catalogue: Catalogue = PRODUCT
    rules: dict[str, float] = field(default_factory=dict)
    text_only: bool = False

    @cached_property
    def thresholds(self) -> Mapping[str, Any]:
        """The numbers by flag that rows are compared with."""
        if self.state != "foreign":
            return self.rules
        return {of.name: of.default for of in self.catalogue.rules} | dict(self.catalogue.opened)

    @cached_property
    def names_all(self) -> bool:
        """Whether rows of dropped texts name all reasons that apply."""
        for path in [path for path in self.files.rejected_files if stage_of(path) == TEXTS][:1]:
            with suppress(OSError, BrokenInputError):
                return "also_reasons" in schema_of(path).names
        return True

    @property
    def verified(self) -> str:
        """The column of the hashes that files were compared by, or ""."""
        return (verified_column(self.run.rules) or ("", ""))[1] if self.run else ""

    @property
    def thumbnails(self) -> int:
        """How many examples of a kind a shard has images of."""
        most = self.run.job.get("thumbnails") if self.run else None
        return min(max(most, 8), 64) if isinstance(most, int) else 16

    def limits(self, stage: str) -> list[Limit]:
        """The rules of a stage that have a number in the run."""
        entries = self.catalogue.texts if stage == TEXTS else self.catalogue.images
        if self.text_only and stage == IMAGES:
            return []
        own = [limit for limit in limits(entries) if limit.name in self.thresholds]
        own = [of for of in own if _OF_ROWS.isdisjoint((of.measure.axis, of.measure.column))]
        return [of for of in own if of.measure.column not in (*_TEXTS, *NEAREST, *_SIDES)]

    def nothing(self) -> Numbers:
        """No numbers yet."""
        texts, images = (
            StageNumbers(of, {axis.name: axis for axis in axes_of(of, self.thresholds)})
            for of in map(self.limits, (TEXTS, IMAGES))
        )
        return Numbers(texts, images)

    def batches(self, path: str) -> Iterator[tuple[pa.RecordBatch, dict[str, Judged]]]:
        """Reads a file; yields rows, and as what each of their stages judged them.

        A file of texts has one stage; all others passed the text rules.

        Raises:
          BrokenInputError: it cannot be read.
        """
        own = [*self.limits(TEXTS), *self.limits(IMAGES)]
        numbers = [name for side in _SIDES for name in (side, f"original_{side}")]
        numbers += [limit.measure.column for limit in own if limit.measure.column]
        texts = [*_TEXTS, *NEAREST, *([self.verified] if self.verified else [])]
        kinds = dict.fromkeys(numbers, pa.float64()) | dict.fromkeys(texts, pa.string())
        for batch in self.files.read(path, pa.schema(kinds.items()), _LONGEST):
            columns = [pc.coalesce(batch[f"original_{side}"], batch[side]) for side in _SIDES]
            sides = [numbers_of(of) for of in columns]
            captions = pc.fill_null(batch["caption"], "")
            rows = Rows(
                shorter=np.minimum(*sides),
                longer=np.maximum(*sides),
                word_count=measure_texts(captions, np.ones(len(batch), np.bool_)).word_count,
                foreign=_is_in(batch["reason"], {MIN_LANGUAGE_SCORE.reason}),
                hashes=key_hashes(hex_numbers(batch["key"])[0]),
                own_language_score=self.thresholds.get(MIN_LANGUAGE_SCORE.name, 0.0),
            )
            for limit in own:
                if column := limit.measure.column:
                    rows[column] = rows[limit.measure.axis] = numbers_of(batch[column])
            stages = (TEXTS, IMAGES) if has_images(path) else (TEXTS,)
            yield (
                batch,
                {of: self._judged(of, batch, rows, of_texts=IMAGES not in stages) for of in stages},
            )

    def _judged(self, stage: str, batch: pa.RecordBatch, rows: Rows, *, of_texts: bool) -> Judged:
        own, reason = self.limits(stage), batch["reason"]
        is_kept, of_limits = _is_in(reason, {None}), {limit.reason for limit in own}
        if stage == IMAGES:
            is_counted = _is_in(reason, {None, *of_limits, *STEPS_OF_COPIES})
        elif of_texts:
            is_counted = ~_is_in(reason, {given.TAKEN_DOWN, *_UNJUDGED_TEXTS})
        else:
            is_counted = is_kept = ~_is_in(reason, {given.TAKEN_DOWN})
        all_reasons = reason
        if stage == TEXTS and self.names_all:
            joined = pc.binary_join_element_wise(reason, batch["also_reasons"], ",")
            all_reasons = pc.coalesce(joined, reason)
        codes = all_reasons.dictionary_encode()
        # By distinct text, the last of null: whether it names others than limits, and which limits.
        marks = np.zeros((1 + len(own), len(codes.dictionary) + 1), np.bool_)
        for at, text in enumerate(codes.dictionary.to_pylist()):
            names = set(text.split(","))  # of one at a time: a stranger's may be very many
            marks[:, at] = [not names <= of_limits, *(limit.reason in names for limit in own)]
        places = pc.fill_null(codes.indices, len(codes.dictionary)).to_numpy()
        has_others, *of_each = marks[:, places] & ~is_kept
        is_free, against = is_counted & ~has_others, dict[str, Bools]()
        for limit, has_limit in zip(own, of_each, strict=True):
            against[limit.name] = has_limit
            if limit.measure.dropped_only:  # no threshold would keep what has no value
                axis = Axis(limit.measure.axis, [self.thresholds[limit.name]])
                is_free &= limit.bins(rows, axis) != axis.no_value
            elif stage == IMAGES or not self.names_all:
                against[limit.name] |= limit.dropped(rows, self.thresholds) & ~is_kept
        return Judged(rows, is_kept, is_counted, is_free, against)


def has_images(path: str) -> bool:
    """Whether a file is not of texts alone: `pairs/`, and texts that were dropped."""
    folder = Path(path).parent.name
    return folder != "pairs" and (folder != "rejected" or stage_of(path) == IMAGES)


def _is_in(values: pa.StringArray, names: Set[str | None]) -> Bools:
    return pc.is_in(values, value_set=pa.array([*names], pa.string())).to_numpy(False)


# ---- All numbers -----------------------------------------------------------------------------


def read_numbers(files: Sequence[str], judging: Judging, rows: int = 0) -> Numbers:
    """Reads the numbers of a page.

    It costs 2.5 us of CPU a row. Above `MOST_ROWS` one file in n is read.

    Args:
      files: of `rejected/`, and sidecars or files of `pairs/`, in an order that is random but the
        same for a dataset. rows: how many these have.
    """
    total = judging.nothing()
    total.every = max(1, -(-rows // MOST_ROWS))

    def read(file: tuple[int, str]) -> Numbers:
        place, path = file
        full = total.of(IMAGES if has_images(path) else TEXTS).full(place)
        try:
            return _read_file(path, judging, full)
        except BrokenInputError:  # which the exact counts name
            return judging.nothing()

    for place, part in enumerate(map_in_threads(read, enumerate(files[:: total.every]))):
        total.merge(part, place)
    return total


def _read_file(path: str, judging: Judging, full: Set[str]) -> Numbers:
    """The numbers of a file, without examples for the lists that are full."""
    part = judging.nothing()
    for batch, stages in judging.batches(path):
        for stage, judged in stages.items():
            part.of(stage).add(judged)
        texts, reason, outcome = stages[TEXTS], batch["reason"], pc.fill_null(batch["reason"], KEPT)
        is_kept, words = _is_in(reason, {None}), texts.rows["word_count"]
        for at, which in enumerate((is_kept, ~is_kept)):
            bars = np.minimum(words[which & texts.is_counted], SHOWN_WORDS)
            part.words[at] += np.bincount(bars, minlength=SHOWN_WORDS + 1)
        language = batch[LANGUAGE_COLUMNS[0]]
        if language.null_count < len(batch):
            among = pa.array(texts.is_counted)
            language = pc.fill_null(language, UNDETERMINED).filter(among)
            part.languages.add(language, outcome.filter(among))
            bars = pa.array(np.minimum(words, MOST_WORDS)).cast(pa.string())
            part.words_of_languages.add(language, bars.filter(among))
        short = pc.utf8_slice_codeunits(pc.fill_null(batch["caption"], ""), 0, LONGEST_TEXT)
        if IMAGES in stages:
            is_told = pa.array(~_is_in(reason, NEVER_SHOWN))  # of what is blocked, not even a host
            part.hosts.add(hosts_of(batch["url"].filter(is_told)), outcome.filter(is_told))
            part.kept_texts.add(short.filter(pa.array(is_kept)))
        else:
            part.frequent_texts.add(short.filter(pc.equal(outcome, MAX_IMAGES_PER_TEXT.reason)))
        if judging.verified:
            has_hash = pc.fill_null(pc.utf8_trim_whitespace(batch[judging.verified]), "")
            part.without_hash += int(np.count_nonzero(is_kept & _is_in(has_hash, {""})))
        _choose(part, judging, batch, stages, path, full)
    for tally in (part.frequent_texts, part.kept_texts):
        tally.forget(_TEXTS_OF_A_FILE)
    return part


def _choose(
    part: Numbers,
    judging: Judging,
    batch: pa.RecordBatch,
    stages: Mapping[str, Judged],
    path: str,
    full: Set[str],
) -> None:
    """Adds rows of a batch to the lists of examples: for each outcome the smallest hashes, twice as
    many of kept pairs; and the rows nearest to each threshold, on either side."""
    stage, judged = [*stages.items()][-1]
    count = judging.thumbnails if stage == IMAGES else _OF_A_SPLIT
    own_limits, hashes = judging.limits(stage), judged.rows["hashes"]
    if stage == IMAGES:
        own_limits += [of for of in judging.limits(TEXTS) if not of.measure.dropped_only]
    values = {limit.name: values_of(limit, judged.rows) for limit in own_limits}
    codes = pc.fill_null(batch["reason"], KEPT).dictionary_encode()
    places = codes.indices.to_numpy()
    is_shown = ~_is_in(batch["reason"], NEVER_SHOWN)
    hidden = pc.match_substring_regex(batch["also_reasons"], _ALSO_HIDDEN)
    is_shown &= ~pc.fill_null(hidden, False).to_numpy(False)
    choices = list[tuple[str, int, Ints, npt.NDArray[np.float64]]]()
    for place, outcome in enumerate(codes.dictionary.to_pylist()[:_MOST_LISTS]):
        rows = np.flatnonzero((places == place) & is_shown)
        if outcome not in full:
            most = count * (1 + (outcome == KEPT and stage == IMAGES))
            choices.append((outcome, most, least_rows(hashes, rows, most), np.zeros(len(hashes))))
        for limit in own_limits if judging.state != "foreign" else ():
            name = f"{NEAR}{limit.name} {outcome}"
            sides = (KEPT, limit.reason) if stage == IMAGES else (limit.reason,)
            if outcome in sides and name not in full:
                ranks = np.abs(values[limit.name] - judging.thresholds[limit.name])
                most = max(1, count // 2) if stage == IMAGES else count
                choices.append((name, most, nearest_rows(ranks, hashes, rows, most), ranks))
    all_rows, examples = sorted({row for _, _, rows, _ in choices for row in rows.tolist()}), {}
    all_columns = batch.take(pa.array(all_rows, pa.int64())).to_pylist()
    for row, columns in zip(all_rows, all_columns, strict=True):
        of_axes = {of.measure.axis: float(values[of.name][row]) for of in own_limits}
        examples[row] = Example(columns, of_axes, path, int(hashes[row]))
    for name, most, rows, ranks in choices:
        part.of(stage).rank(name, [(float(ranks[row]), examples[row]) for row in rows], most)


# ---- Other thresholds ------------------------------------------------------------------------


def count_kept(
    files: Sequence[str], judging: Judging, thresholds: Mapping[str, float]
) -> Counter[str]:
    """Counts the pairs that rules with other thresholds keep: any combination of them.

    A row that was dropped comes back where nothing but limits is against it, and it passes all:
    a rule with another threshold by its value, any other by what the run said.

    Returns:
      `kept`: pairs that are kept now; `dropped`: rows of `rejected/`; `out`: kept pairs that would
      go; by stage, those that would come that its rules dropped; by flag, rows that have a value
      that its rule compares.

    Raises:
      BrokenInputError: a file cannot be read.
    """

    def count(path: str) -> Counter[str]:
        sums = Counter[str]()
        for batch, stages in judging.batches(path):
            is_kept = _is_in(batch["reason"], {None})
            passed = np.ones(len(batch), np.bool_)
            for stage, judged in stages.items():
                passed &= judged.is_free
                for limit in judging.limits(stage):
                    bound = thresholds.get(limit.name, judging.thresholds[limit.name])
                    axis = Axis(limit.measure.axis, [limit.edge(bound)])
                    bins = limit.bins(judged.rows, axis)
                    sums[f"--{limit.name}"] += int(np.count_nonzero(bins != axis.no_value))
                    if limit.name in thresholds:
                        passed &= axis.passes(bins, axis.edges[0], beyond=limit.keeps_above)
                    else:
                        passed &= ~judged.against[limit.name]
            sums[KEPT] += int(np.count_nonzero(is_kept))
            sums["dropped"] += int(np.count_nonzero(~is_kept))
            sums["out"] += int(np.count_nonzero(is_kept & ~passed))
            # Image rules judged only pairs that the text rules had kept.
            sums[[*stages][-1]] += int(np.count_nonzero(~is_kept & passed))
        return sums

    return sum(map_in_threads(count, files), Counter[str]())
