"""The recipe, in the paper's order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import apache_beam as beam

from pipeline.inputs.find_inputs import Split
from pipeline.inputs.readers import read_split
from pipeline.options import Command
from pipeline.rules import Rules
from pipeline.runs.engine import everywhere, gives_out_at_start
from pipeline.runs.stores import is_dataflow
from transforms.corpus.count_pairs import CountPairs, FindDistinctPairs, FindFrequent
from transforms.corpus.hash_sets import HashFile, WriteHashSets
from transforms.corpus.judge_pairs import JudgePairs, TextRules
from transforms.corpus.vocabulary import BuildVocabulary
from transforms.decontamination.evaluation_images import EvaluationFile, HashEvaluationImages
from transforms.pages.parse_pages import PageFiles, ParsePages
from transforms.shards.failed_fetches import FindFailingHosts
from transforms.shards.measure_images import ImageRules
from transforms.shards.plan_shards import PlanShards
from transforms.shards.write_shards import WriteShards
from transforms.storage.blocks import Blocks
from transforms.workers.fencing import Fence
from transforms.workers.packages import CheckWorker
from transforms.workers.summaries import WriteJson, add_counts

MIN_RAM = "4GB"  # of a worker: two to four processes of half a GB


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

    @property
    def pages(self) -> str:
        return f"{self.work}/pages"


def parse_pages(pipeline: beam.Pipeline, parts: list[PageFiles], places: Places) -> None:
    """Web pages to pairs, each page once; what was counted is left beside them."""
    numbered = pipeline | "Parts" >> beam.Create(list(enumerate(parts)))
    spread = numbered | "SpreadParts" >> beam.GroupByKey() | "Part" >> beam.MapTuple(_only)
    counts = spread | "CheckParser" >> _check() | ParsePages(places.pages)
    pipeline | "PageSummary" >> WriteJson(f"{places.work}/pages.json", {}, {"counts": counts})


def curate_texts(
    pipeline: beam.Pipeline,
    splits: list[Split],
    command: Command,
    places: Places,
    buckets: int,
    given: HashFile | None = None,
) -> None:
    """The text plane: everything that needs only URL and alt-text.

    Goes through the corpus twice: once to count, once to judge. Where workers share a disk, the
    first reading leaves there what it measured, and the input itself is read once.

    Args:
      given: the vocabulary to filter with, in place of this corpus's own.
    """
    rules, job, blocks = command.rules, command.job, places.blocks
    read = partial(read_split, batch_rows=job.batch_rows)
    numbered = pipeline | "Splits" >> beam.Create(list(enumerate(splits)))
    # A group of one each: what follows runs wherever there is a worker.
    spread = numbered | "SpreadSplits" >> beam.GroupByKey() | "Split" >> beam.MapTuple(_only)
    spread = spread | "CheckReader" >> _check()

    counted = spread | CountPairs(read, blocks, rules.language_rule, buckets, ngrams=given is None)
    pairs = counted["pairs"] | FindDistinctPairs(blocks, buckets)
    known = _known(pipeline, counted, pairs, rules, places, buckets, given)
    repeated = (counted["repeated"], pairs["repeated"]) | "Repeated" >> beam.Flatten()
    judged = (
        {
            "split": numbered,
            "repeated": repeated,
            "foreign": counted["foreign"],
            "measured": counted["measured"],
        }
        | "BySplit" >> beam.CoGroupByKey()
        | "CheckJudge" >> _check()
        | JudgePairs(
            read=read,
            blocks=blocks,
            rules=TextRules(rules.min_words, rules.max_words),
            sets=known.paths,
            out=places.out,
            plan=not job.text_only,
        )
    )
    result = {"vocabulary": known.summary, "vocabulary_file": known.file}
    if not job.text_only:  # the summary waits for the plan: where it is, the plan is whole
        kept = (
            pipeline
            | "Once" >> beam.Create([None])
            | "Kept"
            >> beam.Map(
                lambda _, counts: add_counts(counts).get("written", 0),
                beam.pvalue.AsIter(judged["counts"]),
            )
        )
        plan = PlanShards(places.plan, job.samples_per_shard, kept, blocks)
        result["shards"] = judged["kept"] | plan | "Planned" >> beam.combiners.ToList()
    counts = {"read": counted["read"], "counts": judged["counts"]}
    pipeline | "TextSummary" >> WriteJson(f"{places.work}/text.json", result, counts)


class _Known(NamedTuple):
    """What the counts found, each a singleton.

    Fields:
      paths: dict of the files of hashes to judge with. summary: of the vocabulary.
      file: the vocabulary's, as documents tell of it.
    """

    paths: beam.PCollection
    summary: beam.PCollection
    file: beam.PCollection


def _known(
    pipeline: beam.Pipeline,
    counted: Any,
    pairs: Any,
    rules: Rules,
    places: Places,
    buckets: int,
    given: HashFile | None,
) -> _Known:
    frequent = pairs["partners"] | FindFrequent(
        buckets, rules.max_images_per_text, rules.max_texts_per_image
    )
    sets = {"frequent_texts": frequent["texts"], "crowded_images": frequent["images"]}
    if given:
        files = pipeline | WriteHashSets(places.work, sets)
        # Documents name it as it was given; workers may run in another folder.
        there = given._replace(path=everywhere(given.path))
        files = files | "GivenFile" >> beam.Map(lambda files: files | {"vocabulary": there})
        summary = pipeline | "Given" >> beam.Create([{"vocabulary": given.members}])
        file = pipeline | "GivenDescribed" >> beam.Create([given.described()])
    else:
        built = counted["ngrams"] | BuildVocabulary(rules.vocabulary_size, places.blocks)
        sets["vocabulary"], summary = built["members"], built["summary"]
        large = () if places.blocks.folder else ("vocabulary",)
        files = pipeline | WriteHashSets(places.work, sets, large)
        file = files | "Described" >> beam.Map(lambda f: f["vocabulary"].described())
    paths = files | "Paths" >> beam.Map(_paths, beam.pvalue.AsSingleton(summary))
    return _Known(paths, summary, file)


def _check() -> beam.PTransform:
    return beam.ParDo(CheckWorker())


def _only(split_id: int, splits: Iterable[Split]) -> tuple[int, Split]:
    (split,) = splits
    return split_id, split


def _paths(files: dict[str, HashFile], summary: dict[str, Any]) -> dict[str, str]:
    """The files to judge with. Where nothing was cut off, no n-gram is rare."""
    paths = {name: file.path for name, file in files.items()}
    return paths if summary.get("cut_off_count", 1) else paths | {"vocabulary": ""}


def curate_images(
    pipeline: beam.Pipeline,
    shards: list[int],
    evaluation: list[EvaluationFile],
    command: Command,
    places: Places,
) -> None:
    """The image plane: fetch, measure, judge and write, one shard at a time."""
    rules = command.rules
    files = pipeline | "EvaluationFiles" >> beam.Create(evaluation)
    hashed = files | HashEvaluationImages()
    numbers = pipeline | "Shards" >> beam.Create(shards)
    stats = (
        numbers
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
            given_out=numbers if gives_out_at_start(command.beam) else None,
            min_ram=MIN_RAM if is_dataflow(command) else "",
        )
    )
    reasons = stats | "Reasons" >> beam.Map(lambda one: one["reasons"])
    summary: dict[str, Any] = {
        # One element, of 550,000 shards at 10 billion pairs: a tenth of what the stats are.
        "shards": stats | "Written" >> beam.Map(_written) | "AllWritten" >> beam.combiners.ToList(),
        "hosts": stats | FindFailingHosts(places.out),
        "evaluation": hashed
        | "AllHashed" >> beam.Map(_described)
        | "AllOfEvaluation" >> beam.combiners.ToList(),
    }
    statuses = stats | "Statuses" >> beam.Map(lambda one: one["status_dict"])
    summed = {"reasons": reasons, "statuses": statuses}
    pipeline | "ImageSummary" >> WriteJson(f"{places.work}/images.json", summary, summed)


def _written(stats: Any) -> tuple[int, int, int, str]:
    return stats["shard"], stats["count"], stats["successes"], stats["sha256"]


def _described(file: Any) -> tuple[str, int, int]:
    return file.name, len(file.phashes), file.unreadable
