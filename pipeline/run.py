"""A whole run: what is done already, the two planes, the closing documents."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import NamedTuple

import apache_beam as beam

from pipeline.curate import Places, curate_images, curate_texts
from pipeline.engine import Engine, everywhere
from pipeline.fetch_report import render_failed
from pipeline.funnel import render_funnel, render_vocabulary
from pipeline.inputs import (
    InputFile,
    Split,
    find_evaluation_files,
    find_files,
    find_splits,
    find_vocabulary,
)
from pipeline.options import Command
from pipeline.retry import retry_failed
from pipeline.run_folder import RunFolder, describe_run
from transforms.batches import Blocks
from transforms.evaluation import EvaluationFile
from transforms.hash_sets import HashFile
from transforms.threads import stop_work

BYTES_PER_BUCKET = 1 << 27  # of input; a bucket then holds about 2 million pairs, 90 MB, at most
MAX_BUCKETS = 4096  # more of them, and at 10 billion pairs blocks hold fewer than 32 rows


def run(command: Command) -> None:
    """Runs a command to its end; a run that was killed goes on where it stopped.

    Raises:
      UsageError: the command cannot be run as it was given.
    """
    job = command.job
    files = find_files(job)
    splits = find_splits(job, files)
    evaluation = find_evaluation_files(job.eval_images)
    given = find_vocabulary(job.vocabulary)
    description = describe_run(command, files, evaluation, given)
    folder = RunFolder(job.output, description, retry=job.retry_failed)
    if folder.finished and not job.retry_failed:
        folder.clean()
        _say(f"{folder.out} is finished: nothing to do (manifest.json has this very run)")
        return
    engine = Engine(command.beam, folder.fence.token)
    blocks = folder.blocks_folder() if engine.in_process else None
    out, work = everywhere(folder.out), everywhere(folder.work)
    places = Places(out, work, Blocks(blocks), folder.fence)
    splits = [replace(split, path=everywhere(split.path)) for split in splits]
    evaluation = [file._replace(path=everywhere(file.path)) for file in evaluation]
    try:
        for left in engine.cancel(folder.fence.newest()):
            _say(f"{left}, left running by an earlier start of this command, is cancelled")
        folder.fence.take()
        if job.retry_failed:
            with _Timed("retry"):
                funnel = retry_failed(command, folder, evaluation, places, engine.pipeline)
        else:
            given_input = _Input(files, splits, evaluation, given)
            _curate(command, folder, places, given_input, engine.pipeline)
            funnel = folder.close()
    finally:
        stop_work()
        folder.release()
        if blocks:
            shutil.rmtree(blocks, ignore_errors=True)
    print(render_funnel(funnel["steps"]))
    print(render_vocabulary(funnel["vocabulary"]))
    if failed := render_failed(funnel["fetch"]):
        print(failed)
    if not funnel["pairs"]:
        _say("no pair is left: the funnel shows which rule took the most")
    _say(f"done: {folder.out}")


class _Input(NamedTuple):
    """What a run reads."""

    files: list[InputFile]
    splits: list[Split]
    evaluation: list[EvaluationFile]
    vocabulary: HashFile | None


def _curate(
    command: Command,
    folder: RunFolder,
    places: Places,
    given: _Input,
    pipeline_of: Callable[[str], AbstractContextManager[beam.Pipeline]],
) -> None:
    """The two planes, each where it is not done yet."""
    summary = folder.text_summary()
    if summary is None:
        _say(f"reading {len(given.files)} files in {len(given.splits)} splits")
        buckets = bucket_count(given.files)
        with _Timed("text plane"), pipeline_of("texts") as pipeline:
            curate_texts(pipeline, given.splits, command, places, buckets, given.vocabulary)
        summary = folder.text_summary()
        assert summary is not None
    if not command.job.text_only:
        kept = summary["counts"].get("written", 0)
        shards = sorted(summary["shards"])
        _say(f"{kept:,} pairs to fetch for {len(shards)} shards")
        with _Timed("image plane"), pipeline_of("images") as pipeline:
            curate_images(pipeline, shards, given.evaluation, command, places)


def bucket_count(files: list[InputFile]) -> int:
    """How many buckets of pairs, of URLs and of texts: a power of two, from 8 to MAX_BUCKETS.

    Few enough that blocks are worth sending, since each batch sends one to each bucket; enough that
    what one bucket holds fits in a worker's memory (docs/scale.md).
    """
    wanted = sum(file.size for file in files) // BYTES_PER_BUCKET
    return min(MAX_BUCKETS, max(8, 1 << int(wanted).bit_length()))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class _Timed:
    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        self.start = time.monotonic()

    def __exit__(self, error: object, *_: object) -> None:
        if error is None:
            _say(f"{self.name}: {time.monotonic() - self.start:.1f} s")
