"""A whole run: what is done already, the two planes, the closing documents."""

from __future__ import annotations

import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from apache_beam.io.filesystems import FileSystems

from pipeline.curate import Places, curate_images, curate_texts, parse_pages
from pipeline.inputs.find_inputs import (
    InputFile,
    Split,
    find_evaluation_files,
    find_files,
    find_splits,
    find_vocabulary,
)
from pipeline.inputs.page_files import find_pages, parsed_files, parsed_splits
from pipeline.options import Command
from pipeline.report.closing import close_run
from pipeline.report.fetch_report import render_failed
from pipeline.report.funnel import render_funnel, render_pages, render_vocabulary
from pipeline.retry import PipelineOf, retry_failed
from pipeline.runs.engine import Engine, check_engine, everywhere
from pipeline.runs.run_folder import RunFolder, describe_run
from pipeline.runs.stores import check_retry, check_stores, is_dry_run
from transforms.corpus.hash_sets import HashFile
from transforms.decontamination.evaluation_images import EvaluationFile
from transforms.pages.parse_pages import PageFiles
from transforms.storage.blocks import Blocks
from transforms.workers.fencing import Fence
from transforms.workers.threads import stop_work

BYTES_PER_BUCKET = 1 << 27  # of input; a bucket then holds about 2 million pairs, 72 MB, at most
MAX_BUCKETS = 4096  # more of them, and at 10 billion pairs blocks hold fewer than 32 rows


def run(command: Command) -> None:
    """Runs a command to its end; a run that was killed goes on where it stopped.

    Raises:
      UsageError: the command cannot be run as it was given.
    """
    job = command.job
    FileSystems.set_options(command.beam)  # Beam does it where a pipeline is made
    check_retry(command)
    check_stores(command)
    check_engine(command.beam)
    files = find_files(job)
    splits, parts = find_splits(job, files), find_pages(job, files)
    evaluation = find_evaluation_files(job.eval_images)
    given = find_vocabulary(job.vocabulary)
    if is_dry_run(command):
        _translate(command, _Input(files, splits, parts, evaluation, given))
        return
    description = describe_run(command, files, evaluation, given)
    folder = RunFolder(job.output, description, retry=job.retry_failed)
    if folder.finished and not job.retry_failed:
        folder.clean_finished()
        _say(f"{folder.out} is finished: nothing to do (manifest.json has this very run)")
        return
    engine = Engine(command.beam, folder.fence.token)
    blocks = folder.blocks_folder() if engine.in_process else None
    out, work = everywhere(folder.out), everywhere(folder.work)
    places = Places(out, work, Blocks(blocks), folder.fence)
    splits = [replace(split, path=everywhere(split.path)) for split in splits]
    parts = [part.moved(everywhere) for part in parts]
    evaluation = [file._replace(path=everywhere(file.path)) for file in evaluation]
    try:
        engine.check()
        for left in engine.cancel(folder.fence.newest()):
            _say(f"{left}, left running by an earlier start of this command, is cancelled")
        folder.fence.take()
        if job.retry_failed:
            with _Timed("retry"):
                funnel = retry_failed(command, folder, evaluation, places, engine.pipeline)
        else:
            given_input = _Input(files, splits, parts, evaluation, given)
            if not _curate(command, folder, places, given_input, engine.pipeline):
                return
            funnel = close_run(folder)
    finally:
        stop_work()
        folder.release()
        if blocks:
            _remove_blocks(blocks)
    _tell(funnel)
    _say(f"done: {folder.out}")


def _remove_blocks(folder: str) -> None:
    """In threads, since Linux lets go of a GB of its cache in 0.3 s; what cannot go stays."""
    with suppress(OSError), ThreadPoolExecutor() as pool:
        list(pool.map(Path.unlink, Path(folder).iterdir()))
    shutil.rmtree(folder, ignore_errors=True)


def _tell(funnel: dict[str, Any]) -> None:
    print(render_funnel(funnel["steps"]))
    print(render_vocabulary(funnel["vocabulary"]))
    if "pages" in funnel:
        print(render_pages(funnel["pages"]))
    if failed := render_failed(funnel["fetch"]):
        print(failed)
    if not funnel["pairs"]:
        _say("no pair is left: the funnel shows which rule took the most")


class _Input(NamedTuple):
    """What a run reads; pages are parsed first, and are then files to read."""

    files: list[InputFile]
    splits: list[Split]
    pages: list[PageFiles]
    evaluation: list[EvaluationFile]
    vocabulary: HashFile | None


def _curate(
    command: Command,
    folder: RunFolder,
    places: Places,
    given: _Input,
    pipeline_of: PipelineOf,
) -> bool:
    """The two planes, each where it is not done yet; False where a job was only handed over."""
    summary = folder.text_summary()
    if summary is None:
        files, splits = given.files, given.splits
        if given.pages:
            if not folder.pages_done():
                _say(f"parsing the pages of {len(files)} files in {len(given.pages)} parts")
                with _Timed("pages"), pipeline_of("pages") as pipeline:
                    parse_pages(pipeline, given.pages, places)
                if not folder.pages_done():
                    return _handed_over(command, "pages'")
            splits = splits + parsed_splits(places.pages, given.pages)
            files = parsed_files(places.pages, given.pages, files)
        _say(f"reading {len(files)} files in {len(splits)} splits")
        with _Timed("text plane"), pipeline_of("texts") as pipeline:
            curate_texts(pipeline, splits, command, places, bucket_count(files), given.vocabulary)
        if places.blocks.folder:
            _remove_blocks(places.blocks.folder)
        summary = folder.text_summary()
        if summary is None:
            return _handed_over(command, "text plane's")
    folder.check_lock()
    if not command.job.text_only and not folder.images_done():
        kept = summary["counts"].get("written", 0)
        shards = sorted(summary["shards"])
        _say(f"{kept:,} pairs to fetch for {len(shards)} shards")
        with _Timed("image plane"), pipeline_of("images") as pipeline:
            curate_images(pipeline, shards, given.evaluation, command, places)
        if not folder.images_done():
            return _handed_over(command, "image plane's")
    return True


def _handed_over(command: Command, whose: str) -> bool:
    """A flex template's launcher only leaves the job's graph, which is started after it."""
    if not command.beam.get_all_options().get("template_location"):
        raise RuntimeError(f"the {whose} job ended without its summary")
    _say(f"the {whose} job begins; when it has ended, start the same command again")
    return False


def _translate(command: Command, given: _Input) -> None:
    """Makes and checks the graphs of all jobs; starts and writes nothing."""
    out = command.job.output.rstrip("/")
    places = Places(out, f"{out}/_temporary", Blocks(), Fence(f"{out}/_temporary/start", "dry"))
    engine = Engine(command.beam, "dry")
    splits, made = given.splits, 1
    if given.pages:
        with engine.pipeline("pages") as pipeline:
            parse_pages(pipeline, given.pages, places)
        # What they will be parsed to, one split a part at least.
        splits = splits + [Split(part.files[0][0], "pages") for part in given.pages]
        made += 1
    with engine.pipeline("texts") as pipeline:
        buckets = bucket_count(given.files)
        curate_texts(pipeline, splits, command, places, buckets, given.vocabulary)
    if not command.job.text_only:
        with engine.pipeline("images") as pipeline:
            curate_images(pipeline, [0], given.evaluation, command, places)
        made += 1
    _say(f"dry run: {made} graphs were made, of {len(splits)} splits; nothing was started")


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
