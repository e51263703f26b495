"""The recipe, in the paper's order: pages and texts. `curate_images.py` has the image stage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import apache_beam as beam

from alignset.pipeline.command import Command
from alignset.pipeline.inputs.readers import read_split
from alignset.pipeline.inputs.splits import Split
from alignset.pipeline.job import Job
from alignset.pipeline.runs.engine import everywhere
from alignset.pipeline.runs.work_folder import PageSummary, TextSummary, WorkFolder
from alignset.transforms.blocklists.blocklists import NO_LISTS, Blocklists
from alignset.transforms.corpus.concepts import (
    CONCEPTS,
    LISTED_CONCEPTS,
    WriteConcepts,
    listed_concepts,
)
from alignset.transforms.corpus.corpus_documents import HashFile, VocabularySummary
from alignset.transforms.corpus.count_pairs import (
    CountPairs,
    FindDistinctPairs,
    FindFrequent,
    ReadSplit,
)
from alignset.transforms.corpus.count_spread import add_spreads
from alignset.transforms.corpus.judge_batch import Blocking
from alignset.transforms.corpus.judge_pairs import JudgePairs
from alignset.transforms.corpus.language_ngrams import shares_like, texts_by_language
from alignset.transforms.corpus.vocabulary import BuildVocabulary
from alignset.transforms.corpus.write_hash_sets import WriteHashSets
from alignset.transforms.pages.page_counts import add_page_counts
from alignset.transforms.pages.page_files import PageFiles
from alignset.transforms.pairs.hold_out import HoldOut
from alignset.transforms.shards.plan_shards import PlanShards
from alignset.transforms.shards.shard_places import HOLDOUT
from alignset.transforms.storage.blocks import Blocks
from alignset.transforms.storage.broken_files import sum_up
from alignset.transforms.workers.counts import add_counts
from alignset.transforms.workers.packages import CheckWorker, deciding
from alignset.transforms.workers.summaries import WriteSummary


@dataclass(frozen=True)
class Places:
    """Where a run keeps what it works with.

    Args:
      out: the output folder. work: a folder in it, gone when the run ends.
      blocks: how blocks of hashes cross the shuffles.
      blocklists: what must not be in the dataset. removed_before: the file of the keys of pairs
        that must not, "" where there are none.
    """

    out: str
    work: WorkFolder
    blocks: Blocks
    blocklists: Blocklists = NO_LISTS
    removed_before: str = ""


def parse_pages(
    pipeline: beam.Pipeline, parts: Sequence[PageFiles], command: Command, places: Places
) -> None:
    """Web pages to pairs, each page once; what was counted is left beside them."""
    from alignset.transforms.pages.parse_pages import ParsePages  # needs the extra pages

    skip_broken = command.job.on_broken_input == "skip"
    parse = ParsePages(places.work.pages, skip_broken, command.fetch)
    items = pipeline | "Parts" >> beam.Create(list(enumerate(parts)))
    groups = items | "SpreadParts" >> beam.GroupByKey() | "Part" >> beam.MapTuple(_only)
    counts = groups | "CheckParser" >> beam.ParDo(CheckWorker(deciding("pages"))) | parse
    pipeline | "PageSummary" >> WriteSummary(
        places.work.page_summary, PageSummary, sums={"counts": (counts, add_page_counts)}
    )


def curate_texts(
    pipeline: beam.Pipeline,
    splits: Sequence[Split],
    command: Command,
    places: Places,
    buckets: int,
    vocabulary: HashFile | None = None,
) -> None:
    """The text stage: everything that needs only URL and alt-text.

    Goes through the corpus twice: once to count, once to judge. Where workers share a disk, the
    first reading leaves there what it measured, and the input itself is read once.

    Args:
      vocabulary: what to filter with in place of this corpus's own.
    """
    job = command.job
    skip_broken = job.on_broken_input == "skip"
    read = partial(read_split, batch_rows=job.batch_rows, skip_broken=skip_broken)
    numbered_splits = pipeline | "Splits" >> beam.Create(list(enumerate(splits)))
    # A group of one each: what follows runs wherever there is a worker.
    spread_splits = (
        numbered_splits | "SpreadSplits" >> beam.GroupByKey() | "Split" >> beam.MapTuple(_only)
    )
    packages = deciding(command.rules.language_rule.voter)
    spread_splits = spread_splits | "CheckReader" >> beam.ParDo(CheckWorker(packages))

    judge_outputs, corpus, rows_read = judge_texts(
        numbered_splits, spread_splits, read, command, places, buckets, vocabulary
    )
    result = {"vocabulary": corpus.summary, "vocabulary_file": corpus.file}
    sums: dict[str, Any] = {
        "rows_read": (rows_read, sum),
        "counts": (judge_outputs["counts"], add_counts),
        "broken": (judge_outputs["broken"], sum_up),
        "images_per_text": (corpus.images_per_text, add_spreads),
        "texts_per_image": (corpus.texts_per_image, add_spreads),
    }
    if not job.text_only:  # the summary waits for the plan: where it is, the plan is whole
        result["shards"], stored = plan_shards(pipeline, judge_outputs, job, places)
        sums["stored"] = (stored, sum)
    pipeline | "TextSummary" >> WriteSummary(places.work.text_summary, TextSummary, result, sums)


def judge_texts(
    numbered_splits: beam.PCollection,
    spread_splits: beam.PCollection,
    read: ReadSplit,
    command: Command,
    places: Places,
    buckets: int,
    vocabulary: HashFile | None = None,
) -> tuple[Any, CorpusOutputs, beam.PCollection]:
    """Counts over all pairs, then judges each.

    Args:
      numbered_splits: (number, split), read by `read`.
      spread_splits: the same, wherever there is a worker.

    Returns:
      the outputs of `JudgePairs`, what the counts found, and how many rows each split has.
    """
    rules, blocks = command.rules, places.blocks
    count_outputs = spread_splits | CountPairs(
        read, blocks, rules.language_rule, buckets, ngrams=not vocabulary
    )
    pairs = count_outputs["pairs"] | FindDistinctPairs(blocks, buckets)
    language, counts, shares = rules.language_rule, None, None
    if language.has_vote:
        counts = pairs["languages"] | "Languages" >> beam.CombineGlobally(sum)
    if language.like:
        shares = counts | "Shares" >> beam.Map(shares_like, language.like)
    corpus = _corpus(count_outputs, pairs, command, places, buckets, vocabulary, counts)
    repeats = (count_outputs["repeated"], pairs["repeated"]) | "Repeated" >> beam.Flatten()
    judge_outputs = (
        {
            "split": numbered_splits,
            "repeated": repeats,
            "languages": count_outputs["languages"],
            "measured": count_outputs["measured"],
        }
        | "BySplit" >> beam.CoGroupByKey()
        | "CheckJudge" >> beam.ParDo(CheckWorker())
        | _judge_pairs(read, corpus.paths, shares, command, places)
    )
    return judge_outputs, corpus, count_outputs["read"]


def _judge_pairs(
    read: ReadSplit,
    sets: beam.PCollection,
    shares: beam.PCollection | None,
    command: Command,
    places: Places,
) -> JudgePairs:
    blocking = Blocking(places.blocklists.match_pairs, command.job.forget_blocked)
    return JudgePairs(
        read=read,
        blocks=places.blocks,
        rules=command.run_rules,
        sets=sets,
        shares=shares,
        out=places.out,
        work=places.work.path,
        plan=not command.job.text_only,
        blocking=blocking if places.blocklists.lists else None,
    )


def plan_shards(
    pipeline: beam.Pipeline, outputs: Any, job: Job, places: Places
) -> tuple[beam.PCollection, beam.PCollection]:
    """The shards that the kept pairs are planned into, a singleton, and counts that add up to
    `stored`; both as in `TextSummary`."""
    view = beam.pvalue.AsIter(outputs["counts"])
    count = beam.Map(lambda _, counts: add_counts(counts).kept, view)
    kept_count = pipeline | "Once" >> beam.Create([None]) | "Kept" >> count
    plan = partial(PlanShards, places.work.plan, job.samples_per_shard, blocks=places.blocks)
    if job.holdout:
        sides = outputs["kept"] | HoldOut(job.holdout, kept_count, places.blocks)
        plans = [
            sides["held"] | "PlanHeld" >> plan(kept_count=sides["held_rows"], first=HOLDOUT),
            sides["left"] | "PlanLeft" >> plan(kept_count=sides["left_rows"]),
        ]
    else:
        plans = [outputs["kept"] | plan(kept_count=kept_count)]
    shards = [of.shards for of in plans] | "BothSides" >> beam.Flatten()
    stored = [of.stored for of in plans] | "BothStored" >> beam.Flatten()
    return shards | "Planned" >> beam.combiners.ToDict(), stored


class CorpusOutputs(NamedTuple):
    """Results of the counts, each a singleton.

    Fields:
      paths: dict of the files of hashes to judge with. summary: of the vocabulary.
      file: the vocabulary's `HashFile`.
      images_per_text, texts_per_image: not singletons, the `CountSpread` of each bucket.
    """

    paths: beam.PCollection
    summary: beam.PCollection
    file: beam.PCollection
    images_per_text: beam.PCollection
    texts_per_image: beam.PCollection


def _corpus(
    count_outputs: Any,
    pairs: Any,
    command: Command,
    places: Places,
    buckets: int,
    vocabulary: HashFile | None,
    counts: beam.PCollection | None,
) -> CorpusOutputs:
    rules, pipeline = command.rules, pairs["partners"].pipeline
    language = rules.language_rule
    frequent = pairs["partners"] | FindFrequent(
        buckets, rules.max_images_per_text, rules.max_texts_per_image
    )
    sets = {"frequent_texts": frequent["texts"], "crowded_images": frequent["images"]}
    if vocabulary:
        files = pipeline | WriteHashSets(places.work.path, sets)
        # Documents name it as it was given; workers may run in another folder.
        there = replace(vocabulary, path=everywhere(vocabulary.path))
        files = files | "GivenFile" >> beam.Map(lambda files: files | {"vocabulary": there})
        given_summary = VocabularySummary(vocabulary=vocabulary.members)
        summary = pipeline | "Given" >> beam.Create([given_summary])
        file = pipeline | "GivenDescribed" >> beam.Create([vocabulary])
    else:
        texts = counts and counts | beam.Map(texts_by_language)
        outputs = count_outputs["ngrams"] | BuildVocabulary(
            rules.vocabulary_size, places.blocks, texts
        )
        sets["vocabulary"], summary = outputs["members"], outputs["summary"]
        large = () if places.blocks.folder else ("vocabulary",)
        files = pipeline | WriteHashSets(places.work.path, sets, large)
        file = files | "Described" >> beam.Map(lambda files: files["vocabulary"])
    paths = files | "Paths" >> beam.Map(_paths, beam.pvalue.AsSingleton(summary))
    if removed := places.removed_before:
        paths = paths | "AddRemoved" >> beam.Map(lambda of: of | {"removed_before": removed})
    if limit := rules.max_pairs_per_concept:
        concept_list = listed_concepts(rules.concepts, language) if rules.concepts else None
        name = CONCEPTS if concept_list is None else LISTED_CONCEPTS
        write = WriteConcepts(places.work.path, places.blocks, limit, concept_list)
        concepts = beam.pvalue.AsSingleton(outputs["counted"] | write)
        paths = paths | "AddConcepts" >> beam.Map(lambda of, path: of | {name: path}, concepts)
    spreads = frequent["text_spread"], frequent["image_spread"]
    return CorpusOutputs(paths, summary, file, *spreads)


def _only(split_id: int, splits: Iterable[Split]) -> tuple[int, Split]:
    (split,) = splits
    return split_id, split


def _paths(files: dict[str, HashFile], summary: VocabularySummary) -> dict[str, str]:
    """The files to judge with. Where nothing was cut off, no n-gram is rare."""
    paths = {name: file.path for name, file in files.items()}
    return paths if summary.cut_off_count != 0 else paths | {"vocabulary": ""}
