"""Numbers of the report's page, out of a dataset's Parquet files: histograms, what other thresholds
would keep, the most frequent names, and examples."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from alignset.pipeline.datasets.numbers import Tally, hex_numbers, hosts_of, in_threads, stage_of
from alignset.transforms.columns.hashing import Bools, UInt64s
from alignset.transforms.columns.pair_columns import LANGUAGE_COLUMNS
from alignset.transforms.columns.records import (
    KEPT,
    LONGEST_TEXT,
    LONGEST_URL,
    MOST_WORDS,
    Axis,
    Ints,
    cut,
    key_hashes,
    least_rows,
    nearest_rows,
)
from alignset.transforms.pairs.texts import measure_texts
from alignset.transforms.rules import given
from alignset.transforms.rules.catalogue import STEPS_OF_COPIES, Catalogue, limits
from alignset.transforms.rules.language import MIN_LANGUAGE_SCORE
from alignset.transforms.rules.language_codes import UNDETERMINED
from alignset.transforms.rules.popularity import MAX_IMAGES_PER_TEXT
from alignset.transforms.rules.rule import IMAGES, TEXTS, Limit, Rows
from alignset.transforms.rules.verdicts import axes_of, numbers_of, values_of
from alignset.transforms.storage.broken_files import BrokenInputError
from alignset.transforms.storage.parquet_files import read_columns

# What is never shown, whatever a file holds: what a list, or its owner's notice, keeps out.
NEVER_SHOWN = frozenset({given.BLOCKED, given.REMOVED_BEFORE, given.TAKEN_DOWN})
NEVER_PICTURED = NEVER_SHOWN | {given.OPTED_OUT}
_ALSO_HIDDEN = rf"\b({'|'.join(sorted(NEVER_SHOWN))})\b"  # among further reasons
NEAR = "near:"
MOST_SAMPLED = 4096
MOST_ROWS = 200_000_000  # that are read for a page; of more, one file in n
SHOWN_WORDS = 30  # texts of so many words and of more are one bar
_MOST_KEPT, _MOST_OF_A_REASON, _MOST_NEAR, _MOST_LISTS = 96, 36, 12, 200
_OF_A_SPLIT = 8  # examples of a kind that a file of dropped texts gives
_TEXTS_OF_A_FILE = 32
# Files that examples come from, while these give enough: a tar answers slowly from a store.
_KEPT_FILES, _DROPPED_FILES = 8, 64
_LONGEST = 1 << 10  # characters of a text that are read, and so whose words are counted
_UNJUDGED_TEXTS = {entry.reason for entry in given.OF_ROWS}
_SIDES = ("width", "height", "original_width", "original_height")
_TEXTS = ("key", "url", "caption", "reason", "detail", "also_reasons", LANGUAGE_COLUMNS[0])
_NEAREST = ("evaluation_set", "evaluation_image")


@dataclass(frozen=True)
class Example:
    """A pair that is shown.

    Attributes:
      reason: "" where it is kept. values: its measures, by axis.
      near: the nearest evaluation image, as set/name. path: of the file that it stands in.
      hash: by which it was chosen.
    """

    key: str
    url: str
    caption: str
    reason: str = ""
    detail: str = ""
    width: int = 0
    height: int = 0
    values: Mapping[str, float] = field(default_factory=dict)
    near: str = ""
    path: str = ""
    hash: int = 0

    @property
    def id(self) -> tuple[str, str, str]:
        """A pair may be in both stages, and a key in two files."""
        return self.key, self.reason, self.path

    @property
    def shard(self) -> str:
        """As "images-00000", "holdout-00000" or "text-00000"."""
        folder, stem = Path(self.path).parent.name, Path(self.path).stem
        kind = {"shards": "images-", "holdout": "holdout-", "pairs": "text-"}.get(folder, "")
        return kind + stem


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
    axes: dict[str, Axis] = field(default_factory=dict)
    heights: dict[str, Ints] = field(default_factory=dict)
    alone: dict[str, Ints] = field(default_factory=dict)
    free: int = 0
    hashes: UInt64s = field(default_factory=lambda: np.zeros(0, np.uint64))
    bins: dict[str, npt.NDArray[np.uint8]] = field(default_factory=dict)
    ranked: dict[str, list[tuple[float, Example]]] = field(default_factory=dict)

    @property
    def examples(self) -> dict[str, list[Example]]:
        """The examples by list."""
        return {name: [example for _, example in of] for name, of in sorted(self.ranked.items())}

    def is_full(self, name: str, place: int) -> bool:
        """Whether a list takes no example of a file that is so far behind."""
        is_kept = name == KEPT or name.endswith(f" {KEPT}")
        has_file = place < (_KEPT_FILES if is_kept else _DROPPED_FILES)
        return not has_file and len(self.ranked.get(name, ())) >= _most(name)

    def rank(self, name: str, examples: Sequence[tuple[float, Example]], most: int) -> None:
        """Adds examples to a list, which keeps so many, each key once."""
        if examples and (name in self.ranked or len(self.ranked) < _MOST_LISTS):
            both = {of.key: (rank, of) for rank, of in [*examples, *self.ranked.get(name, ())]}
            order = sorted(both.values(), key=lambda item: (item[0], item[1].hash, item[1].key))
            self.ranked[name] = order[:most]

    @classmethod
    def nothing(cls, limits: Sequence[Limit], axes: Sequence[Axis]) -> StageNumbers:
        """No numbers yet."""
        of_axis = {axis.name: axis for axis in axes}
        return cls(
            limits,
            of_axis,
            {name: np.zeros((2, axis.bins), np.int64) for name, axis in of_axis.items()},
            {of.name: np.zeros(of_axis[of.measure.axis].bins, np.int64) for of in limits},
            bins={name: np.zeros(0, np.uint8) for name in of_axis},
        )

    def add(self, judged: Judged) -> None:
        """Adds rows."""
        limit_of = {limit.measure.axis: limit for limit in self.limits}
        bins = {name: limit_of[name].bins(judged.rows, axis) for name, axis in self.axes.items()}
        for name, axis in self.axes.items():
            for place, which in enumerate((judged.is_kept, ~judged.is_kept)):
                of_rows = bins[name][which & judged.is_counted]
                self.heights[name][place] += np.bincount(of_rows, minlength=axis.bins)
        times = sum(judged.against.values(), np.zeros(len(judged.rows["hashes"]), np.int64))
        for limit in self.limits:
            alone = judged.is_free & (times == judged.against[limit.name])
            size = len(self.alone[limit.name])
            self.alone[limit.name] += np.bincount(bins[limit.measure.axis][alone], minlength=size)
        rows = np.flatnonzero(judged.is_free)
        self.free += len(rows)
        rows = least_rows(judged.rows["hashes"], rows, MOST_SAMPLED)
        self._sample(
            judged.rows["hashes"][rows], {n: of[rows].astype(np.uint8) for n, of in bins.items()}
        )

    def merge(self, other: StageNumbers, place: int) -> None:
        """Adds the numbers of the file at a place."""
        for name, examples in other.ranked.items():
            if not self.is_full(name, place):
                self.rank(name, examples, _most(name))
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
    return (
        _MOST_KEPT if name == KEPT else _MOST_NEAR if name.startswith(NEAR) else _MOST_OF_A_REASON
    )


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
    hosts: Tally = field(default_factory=lambda: Tally("host", "outcome"))
    languages: Tally = field(default_factory=lambda: Tally("language", "outcome"))
    words_of_languages: Tally = field(default_factory=lambda: Tally("language", "words"))
    frequent_texts: Tally = field(default_factory=lambda: Tally("text"))
    kept_texts: Tally = field(default_factory=lambda: Tally("text"))
    without_hash: int = 0
    every: int = 1

    def of(self, stage: str) -> StageNumbers:
        """Those of the texts or the images."""
        return self.texts if stage == TEXTS else self.images

    def merge(self, other: Numbers, place: int) -> None:
        """Adds the numbers of the file at a place."""
        self.texts.merge(other.texts, place)
        self.images.merge(other.images, place)
        self.words += other.words
        self.without_hash += other.without_hash
        for name in ("hosts", "languages", "words_of_languages", "frequent_texts", "kept_texts"):
            getattr(self, name).merge(getattr(other, name))


@dataclass(frozen=True)
class Judging:
    """The rules of a dataset, as far as its rows tell of them.

    Attributes:
      numbers: the thresholds by flag; none of them is near where there are no rules.
      thumbnails: examples of a kind that a shard has images of.
      names_all: whether rows of dropped texts name all reasons that apply.
      verified: the column of the hashes that files were compared by, or "".
      read: how the columns of a file are read.
    """

    catalogue: Catalogue
    numbers: Mapping[str, Any]
    has_rules: bool = True
    text_only: bool = False
    thumbnails: int = 8
    names_all: bool = True
    verified: str = ""
    read: Callable[[str, pa.Schema, int], Iterator[pa.RecordBatch]] = read_columns

    def limits(self, stage: str) -> list[Limit]:
        """Those of a stage that the run had a number for."""
        entries = self.catalogue.texts if stage == TEXTS else self.catalogue.images
        if self.text_only and stage == IMAGES:
            return []
        return [limit for limit in limits(entries) if limit.name in self.numbers]

    @property
    def columns(self) -> pa.Schema:
        """The columns that are read of a file."""
        of = [*self.limits(TEXTS), *self.limits(IMAGES)]
        numbers = [*_SIDES, *(limit.measure.column for limit in of if limit.measure.column)]
        texts = [*_TEXTS, *_NEAREST, *([self.verified] if self.verified else [])]
        kinds = dict.fromkeys(numbers, pa.float64()) | dict.fromkeys(texts, pa.string())
        return pa.schema(kinds.items())

    def nothing(self) -> Numbers:
        """No numbers yet."""
        texts, images = (
            StageNumbers.nothing(of, axes_of(of, self.numbers))
            for of in (self.limits(TEXTS), self.limits(IMAGES))
        )
        return Numbers(texts, images)

    def rows(self, batch: pa.RecordBatch) -> Rows:
        """Values that limits compare."""
        sides = [
            numbers_of(pc.coalesce(batch[f"original_{name}"], batch[name]))
            for name in ("width", "height")
        ]
        captions = pc.fill_null(batch["caption"], "")
        rows = Rows(
            shorter=np.minimum(*sides),
            longer=np.maximum(*sides),
            word_count=measure_texts(captions, np.ones(len(batch), np.bool_)).word_count,
            foreign=_is_in(batch["reason"], {MIN_LANGUAGE_SCORE.reason}),
            hashes=key_hashes(hex_numbers(batch["key"])[0]),
            own_language_score=self.numbers.get(MIN_LANGUAGE_SCORE.name, 0.0),
        )
        for limit in (*self.limits(TEXTS), *self.limits(IMAGES)):
            if column := limit.measure.column:
                rows[column] = rows[limit.measure.axis] = numbers_of(batch[column])
        return rows

    def judged(self, stage: str, batch: pa.RecordBatch, rows: Rows, *, of_texts: bool) -> Judged:
        """Rows as a stage judged them.

        Args:
          of_texts: whether they are of a file of dropped texts; all others passed that stage.
        """
        own, reason = self.limits(stage), batch["reason"]
        is_kept, is_gone = _is_in(reason, {None}), _is_in(reason, {given.TAKEN_DOWN})
        of_limits = {limit.reason for limit in own}
        if stage == IMAGES:
            is_counted = _is_in(reason, {None, *of_limits, *STEPS_OF_COPIES})
        elif of_texts:
            is_counted = ~_is_in(reason, {given.TAKEN_DOWN, *_UNJUDGED_TEXTS})
        else:
            is_counted = is_kept = ~is_gone
        all_reasons = reason
        if stage == TEXTS and self.names_all:
            joined = pc.binary_join_element_wise(reason, batch["also_reasons"], ",")
            all_reasons = pc.coalesce(joined, reason)
        codes = all_reasons.dictionary_encode()
        sets = [set((name or "").split(",")) for name in codes.dictionary.to_pylist()]
        places = pc.fill_null(codes.indices, len(sets)).to_numpy()

        def have(answers: Iterable[bool]) -> Bools:
            """bool[n], of dropped rows, by the answer for each of `sets`."""
            return np.array([*answers, False])[places] & ~is_kept

        is_free = is_counted & ~have(not names <= of_limits for names in sets)
        against = {}
        for limit in own:
            against[limit.name] = have(limit.reason in names for names in sets)
            if limit.measure.dropped_only:  # no threshold would keep what has no value
                axis = Axis(limit.measure.axis, [self.numbers[limit.name]])
                is_free &= limit.bins(rows, axis) != axis.no_value
            elif stage == IMAGES or not self.names_all:
                against[limit.name] |= limit.dropped(rows, self.numbers) & ~is_kept
        return Judged(rows, is_kept, is_counted, is_free, against)


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
    whole = judging.nothing()
    whole.every = max(1, -(-rows // MOST_ROWS))
    files = files[:: whole.every]

    def read(file: tuple[int, str]) -> Numbers:
        try:
            return _read_file(*file, judging, whole)
        except BrokenInputError:  # which the exact counts name
            return judging.nothing()

    for place, part in enumerate(in_threads(read, enumerate(files))):
        whole.merge(part, place)
    return whole


def _read_file(place: int, path: str, judging: Judging, whole: Numbers) -> Numbers:
    """The numbers of a file; `whole` are those so far, whose lists of examples may be full."""
    part, folder = judging.nothing(), Path(path).parent.name
    of_texts = folder == "rejected" and stage_of(path) == TEXTS
    has_images = not of_texts and folder != "pairs"
    frequent, kept_texts = Tally("text"), Tally("text")
    for batch in judging.read(path, judging.columns, _LONGEST):
        rows, reason = judging.rows(batch), batch["reason"]
        texts = judging.judged(TEXTS, batch, rows, of_texts=of_texts)
        part.texts.add(texts)
        is_kept, is_counted = _is_in(reason, {None}), texts.is_counted
        judged = texts
        if has_images:
            judged = judging.judged(IMAGES, batch, rows, of_texts=False)
            part.images.add(judged)
            is_told = pa.array(
                ~_is_in(reason, NEVER_SHOWN)
            )  # of what is blocked, not even the host
            hosts = hosts_of(batch["url"].filter(is_told))
            part.hosts.add(hosts, pc.fill_null(reason, KEPT).filter(is_told))
        outcome, words = pc.fill_null(reason, KEPT), rows["word_count"]
        for at, which in enumerate((is_kept, ~is_kept)):
            bars = np.minimum(words[which & is_counted], SHOWN_WORDS)
            part.words[at] += np.bincount(bars, minlength=SHOWN_WORDS + 1)
        language = batch[LANGUAGE_COLUMNS[0]]
        if language.null_count < len(batch):
            among = pa.array(is_counted)
            language = pc.fill_null(language, UNDETERMINED).filter(among)
            part.languages.add(language, outcome.filter(among))
            bars = pa.array(np.minimum(words, MOST_WORDS)).cast(pa.string())
            part.words_of_languages.add(language, bars.filter(among))
        short = pc.utf8_slice_codeunits(pc.fill_null(batch["caption"], ""), 0, LONGEST_TEXT)
        kept_texts.add(short.filter(pa.array(is_kept & has_images)))
        is_frequent = _is_in(reason, {MAX_IMAGES_PER_TEXT.reason}) & of_texts
        frequent.add(short.filter(pa.array(is_frequent)))
        if judging.verified:
            has_hash = pc.fill_null(pc.utf8_trim_whitespace(batch[judging.verified]), "")
            part.without_hash += int(np.count_nonzero(is_kept & _is_in(has_hash, {""})))
        stage = IMAGES if has_images else TEXTS

        def is_full(name: str, stage: str = stage) -> bool:
            return whole.of(stage).is_full(name, place)

        _choose(part.of(stage), judging, stage, batch, judged, path, is_full)
    for of_file, total in ((frequent, part.frequent_texts), (kept_texts, part.kept_texts)):
        total.merge(of_file.only(of_file.first_totals()[0].slice(0, _TEXTS_OF_A_FILE)))
    return part


def _choose(
    own: StageNumbers,
    judging: Judging,
    stage: str,
    batch: pa.RecordBatch,
    judged: Judged,
    path: str,
    is_full: Callable[[str], bool],
) -> None:
    """Adds rows of a batch to the lists of examples: of each outcome those with the smallest
    hashes, twice as many of kept pairs; and those nearest to each threshold, on either side."""
    count = judging.thumbnails if stage == IMAGES else _OF_A_SPLIT
    own_limits = judging.limits(stage)
    if stage == IMAGES:
        own_limits += [of for of in judging.limits(TEXTS) if not of.measure.dropped_only]
    values = {limit.name: values_of(limit, judged.rows) for limit in own_limits}
    codes = pc.fill_null(batch["reason"], KEPT).dictionary_encode()
    places = codes.indices.to_numpy()
    is_shown = ~_is_in(batch["reason"], NEVER_SHOWN)
    hidden = pc.match_substring_regex(batch["also_reasons"], _ALSO_HIDDEN)
    is_shown &= ~pc.fill_null(hidden, False).to_numpy(False)
    choices = list[tuple[str, int, list[int], list[float]]]()
    for place, outcome in enumerate(codes.dictionary.to_pylist()[:_MOST_LISTS]):
        rows = np.flatnonzero((places == place) & is_shown)
        most = count * (1 + (outcome == KEPT and stage == IMAGES))
        if not is_full(outcome):
            chosen = least_rows(judged.rows["hashes"], rows, most)
            choices.append((outcome, most, chosen.tolist(), [0.0] * len(chosen)))
        for limit in own_limits if judging.has_rules else ():
            name = f"{NEAR}{limit.name} {outcome}"
            sides = (KEPT, limit.reason) if stage == IMAGES else (limit.reason,)
            if outcome in sides and not is_full(name):
                ranks = np.abs(values[limit.name] - judging.numbers[limit.name])
                most = max(1, count // 2) if stage == IMAGES else count
                chosen = nearest_rows(ranks, judged.rows["hashes"], rows, most)
                choices.append((name, most, chosen.tolist(), ranks[chosen].tolist()))
    all_rows = sorted({row for _, _, rows, _ in choices for row in rows})
    columns = batch.take(pa.array(all_rows, pa.int64())).to_pylist()
    examples = {
        row: _example(
            columns[at],
            int(judged.rows["hashes"][row]),
            path,
            {limit.measure.axis: float(values[limit.name][row]) for limit in own_limits},
        )
        for at, row in enumerate(all_rows)
    }
    for name, most, picks, nearness in choices:
        ranked = [(rank, examples[row]) for row, rank in zip(picks, nearness, strict=True)]
        own.rank(name, ranked, most)


def _example(row: Mapping[str, Any], hash_: int, path: str, values: Mapping[str, float]) -> Example:
    sides = [row[f"original_{name}"] or row[name] or 0 for name in ("width", "height")]
    width, height = (int(side) if 0 < side < 1 << 31 else 0 for side in sides)
    return Example(
        key=row["key"] or "",
        url=cut(row["url"], LONGEST_URL),
        caption=cut(row["caption"], LONGEST_TEXT),
        reason=row["reason"] or "",
        detail=row["detail"] or "",
        width=width,
        height=height,
        values={name: round(of, 6) for name, of in values.items() if math.isfinite(of)},
        near="/".join(row[name] or "" for name in _NEAREST) if row[_NEAREST[1]] else "",
        path=path,
        hash=hash_,
    )


# ---- Other thresholds ------------------------------------------------------------------------


@dataclass
class Kept:
    """How many pairs other thresholds keep.

    Attributes:
      pairs: that are kept now. out: how many of them would go. dropped: rows of `rejected/`.
      texts, images: how many would come that the rules of texts, and of images, dropped.
      known: by rule, how many rows have a value that it compares.
    """

    pairs: int = 0
    dropped: int = 0
    out: int = 0
    texts: int = 0
    images: int = 0
    known: Counter[str] = field(default_factory=Counter)

    @property
    def then(self) -> int:
        return self.pairs - self.out + self.texts + self.images


def count_kept(files: Sequence[str], judging: Judging, thresholds: Mapping[str, float]) -> Kept:
    """Counts the pairs that rules with other thresholds keep: any combination of them.

    A row that was dropped comes back where nothing but limits is against it, and it passes all:
    a rule with another threshold by its value, any other by what the run said.

    Raises:
      BrokenInputError: a file cannot be read.
    """

    def passes(judged: Judged, stage: str, kept: Kept) -> Bools:
        passed = judged.is_free.copy()
        for limit in judging.limits(stage):
            bound = thresholds.get(limit.name, judging.numbers[limit.name])
            axis = Axis(limit.measure.axis, [limit.edge(bound)])
            bins = limit.bins(judged.rows, axis)
            kept.known[limit.name] += int(np.count_nonzero(bins != axis.no_value))
            if limit.name in thresholds:
                passed &= axis.passes(bins, axis.edges[0], beyond=limit.beyond)
            else:
                passed &= ~judged.against[limit.name]
        return passed

    def count(path: str) -> Kept:
        kept, folder = Kept(), Path(path).parent.name
        of_texts = folder == "rejected" and stage_of(path) == TEXTS
        for batch in judging.read(path, judging.columns, _LONGEST):
            rows, is_kept = judging.rows(batch), _is_in(batch["reason"], {None})
            texts = judging.judged(TEXTS, batch, rows, of_texts=of_texts)
            passed = passes(texts, TEXTS, kept)
            if folder != "pairs" and not of_texts:
                images = judging.judged(IMAGES, batch, rows, of_texts=False)
                passed &= passes(images, IMAGES, kept)
            kept.pairs += int(np.count_nonzero(is_kept))
            kept.dropped += int(np.count_nonzero(~is_kept))
            kept.out += int(np.count_nonzero(is_kept & ~passed))
            come = int(np.count_nonzero(~is_kept & passed))
            if of_texts:
                kept.texts += come
            else:
                kept.images += come
        return kept

    whole = Kept()
    for part in in_threads(count, files):
        for name in ("pairs", "dropped", "out", "texts", "images", "known"):
            setattr(whole, name, getattr(whole, name) + getattr(part, name))
    return whole
