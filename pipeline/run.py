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
from apache_beam.options.pipeline_options import PipelineOptions

from alignset.pipeline.change_dataset import rewrite
from alignset.pipeline.command_line import was_interrupted
from alignset.pipeline.curate import Places, bucket_count, curate_texts, parse_pages
from alignset.pipeline.curate_images import curate_images, run_images, similarity_cost
from alignset.pipeline.datasets.funnel import carry_history
from alignset.pipeline.datasets.summary import refuse_if_all_broken, summary_lines, too_little
from alignset.pipeline.documents.describe import complete, describe, manifest_of_run
from alignset.pipeline.errors import TooLittleKeptError, UsageError
from alignset.pipeline.grow import Growth
from alignset.pipeline.inputs.earlier_sets import TAKEN_DOWN_KEYS, folders_of_sets, shared_about
from alignset.pipeline.inputs.find_lists import check_index_folder, index_folder
from alignset.pipeline.inputs.splits import ROWS, Split
from alignset.pipeline.inputs.whole_input import Input
from alignset.pipeline.leaving import rank_pairs
from alignset.pipeline.progress import be_quiet, say, verb_of
from alignset.pipeline.runs.documents import Connections, Funnel, Manifest
from alignset.pipeline.runs.engine import Engine, check_engine, everywhere, is_dry_run
from alignset.pipeline.runs.flink_jobs import StalledError
from alignset.pipeline.runs.known_sets import find_known_sets
from alignset.pipeline.runs.run_folder import RunFolder, describe_run
from alignset.pipeline.runs.run_lock import LOCK
from alignset.pipeline.runs.stores import check_stores
from alignset.pipeline.runs.work_folder import TextSummary, WorkFolder
from alignset.pipeline.settings import Settings
from alignset.pipeline.shown_texts import counted
from alignset.transforms.columns.kernels import WERE_COMPILED
from alignset.transforms.fetching.fetch_settings import GONE
from alignset.transforms.rules.language_codes import weak_points
from alignset.transforms.shards.renumber_shards import renumber_shards
from alignset.transforms.shards.shard_places import shards_there
from alignset.transforms.storage.blocks import Blocks
from alignset.transforms.storage.broken_files import BrokenInputError
from alignset.transforms.storage.documents import DocumentError, read_document
from alignset.transforms.storage.files import (
    carry_file,
    exists,
    is_local,
    open_to_read,
    write_atomically,
)
from alignset.transforms.storage.shared_paths import SharedPaths, one_of_each_folder, stop_file
from alignset.transforms.workers.attempts import end_killed
from alignset.transforms.workers.threads import stop_work


def run(settings: Settings, show: Callable[[str], object], growth: Growth | None = None) -> None:
    """Runs a command to its end; an interrupted run resumes where it stopped.

    Args:
      show: given what `summary_lines` says of a run that has ended.
      growth: where `alignset grow` runs.

    Raises:
      UsageError: the command cannot be run as it was given.
      TooLittleKeptError: it has ended, and nothing or almost nothing was kept.
    """
    be_quiet(settings.quiet, as_json=settings.progress == "json")
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
    description = describe_run(settings, source)
    if growth:
        description = replace(description, grown=growth.check(description))
    rows = folders_of_sets(file for file in source.files if file.format == ROWS)
    try:
        source = replace(source, known=find_known_sets(settings, sorted(rows), description))
    except (BrokenInputError, DocumentError) as error:
        raise UsageError(str(error)) from error
    if settings.retry_failed and not source.known:
        raise UsageError(
            "--retry_failed asks again for what a finished dataset could not fetch: alignset grow "
            f"{settings.output} --retry_failed --output=NEW"
        )
    if is_dry_run(settings.beam):
        _translate(settings, source)
        return
    folder = RunFolder(settings.output, description)
    if folder.is_finished:
        folder.clean_finished()
        complete(folder.out)
        say(f"{folder.out} is finished: nothing to do (manifest.json describes it)")
        with suppress(DocumentError):  # an older version's
            _judge(folder, settings, read_document(f"{folder.out}/funnel.json", Funnel))
        return
    try:
        source = source.resolve_paths(everywhere)
        funnel = Run(settings, folder, source, growth).finish()
    except DocumentError as error:
        raise UsageError(
            f"{error}: another version of alignset may have begun this run; resume with that "
            f"version, or delete {folder.work.path} and start again"
        ) from error
    if funnel is not None:
        for text in summary_lines(funnel):
            show(text)
        _judge(folder, settings, funnel, now=True)


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


def _judge(folder: RunFolder, settings: Settings, funnel: Funnel, *, now: bool = False) -> None:
    """Tells which fetches are worth to be tried again, or raises where too little is kept.

    Args:
      now: whether the run has ended just now, which is said.
    """
    if why := too_little(funnel, folder.description.catalogue):
        raise TooLittleKeptError(f"{folder.out}: {why}")
    if now:
        grown = read_document(f"{folder.out}/manifest.json", Manifest).grown
        say(f"done: {folder.out}{f': {grown.words}' if grown else ''}")
    again = sum(n for detail, n in funnel.fetch.details.items() if detail not in GONE)
    if again:
        retry = f"alignset grow {folder.out} --retry_failed --output=NEW"
        say(f"{retry} tries {again:,} failed fetches again")
    fetch, most = funnel.fetch, settings.max_failed_share
    if fetch.failed > most * fetch.tried:
        raise TooLittleKeptError(
            f"{folder.out}: {fetch.failed:,} of {fetch.tried:,} fetches failed, more than "
            f"--max_failed_share={most:g}; the dataset is whole without them"
        )


class Run:
    """A run that is not finished.

    Args:
      folder: its output folder, which it holds.
      source: what it reads, as workers find it. growth: where `alignset grow` runs.
    """

    def __init__(
        self, settings: Settings, folder: RunFolder, source: Input, growth: Growth | None = None
    ) -> None:
        self.settings, self.folder, self.source, self.growth = settings, folder, source, growth
        work = folder.work
        blocklists = source.blocklists.moved(work.blocklists)
        self._keep_removed(source.removed_before.astype("<u8").tobytes())
        removed = work.removed_before if len(source.removed_before) else ""
        self.places = Places(everywhere(folder.out), work, Blocks(), blocklists, removed)
        self._run_on(settings.beam)

    def _keep_removed(self, keys: bytes) -> None:
        """Writes the keys of pairs that were taken down, which the text stage leaves out.

        Raises:
          UsageError: the text stage has ended, with other keys.
        """
        work, written = self.folder.work, b""
        if exists(work.removed_before):
            with open_to_read(work.removed_before) as source:
                written = source.read()
        if written == keys:
            return
        if work.find_text():
            raise UsageError(
                f"{self.folder.out}: since this run began, pairs were taken down from a dataset of "
                "--images_from, or it is another one: pass another --output"
            )
        write_atomically(work.removed_before, keys)

    def _run_on(self, options: PipelineOptions) -> None:
        """Has the pipelines from here on run there."""
        work = self.folder.work
        self.engine = Engine(options, self.folder.start, self._stop_workers)
        if self.engine.in_process:
            scratch = tempfile.mkdtemp(prefix="blocks-", dir=work.scratch)
            self.places = replace(self.places, blocks=Blocks(scratch), shared=None)
        else:
            token = f"{work.path}/{LOCK}"
            shared = SharedPaths(token, self.folder.start, self._paths_to_read())
            self.places = replace(self.places, shared=shared)

    def _stop_workers(self, starts: Sequence[str]) -> None:
        """Has the workers of some starts of the command fetch no more."""
        if self.engine.in_process:  # they end with the command
            return
        with suppress(Exception):  # the job is cancelled all the same
            self.folder.check_lock()  # what another start has taken over stays as it is
            for start in starts:
                write_atomically(stop_file(f"{self.folder.work.path}/{LOCK}", start), b"")

    def _paths_to_read(self) -> tuple[str, ...]:
        """Files and folders that each worker must see; the blocklists are in the output by now."""
        source, model = self.source, self.source.unsafe_model
        named = [model and model.path, source.vocabulary and source.vocabulary.path]
        named += [source.evaluation.index, self.settings.score_model]  # perhaps a model's name
        named += [known.folder for known in source.known]
        files = [split.path for split in source.splits if not split.broken]
        files += [path for part in source.pages for path, _ in part.files]
        files = one_of_each_folder([*files, *(file.path for file in source.evaluation.files)])
        files += [path for path in named if path and is_local(path) and exists(path)]
        return tuple(map(everywhere, files))

    def finish(self) -> Funnel | None:
        """Does what is left to do; None where a job was only handed over."""
        folder = self.folder
        try:
            if self.engine.in_process and not WERE_COMPILED:
                say("compiling kernels for this machine: about 30 s, once")
            self._stop_workers(folder.earlier)
            for job in self.engine.cancel(folder.earlier):
                say(f"{job}, left running by an earlier start of this command, is cancelled")
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
        if len(self.source.removed_before):  # what is made of this dataset leaves them out too
            carry_file(work.removed_before, f"{folder.out}/{TAKEN_DOWN_KEYS}")
        renumber_shards(folder.out, work.path)
        carry_history(folder.out, self.source.sets)
        known = [of.folder for of in self.source.known]
        manifest = manifest_of_run(folder, text, work.find_images(), known)
        if self.growth:
            manifest = replace(manifest, grown=self.growth.end(folder))
        return self._close(manifest)

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
        source = self.source.replace_pages(self.places.work.pages)
        files, splits = counted(len(source.files), "file"), counted(len(source.splits), "split")
        say(f"reading {files} in {splits}")
        with _timing("text stage"), self.engine.pipeline("texts") as pipeline:
            buckets = bucket_count(source.files)
            curate_texts(
                pipeline, source.splits, self.settings, self.places, buckets, source.vocabulary
            )
        self._remove_blocks()
        return self.folder.work.find_text()

    def _images_curated(self, text: TextSummary) -> bool:
        """Runs the image stage; returns whether it has ended."""
        source = self.source

        def build(pipeline: beam.Pipeline) -> None:
            curate_images(pipeline, sorted(text.shards), source, self.settings, self.places)

        pairs = sum(text.shards.values())
        if scored_by := self.settings.score_model:
            say(similarity_cost(scored_by, pairs))
        formats = {file.format for file in source.files}
        if text.stored and (rest := pairs - text.stored):
            stored = counted(text.stored, "pair")
            say(f"{stored} with an image in the input, {counted(rest, 'pair')} to fetch")
        verb = verb_of(formats)
        try:
            model = source.unsafe_model
            run_images(self.engine, self.places, text.shards, model, build, verb=verb)
        except StalledError as error:
            say(f"{error}: this command adds up what they hold")
            self._run_on(PipelineOptions([]))
            run_images(self.engine, self.places, text.shards, None, build, verb=verb)
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
            raise RuntimeError(f"the {whose} job ended without its summary in {self.folder.out}")
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
