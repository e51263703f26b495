"""The recipe, in the paper's order: pages and texts. `curate_images.py` has the image stage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import apache_beam as beam

from alignset.pipeline.inputs.readers import read_split
from alignset.pipeline.inputs.splits import InputFile, Split
from alignset.pipeline.runs.engine import everywhere
from alignset.pipeline.runs.work_folder import PageSummary, TextSummary, WorkFolder
from alignset.pipeline.settings import Settings
from alignset.transforms.blocklists.blocklists import NO_LISTS, Blocklists
from alignset.transforms.corpus.concepts import (
    CONCEPTS,
    LISTED_CONCEPTS,
    WriteConcepts,
    listed_concepts,
)
from alignset.transforms.corpus.corpus_documents import HashFile, VocabularySummary, add_spreads
from alignset.transforms.corpus.count_pairs import (
    CountPairs,
    FindDistinctPairs,
    FindFrequent,
    ReadSplit,
)
from alignset.transforms.corpus.hash_counts import texts_by_language
from alignset.transforms.corpus.judge_pairs import Blocking, JudgePairs
from alignset.transforms.corpus.vocabulary import BuildVocabulary, WriteHashSets
from alignset.transforms.pages.page_counts import add_page_counts
from alignset.transforms.pages.page_files import PageFiles
from alignset.transforms.shards.plan_shards import HoldOut, PlanShards
from alignset.transforms.shards.shard_places import HOLDOUT
from alignset.transforms.storage.blocks import Blocks
from alignset.transforms.storage.broken_files import sum_up
from alignset.transforms.storage.documents import add_counts
from alignset.transforms.storage.shared_paths import SharedPaths
from alignset.transforms.workers.packages import CheckWorker, deciding
from alignset.transforms.workers.stages import WriteSummary

BYTES_PER_BUCKET = 1 << 27  # of input; a bucket then holds about 2 million pairs, 72 MB, at most
MAX_BUCKETS = 4096  # more of them, and at 10 billion pairs blocks hold fewer than 32 rows


@dataclass(frozen=True)
class Places:
    """Where a run keeps what it works with.

    Args:
      out: the output folder. work: a folder in it, gone when the run ends.
      blocks: how blocks of hashes cross the shuffles.
      blocklists: what must not be in the dataset. removed_before: the file of the keys of pairs
        that must not, "" where there are none.
      shared: what each machine of a cluster must see; None in process.
    """

    out: str
    work: WorkFolder
    blocks: Blocks
    blocklists: Blocklists = NO_LISTS
    removed_before: str = ""
    shared: SharedPaths | None = None


def parse_pages(
    pipeline: beam.Pipeline, parts: Sequence[PageFiles], settings: Settings, places: Places
) -> None:
    """Web pages to pairs, each page once; what was counted is left beside them."""
    from alignset.transforms.pages.parse_pages import ParsePages  # needs the extra pages

    skip_broken = settings.on_broken_input == "skip"
    parse = ParsePages(places.work.pages, skip_broken, settings)
    items = pipeline | "Parts" >> beam.Create(list(enumerate(parts)))
    groups = items | "SpreadParts" >> beam.GroupByKey() | "Part" >> beam.MapTuple(_take_one)
    counts = (
        groups | "CheckParser" >> beam.ParDo(CheckWorker(deciding("pages"), places.shared)) | parse
    )
    pipeline | "PageSummary" >> WriteSummary(
        places.work.page_summary, PageSummary, sums={"counts": (counts, add_page_counts)}
    )


def bucket_count(files: Sequence[InputFile]) -> int:
    """How many buckets of pairs, of URLs and of texts: a power of two, from 8 to MAX_BUCKETS.

    >>> bucket_count([InputFile("a.parquet", size << 30, "parquet") for size in (1, 2)])
    32

    Few enough that blocks are worth sending, since each batch sends one to each bucket; enough that
    what one bucket holds fits in a worker's memory (benchmarks/notes.md).
    """
    count = sum(file.bytes for file in files) // BYTES_PER_BUCKET
    return min(MAX_BUCKETS, max(8, 1 << int(count).bit_length()))


def curate_texts(
    pipeline: beam.Pipeline,
    splits: Sequence[Split],
    settings: Settings,
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
    skip_broken = settings.on_broken_input == "skip"
    read = partial(read_split, batch_rows=settings.batch_rows, skip_broken=skip_broken)
    numbered_splits = pipeline | "Splits" >> beam.Create(list(enumerate(splits)))
    # A group of one each: what follows runs wherever there is a worker.
    spread_splits = (
        numbered_splits | "SpreadSplits" >> beam.GroupByKey() | "Split" >> beam.MapTuple(_take_one)
    )
    packages = deciding(settings.voter)
    spread_splits = spread_splits | "CheckReader" >> beam.ParDo(
        CheckWorker(packages, places.shared)
    )

    judge_outputs, corpus, rows_read = judge_texts(
        numbered_splits, spread_splits, read, settings, places, buckets, vocabulary
    )
    result = {"vocabulary": corpus.summary, "vocabulary_file": corpus.file}
    sums: dict[str, Any] = {
        "rows_read": (rows_read, sum),
        "counts": (judge_outputs["counts"], add_counts),
        "broken": (judge_outputs["broken"], sum_up),
        "images_per_text": (corpus.images_per_text, add_spreads),
        "texts_per_image": (corpus.texts_per_image, add_spreads),
    }
    if not settings.text_only:  # the summary waits for the plan: where it is, the plan is whole
        result["shards"], stored = plan_shards(pipeline, judge_outputs, settings, places)
        sums["stored"] = (stored, sum)
    pipeline | "TextSummary" >> WriteSummary(places.work.text_summary, TextSummary, result, sums)


def judge_texts(
    numbered_splits: beam.PCollection,
    spread_splits: beam.PCollection,
    read: ReadSplit,
    settings: Settings,
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
    blocks = places.blocks
    count_outputs = spread_splits | CountPairs(
        read, blocks, settings, buckets, ngrams=not vocabulary
    )
    pairs = count_outputs["pairs"] | FindDistinctPairs(blocks, buckets)
    counts = None
    if settings.has_vote:
        counts = pairs["languages"] | "Languages" >> beam.CombineGlobally(sum)
    corpus = _corpus(count_outputs, pairs, settings, places, buckets, vocabulary, counts)
    blocking = Blocking(places.blocklists.match_pairs, settings.forget_blocked)
    repeats = (count_outputs["repeated"], pairs["repeated"]) | "Repeated" >> beam.Flatten()
    judge_outputs = (
        {
            "split": numbered_splits,
            "repeated": repeats,
            "languages": count_outputs["languages"],
            "measured": count_outputs["measured"],
        }
        | "BySplit" >> beam.CoGroupByKey()
        | "CheckJudge" >> beam.ParDo(CheckWorker(shared=places.shared))
        | JudgePairs(
            read=read,
            blocks=blocks,
            rules=settings,
            sets=corpus.paths,
            out=places.out,
            work=places.work.path,
            plan=not settings.text_only,
            blocking=blocking if places.blocklists.lists else None,
        )
    )
    return judge_outputs, corpus, count_outputs["read"]


def plan_shards(
    pipeline: beam.Pipeline, outputs: Any, settings: Settings, places: Places
) -> tuple[beam.PCollection, beam.PCollection]:
    """The shards that the kept pairs are planned into, a singleton, and counts that add up to
    `stored`; both as in `TextSummary`."""
    view = beam.pvalue.AsIter(outputs["counts"])
    count = beam.Map(lambda _, counts: add_counts(counts).kept, view)
    kept_count = pipeline | "Once" >> beam.Create([None]) | "Kept" >> count
    plan = partial(PlanShards, places.work.plan, settings.samples_per_shard, blocks=places.blocks)
    if settings.holdout:
        sides = outputs["kept"] | HoldOut(settings.holdout, kept_count, places.blocks)
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
    settings: Settings,
    places: Places,
    buckets: int,
    vocabulary: HashFile | None,
    counts: beam.PCollection | None,
) -> CorpusOutputs:
    pipeline = pairs["partners"].pipeline
    frequent = pairs["partners"] | FindFrequent(
        buckets, settings.max_images_per_text, settings.max_texts_per_image
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
            settings.vocabulary_size, places.blocks, texts
        )
        sets["vocabulary"], summary = outputs["members"], outputs["summary"]
        large = () if places.blocks.folder else ("vocabulary",)
        files = pipeline | WriteHashSets(places.work.path, sets, large)
        file = files | "Described" >> beam.Map(lambda files: files["vocabulary"])

    def paths_of(files: dict[str, HashFile], summary: VocabularySummary) -> dict[str, str]:
        """The files to judge with. Where nothing was cut off, no n-gram is rare."""
        paths = {name: file.path for name, file in files.items()}
        return paths if summary.cut_off_count != 0 else paths | {"vocabulary": ""}

    paths = files | "Paths" >> beam.Map(paths_of, beam.pvalue.AsSingleton(summary))
    if removed := places.removed_before:
        paths = paths | "AddRemoved" >> beam.Map(lambda of: of | {"removed_before": removed})
    if limit := settings.max_pairs_per_concept:
        concept_list = listed_concepts(settings.concepts, settings) if settings.concepts else None
        name = CONCEPTS if concept_list is None else LISTED_CONCEPTS
        write = WriteConcepts(places.work.path, places.blocks, limit, concept_list)
        concepts = beam.pvalue.AsSingleton(outputs["counted"] | write)
        paths = paths | "AddConcepts" >> beam.Map(lambda of, path: of | {name: path}, concepts)
    return CorpusOutputs(paths, summary, file, frequent["text_spread"], frequent["image_spread"])


def _take_one(split_id: int, splits: Iterable[Split]) -> tuple[int, Split]:
    (split,) = splits
    return split_id, split
