"""One batch of pairs, judged by its URLs and alt-texts, given the corpus-wide counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.columns.carried import carried_columns
from alignset.transforms.columns.hashing import Bools, UInt64s
from alignset.transforms.columns.kernels import kernel
from alignset.transforms.columns.pair_columns import LANGUAGE_COLUMNS, OPT_OUTS, PAGE_URL
from alignset.transforms.columns.records import key_hashes
from alignset.transforms.columns.rejects import (
    REJECTED,
    rejected_rows,
    with_columns,
    without_contents,
)
from alignset.transforms.corpus.concepts import ConceptCounts, is_beyond_concepts
from alignset.transforms.corpus.hash_sets import HashSet, is_member
from alignset.transforms.corpus.language_ngrams import UInt8s, hash_with_language, language_numbers
from alignset.transforms.corpus.remembered import is_remembered, recalled
from alignset.transforms.pairs.measure_pairs import NGrams, Pairs, measure
from alignset.transforms.pairs.text_kernels import ngram_count
from alignset.transforms.pairs.texts import measure_texts
from alignset.transforms.rules import given
from alignset.transforms.rules.catalogue import step_of
from alignset.transforms.rules.custom import computed
from alignset.transforms.rules.language import MIN_LANGUAGE_SCORE
from alignset.transforms.rules.rule import Rows, Stage
from alignset.transforms.rules.rule_settings import RuleSettings
from alignset.transforms.rules.verdicts import column_rows, faults, first_of, further_of
from alignset.transforms.rules.words import MAX_WORDS, MIN_WORDS


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
        shares: Mapping[int, float] | None = None,
    ) -> None:
        self.rules, self.corpus, self.blocking = rules, corpus, blocking
        self.repeats, self.languages, self.shares = repeats, languages, shares
        self.schema = with_columns(REJECTED, rules.written_columns)
        own = rules.computing(Stage.TEXT)
        self._columns = [*dict.fromkeys(limit.measure.column for limit in own)]

    def __call__(
        self, numbered_batch: tuple[int, pa.RecordBatch]
    ) -> tuple[int, pa.RecordBatch, pa.RecordBatch]:
        """How many rows there are, the kept, and the dropped as they are written down."""
        first, batch = numbered_batch
        pairs = recalled(batch) if is_remembered(batch) else measure(batch)
        repeats = _mark_rows(self.repeats, first, len(batch))
        foreign, of_language = self._languages(first, len(batch))
        list_details = pa.nulls(len(batch), pa.string())  # which blocklist each is on, or null
        if self.blocking is not None:
            list_details = self.blocking.find(pairs.url, pairs.text, pairs.key, pairs.word_count)
        on_list = list_details.is_valid().to_numpy(zero_copy_only=False)
        has_vote = self.rules.has_vote
        numbers = language_numbers(of_language["language"]) if has_vote else None
        rows = text_rows(pairs, self.corpus, repeats, foreign, on_list, numbers)
        rows |= self._judge_languages(numbers, pairs.key)
        carried_values = carried_columns(batch, self.rules.carried)
        rows |= column_rows(self.rules.catalogue.texts, carried_values)
        failed_rule = self._ask_custom(rows, pairs)
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
        rejects = rejected_rows(
            pair_rows, why, detail, step_of(self.rules.catalogue.texts), measures, self.schema
        )
        # Whatever else they were dropped for, such as an opt-out of their page.
        forgotten = rows[given.REMOVED_BEFORE]
        if self.blocking is not None and self.blocking.forget:
            forgotten = forgotten | on_list
        rejects = without_contents(rejects, pa.array(forgotten).filter(why.is_valid()))
        return len(batch), pair_rows.filter(why.is_null()), rejects

    def _judge_languages(self, numbers: UInt8s | None, keys: UInt64s) -> dict[str, Any]:
        """Values of rows by language that the rules judge: their limits of words, and which of them
        are too many."""
        columns: dict[str, Any] = {}
        if numbers is None:
            return columns
        words = self.rules.word_limits
        if self.rules.words_per_language:
            own = np.array((words[0], *words))[numbers]  # the first is of no language
            columns |= {MIN_WORDS.name: own[:, 0], MAX_WORDS.name: own[:, 1]}
        if self.shares is not None:
            shares = np.zeros(256)
            shares[list(self.shares)] = list(self.shares.values())
            # Of 53 bits of its hash a double is exact.
            places = (key_hashes(keys) >> np.uint64(11)) * 2.0**-53
            columns[given.BEYOND_LANGUAGE_SIZE.reason] = places >= shares[numbers]
        return columns

    def _ask_custom(self, rows: Rows, pairs: Pairs) -> pa.StringArray:
        """Adds what rules of users measure of the texts; which of them failed, or null."""
        rows[given.RULE_FAILED] = np.zeros(len(pairs.key), np.bool_)
        limits = self.rules.computing(Stage.TEXT)
        if not limits:
            return pa.nulls(len(pairs.key), pa.string())
        failed_rule = np.full(len(pairs.key), None)
        usable = np.flatnonzero(pairs.usable())
        texts = pairs.text.take(pa.array(usable)).to_pylist()
        for limit in limits:
            values, failures = computed(limit, Rows(text=texts), len(texts))
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


def _mark_rows(rows: npt.NDArray[np.uint32], first: int, size: int) -> Bools:
    low, high = np.searchsorted(rows, [first, first + size])
    marks = np.zeros(size, np.bool_)
    marks[rows[low:high].astype(np.int64) - first] = True
    return marks
