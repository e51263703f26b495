"""The recipe, in the paper's order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import apache_beam as beam

from pipeline.engine import everywhere
from pipeline.inputs import Split
from pipeline.options import Command
from pipeline.readers import read_split
from transforms.batches import Blocks
from transforms.count_pairs import CountPairs, FindDistinctPairs, FindFrequent
from transforms.evaluation import EvaluationFile, HashEvaluationImages
from transforms.fencing import Fence
from transforms.hash_sets import WriteHashSet
from transforms.judge_pairs import JudgePairs, TextRules
from transforms.measure_images import ImageRules
from transforms.packages import CheckWorker
from transforms.plan_shards import PlanShards
from transforms.tallies import CombineCounts, WriteJson
from transforms.vocabulary import BuildVocabulary
from transforms.vocabulary_file import VocabularyFile, WriteVocabulary
from transforms.write_shards import WriteShards


@dataclass(frozen=True)
class Places:
    """Where a run keeps what it works with.

    Args:
      out: the output folder. work: a folder in it, gone when the run ends.
      blocks: how blocks of hashes cross the shuffles.
      fence: what keeps the workers of an earlier start out.
    """

    out: str
    work: str
    blocks: Blocks
    fence: Fence

    @property
    def plan(self) -> str:
        return f"{self.work}/plan"


class KnownNgrams(NamedTuple):
    """The vocabulary to filter with, each a singleton."""

    path: beam.PCollection  # of the file of hashes; empty where no n-gram is rare
    summary: beam.PCollection
    file: beam.PCollection


def curate_texts(
    pipeline: beam.Pipeline,
    splits: list[Split],
    command: Command,
    places: Places,
    buckets: int,
    given: VocabularyFile | None = None,
) -> None:
    """The text plane: everything that needs only URL and alt-text.

    Reads the corpus twice: once to count, once to judge.

    Args:
      given: the vocabulary to filter with, in place of this corpus's own.
    """
    rules, job, blocks = command.rules, command.job, places.blocks
    read = partial(read_split, batch_rows=job.batch_rows)
    numbered = pipeline | "Splits" >> beam.Create(list(enumerate(splits)))
    spread = numbered | "SpreadSplits" >> beam.Reshuffle() | "CheckReader" >> _check()

    counted = spread | CountPairs(read, blocks, rules.language_rule, buckets, ngrams=given is None)
    pairs = counted["pairs"] | FindDistinctPairs(blocks, buckets)
    frequent = pairs["images_of_text"] | "FindFrequentTexts" >> FindFrequent(
        "text", rules.max_images_per_text
    )
    crowded = pairs["texts_of_image"] | "FindCrowdedImages" >> FindFrequent(
        "url", rules.max_texts_per_image
    )
    repeated = (counted["repeated"], pairs["repeated"]) | beam.Flatten()
    if given:
        known = _given_ngrams(pipeline, given)
    else:
        known = _frequent_ngrams(counted["ngrams"], rules.vocabulary_size, places)

    text_set = frequent | "FrequentTexts" >> WriteHashSet(f"{places.work}/frequent_texts")
    image_set = crowded | "CrowdedImages" >> WriteHashSet(f"{places.work}/crowded_images")
    judged = (
        {"split": numbered, "repeated": repeated, "foreign": counted["foreign"]}
        | beam.CoGroupByKey()
        | "CheckJudge" >> _check()
        | JudgePairs(
            read=read,
            blocks=blocks,
            rules=TextRules(rules.min_words, rules.max_words),
            frequent=text_set,
            crowded=image_set,
            vocabulary=known.path,
            out=places.out,
            plan=not job.text_only,
        )
    )
    counts = judged["counts"] | CombineCounts()
    kept = counts | "Kept" >> beam.Map(lambda total: total.get("written", 0))
    summary = {
        "read": counted["read"] | "Read" >> beam.CombineGlobally(sum),
        "counts": counts,
        "vocabulary": known.summary,
        "vocabulary_file": known.file,
    }
    if not job.text_only:  # the summary waits for the plan: where it is, the plan is whole
        plan = PlanShards(places.plan, job.samples_per_shard, kept, blocks)
        summary["shards"] = judged["kept"] | plan | "Planned" >> beam.combiners.ToList()
    pipeline | "TextSummary" >> WriteJson(f"{places.work}/text.json", summary)


def _check() -> beam.PTransform:
    return beam.ParDo(CheckWorker())


def _frequent_ngrams(ngrams: beam.PCollection, size: int, places: Places) -> KnownNgrams:
    """The corpus's own vocabulary, written down whether or not anything is cut."""
    built = ngrams | BuildVocabulary(size, places.blocks)
    write = WriteVocabulary(f"{places.work}/vocabulary", inline=places.blocks.folder is None)
    file = built["members"] | "WriteVocabulary" >> write
    path = file | "IfCut" >> beam.Map(
        lambda file, summary: file.path if summary["cut_off_count"] else "",  # nothing is rare
        beam.pvalue.AsSingleton(built["summary"]),
    )
    return KnownNgrams(
        path, built["summary"], file | "FileMade" >> beam.Map(VocabularyFile.described)
    )


def _given_ngrams(pipeline: beam.Pipeline, given: VocabularyFile) -> KnownNgrams:
    return KnownNgrams(
        pipeline | "GivenPath" >> beam.Create([everywhere(given.path)]),
        pipeline | "GivenSummary" >> beam.Create([{"vocabulary": given.ngrams}]),
        pipeline | "GivenFile" >> beam.Create([given.described()]),
    )


def curate_images(
    pipeline: beam.Pipeline,
    shards: list[int],
    evaluation: list[EvaluationFile],
    command: Command,
    places: Places,
) -> None:
    """The image plane: fetch, measure, judge and write, one shard at a time."""
    rules = command.rules
    hashed = pipeline | "EvaluationFiles" >> beam.Create(evaluation) | HashEvaluationImages()
    stats = (
        pipeline
        | "Shards" >> beam.Create(shards)
        | "SpreadShards" >> beam.Reshuffle()
        | "CheckWriter" >> _check()
        | WriteShards(
            plan=places.plan,
            out=places.out,
            rules=ImageRules(
                rules.min_image_side, rules.max_image_aspect, rules.min_evaluation_distance
            ),
            fetch=command.fetch,
            resize=command.resize,
            evaluation=hashed,
            fence=places.fence,
        )
    )
    summary: dict[str, Any] = {
        "shards": stats | "AllStats" >> beam.combiners.ToList(),
        "evaluation": hashed | "AllHashed" >> beam.Map(_described) | beam.combiners.ToList(),
    }
    pipeline | "ImageSummary" >> WriteJson(f"{places.work}/images.json", summary)


def _described(file: Any) -> tuple[str, int, int]:
    return file.name, len(file.phashes), file.unreadable
