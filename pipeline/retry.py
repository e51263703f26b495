"""`--retry_failed`: what could not be fetched is tried again, and joins the same set.

A finished run's shards stay as they are, byte for byte. The pairs whose fetch failed are planned as
a run plans its own: by key, into shards of their own, numbered on from the last. When these are
whole, the pairs are taken out of the old shards' `rejected/`, and the closing documents are written
anew, the manifest last. Killed anywhere, the same command goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import apache_beam as beam
import pyarrow as pa

from pipeline.curate import Places, curate_images
from pipeline.options import Command
from pipeline.report.closing import close_retry
from pipeline.report.progress import ImageProgress
from pipeline.runs.documents import Funnel, RetryPlan
from pipeline.runs.engine import Engine
from pipeline.runs.run_folder import RunFolder
from transforms.decontamination.evaluation_images import EvaluationFile
from transforms.shards.failed_fetches import ReadFailed, forget_failed
from transforms.shards.plan_shards import PlanShards
from transforms.storage.blocks import unpack
from transforms.storage.files import is_local
from transforms.workers.summaries import WriteSummary


def retry_failed(
    command: Command,
    folder: RunFolder,
    evaluation: Sequence[EvaluationFile],
    places: Places,
    engine: Engine,
) -> Funnel:
    """Tries again what could not be fetched; returns the funnel that there then is."""
    base = folder.retry_base()
    old = sorted(int(shard) for shard in base.manifest.shards)
    plan = folder.work.find_retry_plan()
    if plan is None:
        with engine.pipeline("plan") as pipeline:
            _plan(pipeline, old, command, places)
        plan = folder.work.find_retry_plan()
        assert plan is not None
    if plan.pairs:
        verb = "fetch again"
        progress = ImageProgress(places.out, places.work.plan, places.fence, plan.shards, verb)
        with progress, engine.pipeline("images") as pipeline:
            curate_images(pipeline, sorted(plan.shards), evaluation, command, places)
        folder.check_lock()
        scratch = places.work.path if is_local(places.work.path) else None
        forget = partial(forget_failed, out=places.out, scratch=scratch, fence=places.fence)
        with engine.pipeline("rejected") as pipeline:
            pipeline | beam.Create(old) | beam.Reshuffle() | beam.Map(forget)
    return close_retry(folder, base, plan)


def _plan(pipeline: beam.Pipeline, old: list[int], command: Command, places: Places) -> None:
    shards = pipeline | "Shards" >> beam.Create(old) | beam.Reshuffle()
    failed = shards | ReadFailed(places.out, places.blocks)
    count = failed | "Rows" >> beam.MapTuple(_rows) | beam.CombineGlobally(sum)
    planned = PlanShards(
        places.work.plan,
        command.job.samples_per_shard,
        count,
        places.blocks,
        first=max(old, default=-1) + 1,
    )
    summary = {"pairs": count, "shards": failed | planned | beam.combiners.ToDict()}
    pipeline | "Plan" >> WriteSummary(places.work.retry_plan, RetryPlan, summary)


def _rows(_: int, block: pa.RecordBatch) -> int:
    return len(unpack(block))
