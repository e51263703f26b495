"""The output folder: whose run it is, and what is done in it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import uuid
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.earlier_sets import shared_about
from alignset.pipeline.inputs.splits import ROWS, InputFile
from alignset.pipeline.inputs.whole_input import Input
from alignset.pipeline.rule_files import model_name
from alignset.pipeline.runs.documents import LAYOUT, NamedList, NamedRules, RunDescription
from alignset.pipeline.runs.documents import Settings as Flags
from alignset.pipeline.runs.engine import everywhere
from alignset.pipeline.runs.run_lock import Lock, take_lock
from alignset.pipeline.runs.work_folder import WorkFolder
from alignset.pipeline.settings import ABOUT, Settings, deciding_settings
from alignset.transforms.blocklists.blocklists import Blocklists
from alignset.transforms.columns.carried import type_name
from alignset.transforms.decontamination.overlap_settings import INDEX_SETTINGS
from alignset.transforms.pages.page_files import PAGE_FORMATS
from alignset.transforms.rules.catalogue import column_numbers
from alignset.transforms.rules.custom import describe_limit, limits_in
from alignset.transforms.safety.model_files import open_nsfw_path
from alignset.transforms.storage.documents import DocumentError, read_document, write_document
from alignset.transforms.storage.files import exists, is_local, match, open_to_read, shown_path
from alignset.transforms.workers.threads import map_in_threads

_END_BYTES = 64 << 10
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
        job,
        rules,
        groups["resize"],
        fetch,
        input=[
            replace(file, path=shown_path(file.path), ends=ends)
            for file, ends in zip(source.files, map_in_threads(_ends, source.files), strict=True)
        ],
        evaluation=[replace(file, path=shown_path(file.path)) for file in evaluation.files],
        given_vocabulary=source.vocabulary,
        overlap={**INDEX_SETTINGS, **index} if evaluation.files or index else UNSET,
        unsafe_model=replace(model, path=Path(model.path or open_nsfw_path()).name)
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


def _ends(file: InputFile) -> str | UnsetType:
    """The hash of a local file's ends. Pages, datasets and shards are known by their paths: kept
    pairs name the tar of their image."""
    by_path = (ROWS, "webdataset", *PAGE_FORMATS)
    if not is_local(file.path) or file.fault or file.format in by_path:
        return UNSET
    with suppress(OSError), open_to_read(file.path) as data:  # whoever reads it tells of the fault
        first = data.read(_END_BYTES)
        data.seek(max(0, file.bytes - _END_BYTES))
        return hashlib.sha256(first + data.read(_END_BYTES)).hexdigest()
    return UNSET


def _without_folders(there: list[dict[str, Any]], here: list[dict[str, Any]]) -> None:
    """Takes the folders out of the paths of two inputs, where they do not tell them apart: a
    folder may be spelled in another way, or the files may lie elsewhere by now."""
    for before, now in zip(there, here, strict=False):
        if before.get("ends") and before["ends"] == now.get("ends"):
            for file in (before, now):
                file["path"] = os.path.basename(file["path"])
        for file in (before, now):
            file["path"] = everywhere(file["path"])
        if not (before.get("ends") and now.get("ends")):  # of an earlier version
            before.pop("ends", None), now.pop("ends", None)


def named_lists(blocklists: Blocklists) -> list[NamedList] | UnsetType:
    """The blocklists in documents; UNSET where there are none."""
    lists = [NamedList(of.name, of.sha256, of.entries) for of in blocklists.lists]
    return lists or UNSET


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """In what two documents differ, a phrase each."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [d for k in keys for d in differences(old.get(k), new.get(k), k)]
    if old == new:
        return []
    if isinstance(old, list | dict) or isinstance(new, list | dict):
        return [f"other {name.replace('_', ' ')}"]
    values = ["not given" if value is None or value is UNSET else value for value in (old, new)]
    return [f"{name} {values[0]} there, {values[1]} here"]


class RunFolder:
    """An output folder.

    Args:
      out: its path.
      description: what `describe_run` says of the run.

    Attributes:
      start: the token of this start. earlier: the tokens of the starts before it.

    Raises:
      UsageError: the folder holds something else.
    """

    def __init__(self, out: str, description: RunDescription) -> None:
        self.out = out.rstrip("/")
        self.work = WorkFolder(everywhere(f"{self.out}/_temporary"))
        self.description = description
        self.start, self.earlier = uuid.uuid4().hex[:12], list[str]()
        self._lock: Lock | None = None
        self.is_finished = self._check_finished()
        if self.is_finished:
            return
        self._lock = take_lock(self.work.path, self.start)
        self.earlier = self._lock.holder["earlier"]
        try:
            self.is_finished = self._check_finished()  # another run may just have ended, or begun
            if self.is_finished:
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
            if not there["rules"].get("like"):  # a flag of earlier versions
                there["rules"].pop("like", None)
            for run in (there, here):
                run.setdefault("blocklists", [])
                run.pop("about", None)
                run.get("unsafe_model", {}).pop("path", None)
                run["fetch"] = _deciding(run["fetch"])
                run["grown"] = run.get("grown", {}).get("manifest")
            _without_folders(there["input"], here["input"])
            differ = differences({name: there.get(name) for name in here}, here)
            if differ:
                raise UsageError(
                    f"{self.out} holds another run ({'; '.join(differ[:3])}); "
                    f"{_way_out(there, here, is_finished)}"
                )
        elif match(self.out, links=True) or (is_local(self.out) and Path(self.out).is_file()):
            raise UsageError(f"{self.out} is not empty and no run of ours; pass another --output")
        self.work.refuse_stopped(self.out, "and then run this command")
        return is_finished

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
        return f"to fetch again what failed there, pass it to alignset grow; else {anew}"
    if is_finished and not differing & {"input", "fetch"}:
        return f"to filter it by other rules, pass it as --input and another --output; or {anew}"
    return anew
