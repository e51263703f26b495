"""The output folder: whose run it is, and what is done in it."""

from __future__ import annotations

import dataclasses
import re
import shutil
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.earlier_sets import shared_about
from alignset.pipeline.inputs.whole_input import Input
from alignset.pipeline.job import ABOUT
from alignset.pipeline.rule_files import model_name
from alignset.pipeline.runs.documents import LAYOUT, Manifest, NamedList, NamedRules, RunDescription
from alignset.pipeline.runs.documents import Settings as Flags
from alignset.pipeline.runs.engine import everywhere
from alignset.pipeline.runs.run_lock import Lock, take_lock
from alignset.pipeline.runs.work_folder import Change, WorkFolder
from alignset.pipeline.settings import Settings, deciding_settings
from alignset.transforms.blocklists.blocklists import Blocklists
from alignset.transforms.columns.carried import type_name
from alignset.transforms.decontamination.overlap_settings import INDEX_SETTINGS
from alignset.transforms.rules.catalogue import column_numbers
from alignset.transforms.rules.custom import describe_limit, limits_in
from alignset.transforms.safety.model_files import open_nsfw_path
from alignset.transforms.storage.documents import DocumentError, read_document, write_document
from alignset.transforms.storage.files import exists, is_local, match, shown_path

# The version in the default user agent decides nothing of a finished dataset.
_OWN_AGENT = re.compile(r"(?<=^alignset)/[0-9.]+(?= \()")


def describe_run(settings: Settings, source: Input) -> RunDescription:
    """All that decides what the output is; how fast it is fetched and in what batches does not."""
    groups = deciding_settings(settings)
    job, rules, fetch = groups["job"], groups["rules"], groups["fetch"]
    if not settings.columns:
        del job["columns"]
    job["score_model"] = model_name(settings.score_model)
    rules |= {**settings.of_users, **dict(column_numbers(settings.numbers))}
    if not settings.language_detector:  # nor has a run of an earlier version one
        del rules["language_detector"]
    if source.vocabulary:
        del rules["vocabulary_size"]
    rules["concepts"] = settings.concepts.rpartition("/")[2]  # with its digest
    before = shared_about(source.sets)  # hosts are told of a contact that is given alone
    if contact := settings.contact or before.pop("contact", ""):
        fetch["contact"] = contact
    model, evaluation = source.unsafe_model, source.evaluation
    index = {"index": Path(evaluation.index).name} if evaluation.index else {}
    return RunDescription(
        **groups,
        input=[file.for_documents() for file in source.files],
        evaluation=[
            dataclasses.replace(file, path=shown_path(file.path)) for file in evaluation.files
        ],
        given_vocabulary=source.vocabulary,
        overlap={**INDEX_SETTINGS, **index} if evaluation.files or index else UNSET,
        unsafe_model=dataclasses.replace(model, path=Path(model.path or open_nsfw_path()).name)
        if model
        else UNSET,
        blocklists=named_lists(source.blocklists),
        rule_files=[
            NamedRules(
                file.name,
                file.sha256,
                [describe_limit(limit) for limit in limits_in([file])],
                sorted(file.flags) or UNSET,
            )
            for file in settings.files
        ]
        or UNSET,
        columns={field.name: type_name(field.type) for field in settings.carried} or UNSET,
        about={
            name: value for name in ABOUT if (value := getattr(settings, name) or before.get(name))
        }
        or UNSET,
        layout=LAYOUT,
    )


def named_lists(blocklists: Blocklists) -> list[NamedList] | UnsetType:
    """The blocklists in documents; UNSET where there are none."""
    lists = [NamedList(of.name, of.sha256, of.entries) for of in blocklists.lists]
    return lists or UNSET


def _differences(old: Any, new: Any, name: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [d for k in keys for d in _differences(old.get(k), new.get(k), k)]
    if old == new:
        return []
    if isinstance(old, list | dict) or isinstance(new, list | dict):
        return [f"other {name.replace('_', ' ')}"]
    values = ["not given" if value is None else value for value in (old, new)]
    return [f"{name} {values[0]} there, {values[1]} here"]


class RunFolder:
    """An output folder.

    Args:
      out: its path.
      description: what `describe_run` says of the run.
      retry: which failed fetches of the finished run are tried again, as `--retry_failed` has it;
        "" where none is.

    Attributes:
      start: the token of this start. earlier: the tokens of the starts before it.
      change: the retry that was stopped and is resumed; None where there is none.

    Raises:
      UsageError: the folder holds something else.
    """

    def __init__(self, out: str, description: RunDescription, *, retry: str = "") -> None:
        self.out = out.rstrip("/")
        self.work = WorkFolder(everywhere(f"{self.out}/_temporary"))
        self.description, self.retry = description, retry
        self.start, self.earlier = uuid.uuid4().hex[:12], list[str]()
        self.change: Change | None = None
        self._lock: Lock | None = None
        self.is_finished = self._check_finished()
        if not retry and self.is_finished:
            return
        self._lock = take_lock(self.work.path, self.start)
        self.earlier = self._lock.holder["earlier"]
        try:
            self.is_finished = self._check_finished()  # another run may just have ended, or begun
            if self.is_finished and not self.change:
                self.work.clear()
            if not self.is_finished and not exists(self.work.description):
                write_document(self.work.description, self.description)
            for kind in ("blocks-*", "shard-*", "rows-*") if self.work.scratch else ():
                for killed in Path(self.work.path).glob(kind):
                    shutil.rmtree(killed, ignore_errors=True)
        except BaseException:
            self.release()
            raise

    def _check_finished(self) -> bool:
        """Whether there is nothing to do; refuses what another run, or somebody else, has made."""
        description, manifest = self.work.description, f"{self.out}/manifest.json"
        is_finished = exists(manifest)
        if is_finished or exists(description):
            path = manifest if is_finished else description
            try:
                there = msgspec.to_builtins(read_document(path, RunDescription))
            except DocumentError as error:
                raise UsageError(
                    f"{path} is not a file of ours, or of another version of alignset; pass "
                    "another --output"
                ) from error
            here = msgspec.to_builtins(self.description)
            layouts = [run.pop("layout", "") for run in (there, here)]
            if not is_finished and layouts[0] != layouts[1]:
                raise UsageError(
                    f"another version of alignset began the run in {self.out}: resume it with that "
                    "version, or delete the folder"
                )
            for run in (there, here):
                run.setdefault("blocklists", [])
                run.pop("about", None)
                run.get("unsafe_model", {}).pop("path", None)
                run["fetch"] = _deciding(run["fetch"])
            retries = (read_document(manifest, Manifest).retries or []) if is_finished else []
            if self.retry or here["fetch"] in [_deciding(retry.fetch) for retry in retries]:
                # Another way of fetching may have what the first one had not.
                here["fetch"] = there["fetch"]
            if self.retry and (here["blocklists"] or not there["blocklists"]):
                here["blocklists"] = there["blocklists"]  # lists grow
            differ = _differences({name: there.get(name) for name in here}, here)
            if differ:
                raise UsageError(
                    f"{self.out} holds another run ({'; '.join(differ[:3])}); "
                    f"{_way_out(there, here, is_finished)}"
                )
        elif match(self.out, links=True) or (is_local(self.out) and Path(self.out).is_file()):
            raise UsageError(f"{self.out} is not empty and no run of ours; pass another --output")
        if self.retry and not is_finished:
            raise UsageError(
                f"{self.out} holds no finished run; first run the same command without "
                "--retry_failed"
            )
        words = [self.retry_word] if self.retry else []
        self.change = self.work.find_change(self.out, "curate", words, "and then run this command")
        return is_finished

    @property
    def retry_word(self) -> str:
        """The flag of a retry, as it was given."""
        return "--retry_failed" + ("" if self.retry == "true" else f"={self.retry}")

    def check_lock(self) -> None:
        """Raises RuntimeError where another run writes here by now."""
        if self._lock:
            self._lock.check()

    def release(self, *, done: bool = False) -> None:
        """Lets other runs in."""
        if self._lock:
            self._lock.release(done=done)
            self._lock = None

    def clean(self) -> None:
        """Takes away what the run worked with, and lets other runs in when that is done."""
        self.work.clean(self.out)
        self.release(done=True)

    def clean_finished(self) -> None:
        """Takes away what a run left that was killed in its last moment, unless another has it."""
        work = self.work.path
        if match(f"{work}/") if not is_local(work) else Path(work).exists():
            with suppress(UsageError):
                self._lock = self._lock or take_lock(work, self.start)
                self.clean()


def _deciding(fetch: Flags) -> Flags:
    """The settings of fetching that decide what is fetched. The contact and the version in the user
    agent only tell hosts who asks."""
    agent = _OWN_AGENT.sub("", str(fetch.get("user_agent", "")))
    return {name: of for name, of in fetch.items() if name != "contact"} | {"user_agent": agent}


def _way_out(there: dict[str, Any], here: dict[str, Any], is_finished: bool) -> str:
    """Advice where a folder holds another run than the one that the command describes."""
    differing = {name for name in here if there.get(name) != here[name]}
    anew = "pass another --output, or delete that folder"
    if differing == {"fetch"} and is_finished:
        return f"to fetch again what failed there, add --retry_failed; to fetch all anew, {anew}"
    if differing == {"fetch"}:
        return f"end that run with its own flags and then add --retry_failed, or {anew}"
    if is_finished and not differing & {"input", "fetch"}:
        return (
            "to filter it by other rules, pass it as --input and another --output (a looser rule "
            f"also needs --also_rejected); or {anew}"
        )
    return anew
