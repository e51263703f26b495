"""A whole run: what is done already, the two stages, the closing documents."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import apache_beam as beam

from alignset.pipeline.command import Command
from alignset.pipeline.command_line import was_interrupted
from alignset.pipeline.copies import describing_cost, descriptors_folder
from alignset.pipeline.curate import Places, curate_texts, parse_pages
from alignset.pipeline.curate_images import curate_images, run_images, similarity_cost
from alignset.pipeline.datasets.find_listed import forget_listed
from alignset.pipeline.datasets.history import carry_history
from alignset.pipeline.datasets.summary import refuse_if_all_broken, summary_lines, too_little
from alignset.pipeline.documents.describe import complete, describe
from alignset.pipeline.documents.run_manifest import manifest_of_run
from alignset.pipeline.errors import TooLittleKeptError, UsageError
from alignset.pipeline.inputs.earlier_sets import TAKEN_DOWN_KEYS, folders_of_sets, shared_about
from alignset.pipeline.inputs.find_evaluation import check_index_folder, index_folder
from alignset.pipeline.inputs.splits import InputFile, Split
from alignset.pipeline.inputs.whole_input import Input
from alignset.pipeline.most_similar import rank_pairs
from alignset.pipeline.progress import be_quiet, say, verb_of
from alignset.pipeline.retry import (
    begin_retry,
    check_retry,
    forget_retried,
    manifest_of_retry,
    plan_retry,
)
from alignset.pipeline.rewrite import rewrite
from alignset.pipeline.runs.documents import Connections, Funnel, Manifest
from alignset.pipeline.runs.engine import Engine, check_engine, everywhere, is_dry_run
from alignset.pipeline.runs.run_folder import RunFolder, describe_run
from alignset.pipeline.runs.stores import check_stores
from alignset.pipeline.runs.work_folder import TextSummary, WorkFolder
from alignset.pipeline.shown_texts import counted
from alignset.transforms.columns.kernels import WERE_COMPILED
from alignset.transforms.fetching.fetch_settings import GONE
from alignset.transforms.rules.language_codes import weak_points
from alignset.transforms.shards.renumber_shards import renumber_shards
from alignset.transforms.shards.shard_progress import shards_there
from alignset.transforms.storage.blocks import Blocks
from alignset.transforms.storage.documents import DocumentError, read_document
from alignset.transforms.storage.files import carry_file, exists, is_local, write_atomically
from alignset.transforms.workers.attempts import end_killed
from alignset.transforms.workers.threads import stop_work

BYTES_PER_BUCKET = 1 << 27  # of input; a bucket then holds about 2 million pairs, 72 MB, at most
MAX_BUCKETS = 4096  # more of them, and at 10 billion pairs blocks hold fewer than 32 rows


def run(command: Command, show: Callable[[str], object]) -> None:
    """Runs a command to its end; an interrupted run resumes where it stopped.

    Args:
      show: given what `summary_lines` says of a run that has ended.

    Raises:
      UsageError: the command cannot be run as it was given.
      TooLittleKeptError: it has ended, and nothing or almost nothing was kept.
    """
    job = command.job
    be_quiet(job.quiet)
    check_retry(command)
    check_stores(command)
    check_engine(command.beam)
    source = Input.find(job, command.rules, command.overlap)
    for out in folders_of_sets(source.files):  # whose pairs may be about to leave
        WorkFolder(f"{out}/_temporary").refuse_stopped(out)
    command = replace(command, carried=source.carried)
    if weak := weak_points(command.rules.language, command.rules.language_rule.languages):
        say(f"--language: {weak}; see docs/languages.md")
    if source.evaluation.files:
        check_index_folder(command.overlap.eval_index or index_folder(job.output.rstrip("/")))
    _tell_of_sets(command, source)
    if is_dry_run(command.beam):
        _translate(command, source)
        return
    folder = RunFolder(job.output, describe_run(command, source), retry=job.retry_failed)
    if folder.is_finished and not job.retry_failed:
        folder.clean_finished()
        complete(folder.out)
        say(f"{folder.out} is finished: nothing to do (manifest.json describes it)")
        with suppress(DocumentError):  # an older version's
            _judge(folder, read_document(f"{folder.out}/funnel.json", Funnel))
        return
    try:
        funnel = Run(command, folder, source.on_workers(everywhere)).finish()
    except DocumentError as error:
        raise UsageError(
            f"{error}: another version of alignset may have begun this run; resume with that "
            f"version, or delete {folder.work.path} and start again"
        ) from error
    if funnel is not None:
        for text in summary_lines(funnel):
            show(text)
        _judge(folder, funnel, now=True)


def _tell_of_sets(command: Command, source: Input) -> None:
    """Tells what is taken over of the datasets of the input, and what is not."""
    for earlier in source.sets:
        if earlier.holdout and not command.job.holdout:
            say(
                f"{earlier.folder} holds out pairs, which are not read: --holdout reads them too; "
                "without it, other input may bring them into training"
            )
    overlap = command.overlap
    foreign = any(of.format == "webdataset" and not of.of_set for of in source.splits)
    if foreign and (overlap.decontaminate_only or overlap.score_only):
        say(
            "samples get keys of alignset's own; --columns=all,input_key carries the old ones, "
            "where the input has them"
        )
    given = {**vars(command.job), "contact": command.fetch.contact}
    if kept := [name for name in shared_about(source.sets) if not given[name]]:
        say(f"the card has the {', '.join(kept)} of the input's dataset; a flag gives another")


def _judge(folder: RunFolder, funnel: Funnel, *, now: bool = False) -> None:
    """Tells which fetches are worth to be tried again, or raises where too little is kept.

    Args:
      now: whether the run has ended just now, which is said.
    """
    if why := too_little(funnel, folder.description.catalogue):
        raise TooLittleKeptError(f"{folder.out}: {why}")
    if now:
        say(f"done: {folder.out}")
    again = sum(n for detail, n in funnel.fetch.details.items() if detail not in GONE)
    if again:
        say(f"the same command with --retry_failed tries {again:,} failed fetches again")


class Run:
    """A run that is not finished.

    Args:
      folder: its output folder, which it holds.
      source: what it reads, as workers find it.
    """

    def __init__(self, command: Command, folder: RunFolder, source: Input) -> None:
        self.command, self.folder, self.source = command, folder, source
        self.engine = Engine(command.beam, folder.start)
        blocks = Blocks(
            tempfile.mkdtemp(prefix="blocks-", dir=folder.work.scratch)
            if self.engine.in_process
            else None
        )
        blocklists = source.blocklists.moved(folder.work.blocklists)
        removed = source.removed_before.astype("<u8").tobytes()
        path = folder.work.removed_before if removed else ""
        if removed:
            write_atomically(path, lambda sink: sink.write(removed))
        self.places = Places(everywhere(folder.out), folder.work, blocks, blocklists, path)

    def finish(self) -> Funnel | None:
        """Does what is left to do; None where a job was only handed over."""
        folder = self.folder
        try:
            if self.engine.in_process and not WERE_COMPILED:
                say("compiling kernels for this machine: about 30 s, once")
            for job in self.engine.cancel(folder.earlier):
                say(f"{job}, left running by an earlier start of this command, is cancelled")
            if self.command.job.retry_failed:
                with _timing("retry"):
                    return self._retried()
            return self._close(self._manifest()) if self._curate_all() else None
        except BaseException as error:
            if was_interrupted(error):  # no attempt has died of its images
                stop_work()
                with suppress(Exception):
                    folder.check_lock()
                    end_killed(folder.work.attempts, forget=True)
            raise
        finally:
            stop_work()
            folder.release()
            self._remove_blocks()
            if self.places.blocks.folder:
                shutil.rmtree(self.places.blocks.folder, ignore_errors=True)

    def _curate_all(self) -> bool:
        """Runs the stages that are not done yet; False where a job was only handed over."""
        text = self.folder.work.find_text()
        if text is None:
            if not self._pages_parsed():
                return False
            text = self._texts_curated()
            if text is None:
                return self._handed_over("text stage's")
        holding = sum(bool(file.bytes or file.fault) for file in self.source.files)
        refuse_if_all_broken(text.broken, holding)
        self.folder.check_lock()
        if self.command.job.text_only:
            return True
        images_done = bool(self.folder.work.find_images()) or self._images_curated(text)
        return images_done and self._copies_left()

    def _manifest(self) -> Manifest:
        """The manifest of the stages that have ended; brings files beside the shards."""
        folder, source = self.folder, self.source
        folder.check_lock()
        if exists(folder.work.removed_before):  # what is made of this dataset leaves them out too
            carry_file(folder.work.removed_before, f"{folder.out}/{TAKEN_DOWN_KEYS}")
        text = folder.work.find_text()
        assert text is not None, "the text stage has ended"
        renumber_shards(folder.out, folder.work.path)
        carry_history(folder.out, source.sets)
        self._forget_listed()
        return manifest_of_run(folder, text, folder.work.find_images())

    def _retried(self) -> Funnel:
        """Tries again what could not be fetched; returns the funnel that there then is."""
        folder, places = self.folder, self.places
        self._forget_listed()
        change = begin_retry(folder)
        if change is None:
            complete(folder.out)
            folder.clean()
            return read_document(f"{folder.out}/funnel.json", Funnel)
        if not folder.work.find_text():
            with self.engine.pipeline("plan") as pipeline:
                plan_retry(pipeline, change, self.command, places)
        text = folder.work.find_text()
        assert text is not None, "it is planned"
        if not folder.work.find_images():
            if descriptors_folder(self.command, places):
                say(describing_cost(change.manifest.pairs))
            self._images_curated(text, change.manifest.holding)
        folder.check_lock()
        if not exists(places.work.renumbered):  # or shards have other numbers by now
            forget_retried(change, places)
            self._copies_left()
        images = folder.work.find_images()
        assert images is not None, "the image stage has ended"
        numbers = renumber_shards(folder.out, places.work.path)
        return self._close(manifest_of_retry(folder, change, text, images, numbers))

    def _close(self, manifest: Manifest) -> Funnel:
        """Writes all documents, and ends the run."""
        images = self.folder.work.find_images()
        self.folder.check_lock()
        funnel = describe(self.folder.out, manifest)
        self.folder.clean()
        if images and images.connections:
            connections = Connections(images.connections, images.limits)
            return replace(funnel, fetch=replace(funnel.fetch, connections=connections))
        return funnel

    def _forget_listed(self) -> None:
        if self.command.job.forget_blocked:
            forget_listed(self.folder.out, self.places.blocklists)

    def _images_curated(self, text: TextSummary, earlier: Sequence[int] = ()) -> bool:
        """Runs the image stage.

        Args:
          earlier: the numbers of finished shards that hold something, where a retry adds others.
        """
        places, model = self.places, self.source.unsafe_model

        def build(pipeline: beam.Pipeline) -> None:
            shards, how = sorted(text.shards), (self.command, places, earlier, model)
            curate_images(pipeline, shards, self.source.evaluation, *how)

        if scored_by := self.command.job.score_model:
            say(similarity_cost(scored_by, sum(text.shards.values())))
        formats = {file.format for file in self.source.files}
        verb = "fetch again" if self.folder.retry else verb_of(formats)
        if text.stored and (rest := sum(text.shards.values()) - text.stored):
            stored = counted(text.stored, "pair")
            say(f"{stored} with an image in the input, {counted(rest, 'pair')} to fetch")
        run_images(self.engine, places, text.shards, model, build, verb=verb)
        images = self.folder.work.find_images()
        if images and images.evaluation_index and not self.command.overlap.eval_index:
            folder = images.evaluation_index.rpartition("/")[0]
            say(f"--eval_index={folder} uses the index of evaluation images in other runs too")
        return bool(images) or self._handed_over("image stage's")

    def _copies_left(self) -> bool:
        """Takes out what leaves for its copies, or since others are more similar."""
        places = self.places
        if (share := self.command.rules.keep_most_similar) < 1:
            holding = [number for number, holds in shards_there(places.out).items() if holds]
            rank_pairs(sorted(holding), places, share)
        done = rewrite(places.out, places.work, self.engine)
        return done or self._handed_over("rewriting")

    def _pages_parsed(self) -> bool:
        """Parses the pages, if there are any and they are not parsed yet."""
        parts = self.source.pages
        if not parts or self.folder.work.find_pages():
            return True
        files = counted(len(self.source.files), "file")
        say(f"parsing the pages of {files} in {counted(len(parts), 'part')}")
        with _timing("pages"), self.engine.pipeline("pages") as pipeline:
            parse_pages(pipeline, parts, self.command, self.places)
        return bool(self.folder.work.find_pages()) or self._handed_over("pages'")

    def _texts_curated(self) -> TextSummary | None:
        source = self.source.with_parsed_pages(self.places.work.pages)
        files, splits = counted(len(source.files), "file"), counted(len(source.splits), "split")
        say(f"reading {files} in {splits}")
        with _timing("text stage"), self.engine.pipeline("texts") as pipeline:
            buckets = bucket_count(source.files)
            curate_texts(
                pipeline, source.splits, self.command, self.places, buckets, source.vocabulary
            )
        self._remove_blocks()
        return self.folder.work.find_text()

    def _handed_over(self, whose: str) -> bool:
        """A flex template's launcher only leaves the job's graph, which is started after it."""
        if not self.command.beam.get_all_options().get("template_location"):
            out, end = self.folder.out, f"the {whose} job ended without its summary"
            if is_local(out):
                end += f" in {out}: --output must be a folder that all workers share, or in a store"
            raise RuntimeError(end)
        say(f"the {whose} job begins; when it has ended, start the same command again")
        return False

    def _remove_blocks(self) -> None:
        """In threads, since Linux lets go of a GB of its cache in 0.3 s; what cannot go stays."""
        if folder := self.places.blocks.folder:
            with suppress(OSError), ThreadPoolExecutor() as pool:
                list(pool.map(Path.unlink, Path(folder).iterdir()))


def _translate(command: Command, source: Input) -> None:
    """Makes and checks the graphs of all jobs; starts and writes nothing."""
    out = command.job.output.rstrip("/")
    places = Places(out, WorkFolder(f"{out}/_temporary"), Blocks(), source.blocklists)
    engine = Engine(command.beam, "dry")
    splits, graphs = [*source.splits], 1
    if source.pages:
        with engine.pipeline("pages") as pipeline:
            parse_pages(pipeline, source.pages, command, places)
        # What they will be parsed to, one split a part at least.
        splits += [Split(part.files[0][0], "pages") for part in source.pages]
        graphs += 1
    with engine.pipeline("texts") as pipeline:
        buckets = bucket_count(source.files)
        curate_texts(pipeline, splits, command, places, buckets, source.vocabulary)
    if not command.job.text_only:
        with engine.pipeline("images") as pipeline:
            model = source.unsafe_model
            curate_images(pipeline, [0], source.evaluation, command, places, unsafe_model=model)
        graphs += 1
    say(f"dry run: {graphs} graphs were made, of {len(splits)} splits; nothing was started")


def bucket_count(files: Sequence[InputFile]) -> int:
    """How many buckets of pairs, of URLs and of texts: a power of two, from 8 to MAX_BUCKETS.

    Few enough that blocks are worth sending, since each batch sends one to each bucket; enough that
    what one bucket holds fits in a worker's memory (docs/scale.md).
    """
    count = sum(file.bytes for file in files) // BYTES_PER_BUCKET
    return min(MAX_BUCKETS, max(8, 1 << int(count).bit_length()))


@contextmanager
def _timing(name: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    say(f"{name}: {time.monotonic() - start:.1f} s")
