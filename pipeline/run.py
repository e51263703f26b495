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

from alignset.pipeline.command_line import was_interrupted
from alignset.pipeline.copies import describing_cost, descriptors_folder
from alignset.pipeline.curate import Places, bucket_count, curate_texts, parse_pages
from alignset.pipeline.curate_images import curate_images, run_images, similarity_cost
from alignset.pipeline.datasets.forget_history import forget_listed
from alignset.pipeline.datasets.history import carry_history
from alignset.pipeline.datasets.summary import refuse_if_all_broken, summary_lines, too_little
from alignset.pipeline.documents.describe import complete, describe
from alignset.pipeline.documents.run_manifest import manifest_of_run
from alignset.pipeline.errors import TooLittleKeptError, UsageError
from alignset.pipeline.inputs.earlier_sets import TAKEN_DOWN_KEYS, folders_of_sets, shared_about
from alignset.pipeline.inputs.find_evaluation import check_index_folder, index_folder
from alignset.pipeline.inputs.splits import Split
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
from alignset.pipeline.settings import Settings
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


def run(settings: Settings, show: Callable[[str], object]) -> None:
    """Runs a command to its end; an interrupted run resumes where it stopped.

    Args:
      show: given what `summary_lines` says of a run that has ended.

    Raises:
      UsageError: the command cannot be run as it was given.
      TooLittleKeptError: it has ended, and nothing or almost nothing was kept.
    """
    be_quiet(settings.quiet)
    check_retry(settings)
    check_stores(settings)
    check_engine(settings.beam)
    source = Input.find(settings)
    for out in folders_of_sets(source.files):  # whose pairs may be about to leave
        WorkFolder(f"{out}/_temporary").refuse_stopped(out)
    settings = replace(settings, carried=source.carried)
    if weak := weak_points(settings.language, settings.languages):
        say(f"--language: {weak}; see docs/languages.md")
    if source.evaluation.files:
        check_index_folder(settings.eval_index or index_folder(settings.output.rstrip("/")))
    _tell_of_sets(settings, source)
    if is_dry_run(settings.beam):
        _translate(settings, source)
        return
    folder = RunFolder(settings.output, describe_run(settings, source), retry=settings.retry_failed)
    if folder.is_finished and not settings.retry_failed:
        folder.clean_finished()
        complete(folder.out)
        say(f"{folder.out} is finished: nothing to do (manifest.json describes it)")
        with suppress(DocumentError):  # an older version's
            _judge(folder, read_document(f"{folder.out}/funnel.json", Funnel))
        return
    try:
        funnel = Run(settings, folder, source.on_workers(everywhere)).finish()
    except DocumentError as error:
        raise UsageError(
            f"{error}: another version of alignset may have begun this run; resume with that "
            f"version, or delete {folder.work.path} and start again"
        ) from error
    if funnel is not None:
        for text in summary_lines(funnel):
            show(text)
        _judge(folder, funnel, now=True)


def _tell_of_sets(settings: Settings, source: Input) -> None:
    """Tells what is taken over of the datasets of the input, and what is not."""
    for earlier in source.sets:
        if earlier.holdout and not settings.holdout:
            say(
                f"{earlier.folder} holds out pairs, which are not read: --holdout reads them too; "
                "without it, other input may bring them into training"
            )
    foreign = any(of.format == "webdataset" and not of.of_set for of in source.splits)
    if foreign and (settings.decontaminate_only or settings.score_only):
        say(
            "samples get keys of alignset's own; --columns=all,input_key carries the old ones, "
            "where the input has them"
        )
    if kept := [name for name in shared_about(source.sets) if not getattr(settings, name)]:
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

    def __init__(self, settings: Settings, folder: RunFolder, source: Input) -> None:
        self.settings, self.folder, self.source = settings, folder, source
        self.engine, work = Engine(settings.beam, folder.start), folder.work
        scratch = self.engine.in_process and tempfile.mkdtemp(prefix="blocks-", dir=work.scratch)
        blocklists, path = source.blocklists.moved(work.blocklists), ""
        if len(source.removed_before):
            path, keys = work.removed_before, source.removed_before.astype("<u8").tobytes()
            write_atomically(path, lambda sink: sink.write(keys))
        self.places = Places(
            everywhere(folder.out), work, Blocks(scratch or None), blocklists, path
        )

    def finish(self) -> Funnel | None:
        """Does what is left to do; None where a job was only handed over."""
        folder = self.folder
        try:
            if self.engine.in_process and not WERE_COMPILED:
                say("compiling kernels for this machine: about 30 s, once")
            for job in self.engine.cancel(folder.earlier):
                say(f"{job}, left running by an earlier start of this command, is cancelled")
            if self.settings.retry_failed:
                with _timing("retry"):
                    return self._retried()
            return self._curated()
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

    def _curated(self) -> Funnel | None:
        """Runs the stages that are not done yet, and writes all documents."""
        folder, work = self.folder, self.folder.work
        text = work.find_text()
        if text is None:
            if not self._pages_parsed():
                return None
            text = self._texts_curated()
            if text is None:
                self._handed_over("text stage's")
                return None
        holding = sum(bool(file.bytes or file.fault) for file in self.source.files)
        refuse_if_all_broken(text.broken, holding)
        folder.check_lock()
        if not self.settings.text_only:
            if not work.find_images() and not self._images_curated(text):
                self._handed_over("image stage's")
                return None
            if not self._copies_left():
                self._handed_over("rewriting")
                return None
            folder.check_lock()
        if exists(work.removed_before):  # what is made of this dataset leaves them out too
            carry_file(work.removed_before, f"{folder.out}/{TAKEN_DOWN_KEYS}")
        renumber_shards(folder.out, work.path)
        carry_history(folder.out, self.source.sets)
        self._forget_listed()
        return self._close(manifest_of_run(folder, text, work.find_images()))

    def _retried(self) -> Funnel | None:
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
                plan_retry(pipeline, change, self.settings, places)
        text = folder.work.find_text()
        assert text is not None, "it is planned"
        if not folder.work.find_images():
            if descriptors_folder(self.settings, places):
                say(describing_cost(change.manifest.pairs))
            if not self._images_curated(text, change.manifest.holding):
                self._handed_over("image stage's")
                return None
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
        if self.settings.forget_blocked:
            forget_listed(self.folder.out, self.places.blocklists)

    def _pages_parsed(self) -> bool:
        """Parses the pages, if there are any and they are not parsed yet."""
        parts, work = self.source.pages, self.places.work
        if not parts or work.find_pages():
            return True
        files = counted(len(self.source.files), "file")
        say(f"parsing the pages of {files} in {counted(len(parts), 'part')}")
        with _timing("pages"), self.engine.pipeline("pages") as pipeline:
            parse_pages(pipeline, parts, self.settings, self.places)
        if not work.find_pages():
            self._handed_over("pages'")
        return bool(work.find_pages())

    def _texts_curated(self) -> TextSummary | None:
        source = self.source.with_parsed_pages(self.places.work.pages)
        files, splits = counted(len(source.files), "file"), counted(len(source.splits), "split")
        say(f"reading {files} in {splits}")
        with _timing("text stage"), self.engine.pipeline("texts") as pipeline:
            buckets = bucket_count(source.files)
            curate_texts(
                pipeline, source.splits, self.settings, self.places, buckets, source.vocabulary
            )
        self._remove_blocks()
        return self.folder.work.find_text()

    def _images_curated(self, text: TextSummary, earlier: Sequence[int] = ()) -> bool:
        """Runs the image stage; returns whether it has ended.

        Args:
          earlier: the numbers of finished shards that hold something, where a retry adds others.
        """
        places, source = self.places, self.source

        def build(pipeline: beam.Pipeline) -> None:
            curate_images(pipeline, sorted(text.shards), source, self.settings, places, earlier)

        pairs = sum(text.shards.values())
        if scored_by := self.settings.score_model:
            say(similarity_cost(scored_by, pairs))
        formats = {file.format for file in source.files}
        verb = "fetch again" if self.folder.retry else verb_of(formats)
        if text.stored and (rest := pairs - text.stored):
            stored = counted(text.stored, "pair")
            say(f"{stored} with an image in the input, {counted(rest, 'pair')} to fetch")
        run_images(self.engine, places, text.shards, source.unsafe_model, build, verb=verb)
        images = self.folder.work.find_images()
        if images and images.evaluation_index and not self.settings.eval_index:
            folder = images.evaluation_index.rpartition("/")[0]
            say(f"--eval_index={folder} uses the index of evaluation images in other runs too")
        return bool(images)

    def _copies_left(self) -> bool:
        """Takes out what leaves for its copies, or since others are more similar."""
        places = self.places
        if (share := self.settings.keep_most_similar) < 1:
            holding = [number for number, holds in shards_there(places.out).items() if holds]
            rank_pairs(sorted(holding), places, share)
        return rewrite(places.out, places.work, self.engine)

    def _handed_over(self, whose: str) -> None:
        """A flex template's launcher only leaves the job's graph, which is started after it."""
        if not self.settings.beam.get_all_options().get("template_location"):
            out, end = self.folder.out, f"the {whose} job ended without its summary"
            if is_local(out):
                end += f" in {out}: --output must be a folder that all workers share, or in a store"
            raise RuntimeError(end)
        say(f"the {whose} job begins; when it has ended, start the same command again")

    def _remove_blocks(self) -> None:
        """In threads, since Linux lets go of a GB of its cache in 0.3 s; what cannot go stays."""
        if folder := self.places.blocks.folder:
            with suppress(OSError), ThreadPoolExecutor() as pool:
                list(pool.map(Path.unlink, Path(folder).iterdir()))


def _translate(settings: Settings, source: Input) -> None:
    """Makes and checks the graphs of all jobs; starts and writes nothing."""
    out = settings.output.rstrip("/")
    places = Places(out, WorkFolder(f"{out}/_temporary"), Blocks(), source.blocklists)
    engine, graphs = Engine(settings.beam, "dry"), 1
    if source.pages:
        with engine.pipeline("pages") as pipeline:
            parse_pages(pipeline, source.pages, settings, places)
        # What they will be parsed to, one split a part at least.
        parsed = [Split(part.files[0][0], "pages") for part in source.pages]
        source = replace(source, splits=[*source.splits, *parsed])
        graphs += 1
    with engine.pipeline("texts") as pipeline:
        buckets = bucket_count(source.files)
        curate_texts(pipeline, source.splits, settings, places, buckets, source.vocabulary)
    if not settings.text_only:
        with engine.pipeline("images") as pipeline:
            curate_images(pipeline, [0], source, settings, places)
        graphs += 1
    say(f"dry run: {graphs} graphs were made, of {len(source.splits)} splits; nothing was started")


@contextmanager
def _timing(name: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    say(f"{name}: {time.monotonic() - start:.1f} s")
