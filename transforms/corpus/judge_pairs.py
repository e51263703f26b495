"""The second reading of the corpus: each pair judged by its URL and alt-text, given the corpus-wide
counts."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.columns.carried import carried_columns
from alignset.transforms.columns.hashing import Bools, HashSet, UInt64s, is_member
from alignset.transforms.columns.kernels import kernel
from alignset.transforms.columns.pair_columns import LANGUAGE_COLUMNS, OF_PAGES, OPT_OUTS, PAGE_URL
from alignset.transforms.columns.records import (
    REJECTED,
    clear_contents,
    extend_schema,
    key_column,
    pages_of,
    rejected_rows,
)
from alignset.transforms.corpus.concepts import (
    CONCEPTS,
    LISTED_CONCEPTS,
    ConceptCounts,
    is_beyond_concepts,
    open_concepts,
)
from alignset.transforms.corpus.count_pairs import ReadSplit
from alignset.transforms.corpus.hash_counts import UInt8s, hash_with_language, language_numbers
from alignset.transforms.pairs.measure_pairs import NGrams, Pairs, is_remembered, measure, recalled
from alignset.transforms.pairs.text_kernels import ngram_count
from alignset.transforms.pairs.texts import measure_texts
from alignset.transforms.rules import given
from alignset.transforms.rules.catalogue import step_of
from alignset.transforms.rules.custom import computed
from alignset.transforms.rules.given import BROKEN_INPUT
from alignset.transforms.rules.rule import Rows, Stage
from alignset.transforms.rules.rule_settings import RuleSettings
from alignset.transforms.rules.thresholds import (
    MAX_PAIRS_PER_CONCEPT,
    MAX_WORDS,
    MIN_LANGUAGE_SCORE,
    MIN_WORDS,
)
from alignset.transforms.rules.verdicts import column_rows, faults, first_of, further_of, user_rows
from alignset.transforms.storage.blocks import (
    BUCKET,
    Blocks,
    Bucket,
    is_there,
    numbered,
    remove,
    unpack,
    unpack_each,
)
from alignset.transforms.storage.broken_files import BrokenFile
from alignset.transforms.storage.documents import Counts
from alignset.transforms.storage.files import is_local, local_copy
from alignset.transforms.storage.parquet_files import RowWriter, parquet_file
from alignset.transforms.workers.stages import ThreadedDoFn
from alignset.transforms.workers.threads import map_in_threads


@kernel
def _find_rare(texts, alive, vocabulary, rare):  # type: ignore[no-untyped-def]
    ngrams, first, word_count = texts
    for row in range(len(rare)):
        rare[row] = False
        if alive[row]:
            for at in range(first[row], first[row] + ngram_count(word_count[row])):
                if not is_member(vocabulary, ngrams[at]):
                    rare[row] = True
                    break


def has_rare_token(
    pairs: Pairs, alive: Bools, vocabulary: HashSet, numbers: UInt8s | None = None
) -> Bools:
    """Whether any n-gram of each text is outside the vocabulary: bool[n].

    Args:
      alive: bool[n], the pairs to judge; others get False.
      numbers: of their languages, as for `hash_with_language`.

    Source: ALIGN (Jia et al., 2021), section 3, "rare tokens".
    """
    if not len(vocabulary):
        return alive & (pairs.word_count > 0)
    ngrams, words = pairs.ngrams, pairs.word_count
    if ngrams is None:
        texts = measure_texts(pairs.text, alive, words)
        ngrams, words = NGrams(texts.ngrams, texts.first_ngram), texts.word_count
    hash_with_language(ngrams, words, numbers)
    rare = np.empty(len(alive), np.bool_)
    _find_rare((ngrams.hashes, ngrams.first, words), alive, vocabulary.table, rare)
    return rare


# Which blocklist each pair is on, or null, string[n]; by URLs and kept texts (string[n], no nulls),
# keys (uint64[n]) and how many words each text has (int32[n]).
FindBlocked = Callable[
    [pa.StringArray, pa.StringArray, UInt64s, "npt.NDArray[np.int32] | None"], pa.StringArray
]


@dataclass(frozen=True)
class Blocking:
    """How pairs on a blocklist are found, and whether to write neither their URLs nor texts."""

    find: FindBlocked
    forget: bool = False


class CorpusSets(NamedTuple):
    """Results of the counts over the whole corpus."""

    frequent_texts: HashSet
    crowded_images: HashSet
    vocabulary: HashSet | None  # None where every n-gram is in it
    concepts: ConceptCounts | None = None  # None where nothing is balanced
    removed_before: HashSet | None = None  # keys; None where nothing was taken down


def text_rows(
    pairs: Pairs,
    corpus: CorpusSets,
    repeats: Bools,
    foreign: Bools,
    on_list: Bools,
    numbers: UInt8s | None = None,
) -> Rows:
    """Values of n pairs that the rules of texts judge.

    Args:
      corpus: what is frequent and what is rare over the whole corpus.
      repeats: bool[n], whether another row is the one that stands for this pair.
      foreign: bool[n], whether the text is in a language that is not wanted.
      on_list: bool[n], whether the pair is on a blocklist.
      numbers: uint8[n], of their languages, where a vote found them.
    """

    def has_ngram_outside(vocabulary: HashSet, alive: Bools) -> Bools:
        return has_rare_token(pairs, alive, vocabulary, numbers)

    def is_beyond(concepts: ConceptCounts, alive: Bools) -> Bools:
        return is_beyond_concepts(pairs, alive, concepts, numbers)

    return Rows(
        {
            given.BROKEN_INPUT: _is_one_of(pairs.malformed, given.INPUT_FAULTS),
            given.BROKEN_PAGE: _is_one_of(pairs.malformed, given.PAGE_FAULTS),
            given.OPTED_OUT: _is_one_of(pairs.malformed, OPT_OUTS),
            given.MALFORMED_PAIR: ~pairs.usable(),
            given.REMOVED_BEFORE: np.zeros(len(pairs.key), np.bool_)
            if corpus.removed_before is None
            else corpus.removed_before.contains(pairs.key),
            given.BLOCKED: on_list,
            given.DUPLICATE_PAIR: repeats,
        },
        foreign=foreign,
        word_count=pairs.word_count,
        text_hash=pairs.text_hash,
        url_hash=pairs.url_hash,
        corpus=corpus._asdict(),
        has_ngram_outside=has_ngram_outside,
        is_beyond_concepts=is_beyond,
    )


def _is_one_of(faults: pa.StringArray, names: Sequence[str]) -> Bools:
    """Which rows stand for a file or page that could not be read: bool[n]."""
    if faults.null_count == len(faults):
        return np.zeros(len(faults), np.bool_)
    answer = pc.is_in(faults, value_set=pa.array(names))
    return answer.to_numpy(zero_copy_only=False)


class JudgeBatch:
    """Judges numbered batches of one split; called from several threads."""

    def __init__(
        self,
        rules: RuleSettings,
        corpus: CorpusSets,
        repeats: npt.NDArray[np.uint32],
        languages: pa.RecordBatch,
        blocking: Blocking | None = None,
    ) -> None:
        self.rules, self.corpus, self.blocking = rules, corpus, blocking
        self.repeats, self.languages = repeats, languages
        self.schema = extend_schema(REJECTED, rules.written_columns)
        own = rules.computing(Stage.TEXT)
        self._columns = [*dict.fromkeys(limit.measure.column for limit in own)]

    def __call__(
        self, numbered_batch: tuple[int, pa.RecordBatch]
    ) -> tuple[int, pa.RecordBatch, pa.RecordBatch]:
        """How many rows there are, the kept, and the dropped as they are written down."""
        first, batch = numbered_batch
        pairs = recalled(batch) if is_remembered(batch) else measure(batch)
        low, high = np.searchsorted(self.repeats, [first, first + len(batch)])
        repeats = np.zeros(len(batch), np.bool_)
        repeats[self.repeats[low:high].astype(np.int64) - first] = True
        foreign, of_language = self._languages(first, len(batch))
        list_details = pa.nulls(len(batch), pa.string())  # which blocklist each is on, or null
        if self.blocking is not None:
            list_details = self.blocking.find(pairs.url, pairs.text, pairs.key, pairs.word_count)
        on_list = list_details.is_valid().to_numpy(zero_copy_only=False)
        has_vote = self.rules.has_vote
        numbers = language_numbers(of_language["language"]) if has_vote else None
        rows = text_rows(pairs, self.corpus, repeats, foreign, on_list, numbers)
        if numbers is not None and self.rules.words_per_language:
            words = self.rules.word_limits
            own_limits = np.array((words[0], *words))[numbers]  # the first is of no language
            rows |= {MIN_WORDS.name: own_limits[:, 0], MAX_WORDS.name: own_limits[:, 1]}
        carried_values = carried_columns(batch, self.rules.carried)
        rows |= column_rows(self.rules.catalogue.texts, carried_values)
        failed_rule = self._ask_custom(rows, pairs, of_language, carried_values)
        verdicts = faults(self.rules.catalogue.texts, rows, self.rules.numbers)
        why = first_of(verdicts)
        failed_rule = pc.if_else(pc.equal(why, given.RULE_FAILED), failed_rule, None)
        list_details = pc.if_else(pc.equal(why, given.BLOCKED), list_details, None)
        detail, score = pc.coalesce(pairs.malformed, list_details, failed_rule), None
        if len(of_language):
            is_language = pc.equal(why, MIN_LANGUAGE_SCORE.reason)
            detail = pc.if_else(is_language, of_language["language"], detail)
            score = pc.if_else(is_language, of_language["score"], pa.scalar(None, pa.float64()))
        own = {name: pa.array(rows[name], from_pandas=True) for name in self._columns}
        if has_vote:
            own |= zip(LANGUAGE_COLUMNS, of_language.select(["language", "votes"]), strict=True)
        columns = {"key": pairs.key, "url": pairs.url, "caption": pairs.text}
        if pairs.page is not None:
            columns[PAGE_URL] = pairs.page
        columns |= {n: batch[n] for n in batch.schema.names if n.startswith("source_")}
        pair_rows = pa.record_batch({**columns, **own})
        # A report shows nothing of a list, whatever else its pairs were dropped for.
        also_reasons = further_of(verdicts, pairs.usable() | on_list)
        measures = {"also_reasons": also_reasons, "language_score": score, **own, **carried_values}
        for name, of in OF_PAGES.items():
            if of in batch.schema.names:
                measures[name] = batch[of]
        rejects = rejected_rows(
            pair_rows, why, detail, step_of(self.rules.catalogue.texts), measures, self.schema
        )
        # Whatever else they were dropped for, such as an opt-out of their page.
        forgotten = rows[given.REMOVED_BEFORE]
        if self.blocking is not None and self.blocking.forget:
            forgotten = forgotten | on_list
        rejects = clear_contents(rejects, pa.array(forgotten).filter(why.is_valid()))
        return len(batch), pair_rows.filter(why.is_null()), rejects

    def _ask_custom(
        self,
        rows: Rows,
        pairs: Pairs,
        of_language: pa.RecordBatch,
        carried: Mapping[str, pa.Array],
    ) -> pa.StringArray:
        """Adds what rules of users measure of the texts; which of them failed, or null."""
        rows[given.RULE_FAILED] = np.zeros(len(pairs.key), np.bool_)
        limits = self.rules.computing(Stage.TEXT)
        if not limits:
            return pa.nulls(len(pairs.key), pa.string())
        failed_rule = np.full(len(pairs.key), None)
        usable = np.flatnonzero(pairs.usable())
        nothing = pa.nulls(len(pairs.key), pa.string())
        columns = dict(carried) if self.rules.files else {}
        columns |= {"text": pairs.text, "url": pairs.url, "word_count": pa.array(pairs.word_count)}
        columns["language"] = of_language["language"] if len(of_language) else nothing
        where = pa.array(usable)
        inputs = user_rows(self.rules, {name: of.take(where) for name, of in columns.items()})
        for limit in limits:
            values, failures = computed(limit, inputs, len(usable))
            inputs[limit.measure.column] = values
            rows[limit.measure.column] = np.full(len(failed_rule), np.nan)
            rows[limit.measure.column][usable] = values
            failed_rule[usable[failures]] = limit.name
            rows[given.RULE_FAILED][usable[failures]] = True
        return pa.array(failed_rule, pa.string())

    def _languages(self, first: int, size: int) -> tuple[Bools, pa.RecordBatch]:
        """Which rows of a batch are in a language that is not wanted: bool[size]; and the columns
        of `languages`, null where nothing was found; without a vote perhaps no rows."""
        rows = self.languages["row"].to_numpy()
        low, high = np.searchsorted(rows, [first, first + size])
        foreign = np.zeros(size, np.bool_)
        if low == high and not self.rules.has_vote:
            return foreign, self.languages.slice(0, 0)
        here = rows[low:high].astype(np.int64) - first
        place, nothing = np.zeros(size, np.int64), np.ones(size, np.bool_)
        place[here], nothing[here] = np.arange(low, high), False
        of_language = self.languages.take(pa.array(place, mask=nothing))
        foreign[here] = self.rules.is_foreign(self.languages["language"][low:high])
        return foreign, of_language


LOG = logging.getLogger("alignset")
FOUND = pa.schema(
    [
        ("row", pa.uint32()),
        ("language", pa.string()),
        ("score", pa.float64()),
        ("votes", pa.string()),
    ]
)
PAIRS = pa.schema([(n, pa.string()) for n in ("key", "url", "caption", PAGE_URL, *OF_PAGES)])
PROGRESS_S = 10.0  # between two lines of a process
BATCHES_PER_BLOCKS = 16  # batches of kept pairs that share a file on their way


class _Progress:
    """Logs now and then what this process has judged: an input may have a million splits."""

    def __init__(self) -> None:
        self._kept = self._seen = 0
        self._last = time.monotonic()

    def add(self, kept: int, seen: int) -> None:
        self._kept += kept
        self._seen += seen
        if time.monotonic() - self._last >= PROGRESS_S:
            self._last = time.monotonic()
            LOG.info("texts so far: %s of %s pairs kept", f"{self._kept:,}", f"{self._seen:,}")


_PROGRESS = _Progress()


class _Judge(ThreadedDoFn):
    def __init__(self, transform: JudgePairs) -> None:
        self.read, self.blocks, self.rules = transform.read, transform.blocks, transform.rules
        self.out, self.plan = transform.out, transform.plan
        self.blocking = transform.blocking
        self.scratch = transform.work if is_local(transform.out) else None

    def take(self, element: tuple[int, Mapping[str, Any]]) -> tuple[int, Mapping[str, Any]]:
        return element[0], {name: list(values) for name, values in element[1].items()}

    def work(
        self, element: tuple[int, Mapping[str, Any]], sets: Mapping[str, str]
    ) -> Iterator[Any]:
        split_id, parts = element
        for split in parts["split"]:  # a repeated row's split is always there, exactly once
            corpus = _open_sets(sets, self.rules)
            rows = [unpack(block)["row"].to_numpy() for block in parts["repeated"]]
            repeats = np.sort(np.concatenate(rows)) if rows else np.zeros(0, np.uint32)
            found = pa.Table.from_batches(map(unpack, parts["languages"]), FOUND).sort_by("row")
            columns = [column.combine_chunks() for column in found.columns]
            languages = pa.record_batch(columns, schema=FOUND)
            # By the first reading, where all share a disk; gone where this work is done again.
            block = next((block for block in parts["measured"] if is_there(block)), None)
            judge = JudgeBatch(self.rules, corpus, repeats, languages, self.blocking)
            batches = self.read(split) if block is None else unpack_each(block)
            judged = _Judged(map_in_threads(judge, numbered(batches)))
            path = f"{self.out}/rejected/text-{split_id:05d}.parquet"
            with parquet_file(path, judge.schema, self.scratch) as rejects:
                yield from self._keep(split_id, judged.kept_rows(rejects))
            if block is not None:
                remove(block)  # 200 bytes a pair of cached pages, for the next file to have
            _PROGRESS.add(judged.kept, judged.seen)
            counts = Counts(judged.seen, judged.kept, dict(judged.dropped))
            yield beam.pvalue.TaggedOutput("counts", counts)
            for file in judged.broken_files:
                yield beam.pvalue.TaggedOutput("broken", file)

    def _keep(self, split_id: int, batches: Iterator[pa.RecordBatch]) -> Iterator[Bucket]:
        if self.plan:
            while group := list(islice(batches, BATCHES_PER_BLOCKS)):
                names = [n for n in group[0].schema.names if n not in self.rules.computed_columns]
                group = [batch.select(names) for batch in group if len(batch)]
                for block in self.blocks.pack(group):
                    yield split_id, block
            return
        path = f"{self.out}/pairs/{split_id:05d}.parquet"
        of_texts = {limit.measure.column for limit in self.rules.computing(Stage.TEXT)}
        others = {*self.rules.computed_columns} - of_texts
        names = [name for name in self.rules.measured_columns if name not in others]
        schema = extend_schema(PAIRS, [*names, *self.rules.carried])
        with parquet_file(path, schema, self.scratch) as file:
            for rows in batches:
                key = key_column(rows["key"].to_numpy())
                columns = [key, rows["url"], rows["caption"], pages_of(rows)]
                said = [rows[of] if of in rows.schema.names else None for of in OF_PAGES.values()]
                columns += [pa.nulls(len(rows), pa.string()) if of is None else of for of in said]
                columns += [rows[name] for name in names]
                columns += carried_columns(rows, self.rules.carried).values()
                file.write(pa.record_batch(columns, schema=schema))


class _Judged:
    """The judged batches of a split, as `JudgeBatch` gives them, and what came of its pairs."""

    def __init__(self, batches: Iterator[tuple[int, pa.RecordBatch, pa.RecordBatch]]) -> None:
        self._batches = batches
        self.seen = self.kept = 0
        self.dropped: Counter[str] = Counter()
        self.broken_files: list[BrokenFile] = []

    def kept_rows(self, rejects: RowWriter) -> Iterator[pa.RecordBatch]:
        """The kept rows of each batch; the others are written down, and all are counted."""
        for size, keep, drop in self._batches:
            rejects.write(drop)
            self.seen, self.kept = self.seen + size, self.kept + len(keep)
            for of_reason in pc.value_counts(drop["reason"]).to_pylist():
                self.dropped[of_reason["values"]] += of_reason["counts"]
            broken = drop.filter(pc.equal(drop["reason"], BROKEN_INPUT))
            columns = (broken[name].to_pylist() for name in ("url", "detail", "caption"))
            self.broken_files += map(BrokenFile, *columns)
            yield keep


def _open_sets(paths: Mapping[str, str], rules: RuleSettings) -> CorpusSets:
    """The files that `JudgePairs.sets` names."""
    sets = {name: _open_set(path) for name, path in paths.items() if not name.startswith(CONCEPTS)}
    corpus = CorpusSets(**sets)  # type: ignore[arg-type]
    limit = rules.numbers.get(MAX_PAIRS_PER_CONCEPT.name)
    if not limit:
        return corpus
    (name, path) = next(item for item in paths.items() if item[0].startswith(CONCEPTS))
    return corpus._replace(concepts=open_concepts(path, int(limit), name == LISTED_CONCEPTS))


@lru_cache(maxsize=8)
def _open_set(path: str) -> HashSet | None:
    return HashSet.open(local_copy(path)) if path else None


@dataclass(eq=False)
class JudgePairs(beam.PTransform):
    """Judges every pair; writes the dropped ones, and the kept ones where there is no plan.

    Input: (split, {"split": [split], "repeated": blocks, "languages": blocks, "measured":
    [block]}); the last leads to files that are removed once the split is judged. Where it is empty,
    or its files are gone, the split is read and measured again.
    Outputs: `kept` (split, blocks of key, url, caption and perhaps page_url and source_*), `counts`
    (`Counts` of each split), `broken` (`BrokenFile`s).

    Args:
      sets: a singleton, the path of the file of each field of `CorpusSets`; an empty one where
        every n-gram is in the vocabulary. Concepts may be `LISTED_CONCEPTS`.
      out: the output folder.
      work: a folder in it for files that are being written, where it is local.
      plan: whether kept pairs continue to shards; else they are written to `pairs/`.
      blocking: None where there is no blocklist.
    """

    read: ReadSplit
    blocks: Blocks
    rules: RuleSettings
    sets: beam.PCollection
    out: str
    work: str
    plan: bool
    blocking: Blocking | None = None

    def expand(self, splits: beam.PCollection) -> Any:
        judge = beam.ParDo(_Judge(self), beam.pvalue.AsSingleton(self.sets))
        outputs = splits | judge.with_outputs("counts", "broken", main="kept")
        outputs["kept"].element_type = BUCKET
        return outputs
