"""The image stage of a run: fetch, measure, judge and write, one shard at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial

import apache_beam as beam

from alignset.pipeline.curate import Places
from alignset.pipeline.inputs.find_lists import Evaluation, index_folder
from alignset.pipeline.inputs.whole_input import Input
from alignset.pipeline.leaving import descriptors_folder, find_copies
from alignset.pipeline.progress import ImageProgress, say
from alignset.pipeline.runs.engine import (
    Engine,
    WorkerDiedError,
    everywhere,
    gives_out_at_start,
    runner_of,
)
from alignset.pipeline.runs.work_folder import ImageSummary
from alignset.pipeline.settings import Settings
from alignset.pipeline.shown_texts import core_time, counted
from alignset.transforms.arrivals.known_images import KnownSet
from alignset.transforms.decontamination.evaluation_files import parts_of
from alignset.transforms.decontamination.evaluation_index import sets_of
from alignset.transforms.decontamination.index_evaluation_images import (
    THUMBNAILS,
    IndexEvaluationImages,
)
from alignset.transforms.fetching.fetcher import forget_hosts
from alignset.transforms.safety.classifier import open_classifier
from alignset.transforms.safety.model_files import UnsafeModel
from alignset.transforms.shards.shard_places import shards_there
from alignset.transforms.shards.shard_stats import add_copies
from alignset.transforms.shards.write_shards import ShardDoFn, ShardWriter
from alignset.transforms.storage.documents import add_by_name
from alignset.transforms.workers.attempts import end_killed
from alignset.transforms.workers.packages import CheckWorker, deciding
from alignset.transforms.workers.stages import WriteSummary

LOG = logging.getLogger("alignset")
# How long a job may go on after the last shard is written, and for each shard, whose sidecar a step
# behind reads. A task that asks a lost machine for its input waits 15 minutes by Linux's default.
STALLED_S, STALLED_SHARD_S = 60.0, 0.1
MIN_RAM = "4GB"  # of a worker: two to four processes of half a GB, and 0.1 GB each to score


def curate_images(
    pipeline: beam.Pipeline,
    shards: list[int],
    source: Input,
    settings: Settings,
    places: Places,
) -> None:
    """The image stage: fetch, measure, judge and write, one shard at a time.

    Args:
      shards: their numbers.
    """
    numbers = pipeline | "Shards" >> beam.Create(shards)
    what = source.evaluation, settings, places, source.unsafe_model, source.known
    stats, index = write_shards(numbers, *what)
    holding = stats | "Holding" >> beam.FlatMap(
        lambda shard: [shard.number] if shard.successes else []
    )
    connections = stats | "Connections" >> beam.Map(lambda shard: shard.connections or 0)
    limits = stats | "Limits" >> beam.Map(lambda s: {s.limited_by: 1} if s.limited_by else {})
    pairs = len(shards) * settings.samples_per_shard
    copies = holding | find_copies(settings, places, pairs, descriptors_folder(settings, places))
    pipeline | "ImageSummary" >> WriteSummary(
        places.work.image_summary,
        ImageSummary,
        {"evaluation_images": index["sets"], "evaluation_index": index["place"]},
        {
            "connections": (connections, partial(max, default=0)),
            "limits": (limits, add_by_name),
            "copies": (copies, add_copies),
        },
    )


def write_shards(
    numbers: beam.PCollection,
    evaluation: Evaluation,
    settings: Settings,
    places: Places,
    unsafe_model: UnsafeModel | None,
    known: tuple[KnownSet, ...] = (),
) -> tuple[beam.PCollection, dict[str, beam.PCollection]]:
    """Fetches, measures, judges and writes the shards of some numbers.

    Args:
      known: datasets whose images are not requested again.

    Returns:
      their `ShardStats`, and the singletons `place` and `sets` of the evaluation images.
    """
    index = evaluation_index(numbers.pipeline, evaluation, settings, places)
    work, how = places.work, (settings, places.blocklists, unsafe_model, known)
    writer = ShardWriter(work.plan, work.attempts, work.descriptors, places.out, *how)
    views, options = [beam.pvalue.AsSingleton(index["place"])], numbers.pipeline.options
    if gives_out_at_start(options):  # who has written its own then takes over others'
        views.append(beam.pvalue.AsList(numbers))
    packages = deciding("exact_resize" if settings.exact_resize else "")
    write = beam.ParDo(ShardDoFn(writer, CheckWorker(packages, places.shared)), *views)
    if runner_of(options) == "dataflowrunner":  # elsewhere it only makes workers of a kind
        write = write.with_resource_hints(min_ram=MIN_RAM)
    return numbers | "SpreadShards" >> beam.Reshuffle() | "WriteShards" >> write, index


def run_images(
    engine: Engine,
    places: Places,
    sizes: Mapping[int, int],
    unsafe_model: UnsafeModel | None,
    build: Callable[[beam.Pipeline], None],
    *,
    verb: str,
) -> None:
    """Runs the image stage and shows its progress; again where a worker process died, as long as
    each attempt leaves fewer shards.

    Args:
      sizes: how many pairs each shard has, by its number.
      build: gives a pipeline its steps.
      verb: what becomes of the pairs, such as fetch.

    Raises:
      WorkerDiedError: no shard was written before one died again.
      StalledError: all shards are written, but the job did not end.
    """
    if unsafe_model and (pairs := sum(sizes.values())):
        say(scoring_cost(unsafe_model, pairs))
    missing = len(sizes) + 1
    forget_hosts()
    _end_killed(places.work.attempts)
    with ImageProgress(places.out, places.work.attempts, sizes, verb) as progress:
        while True:
            try:
                whole_s = STALLED_S + STALLED_SHARD_S * len(sizes)
                with engine.pipeline("images", lambda: progress.is_whole, whole_s) as pipeline:
                    return build(pipeline)
            except WorkerDiedError:
                before, missing = missing, len(sizes.keys() - shards_there(places.out).keys())
                if missing >= before:
                    raise
                message = "a worker process died: the shards that are left (%d) are begun again"
                LOG.warning(message, missing)
                _end_killed(places.work.attempts)


def _end_killed(attempts: str) -> None:
    """Ends what an earlier start, or a dead worker, was at, and logs it."""
    works = end_killed(attempts)
    parts = {work for work in works if work.startswith(THUMBNAILS)}
    for count, kind, of in (
        (len(works - parts), "shard", ""),
        (len(parts), "part", " of the evaluation images"),
    ):
        if count:
            LOG.warning(
                "%s%s under way when the command ended early: the images are first decoded in a "
                "process of their own, and one that crashes its decoder is dropped alone",
                counted(count, kind),
                of,
            )


def evaluation_index(
    pipeline: beam.Pipeline, evaluation: Evaluation, settings: Settings, places: Places
) -> dict[str, beam.PCollection]:
    """Singletons: the place of the index of evaluation images, or "", and its sets."""
    if evaluation.files:
        parts = pipeline | "EvaluationFiles" >> beam.Create(parts_of(evaluation.files))
        folder = everywhere(settings.eval_index.rstrip("/") or index_folder(places.out))
        return parts | IndexEvaluationImages(folder, places.work.path)
    place = pipeline | "EvaluationIndex" >> beam.Create([evaluation.index])
    return {"place": place, "sets": place | "Sets" >> beam.Map(sets_of)}


DECODE_S = 0.0015  # CPU-seconds of a photograph of 640x480 on its way to the model
FEW = 1_000  # images; to measure the cost of a score takes 0.4 s, long beside the scores of these


def scoring_cost(model: UnsafeModel, pairs: int) -> str:
    """One line about the NSFW scores; for more than FEW images with their cost on this machine."""
    off = "--unsafe_model= turns it off"
    classifier = open_classifier(model)
    if classifier.on_gpu:
        return f"images get NSFW scores on a GPU; {off}"
    if pairs <= FEW:
        return f"images get NSFW scores; {off}"
    core_s = pairs * (classifier.cpu_s_an_image() + DECODE_S)
    return f"images get NSFW scores: about {core_time(core_s)}; {off}"


def similarity_cost(model: str, pairs: int) -> str:
    """One line about the similarities of so many pairs, by what they cost on this machine."""
    from alignset.train.score_pairs import cpu_s_a_pair, has_gpu

    off = "without --score_model there are none"
    if has_gpu():
        return f"image and text are compared on a GPU by {model}; {off}"
    core_s = pairs * (cpu_s_a_pair(model) + DECODE_S)
    return f"image and text are compared by {model}: about {core_time(core_s)}; {off}"
