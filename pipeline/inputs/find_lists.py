"""The blocklists and the evaluation images that a command names, checked before anything is run."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from alignset.extras import missing_extra
from alignset.pipeline.errors import UsageError
from alignset.transforms.blocklists import kinds as k
from alignset.transforms.blocklists.blocklists import Blocklists
from alignset.transforms.blocklists.compiled_list import CompiledList, compile_images, compile_list
from alignset.transforms.blocklists.kinds import ListError
from alignset.transforms.decontamination.evaluation_files import EVALUATION_SUFFIXES, check_images
from alignset.transforms.decontamination.overlap_settings import INDEX_SETTINGS, EvaluationFile
from alignset.transforms.storage.files import exists, is_local, match, process_folder

MOST_LISTS = 64  # each is asked of each pair
_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,63})=(.+)")  # NAME=FILE


def find_blocklists(blocklist: str, min_phash_distance: int, min_pdq_distance: int) -> Blocklists:
    """The lists of `FILE,...` or `NAME=FILE,...`, compiled to files of this process; none where
    none is named. The list of `image:PATH` is the image there, or all images in the folder.

    Raises:
      UsageError: a list is not there, or an entry is none.
    """
    paths = [path for path in blocklist.split(",") if path]
    if len(paths) > MOST_LISTS:
        raise UsageError(f"blocklist takes {MOST_LISTS} files; got {len(paths)}: join some of them")
    lists: dict[str, CompiledList] = {}
    for path in paths:
        named = _NAMED.fullmatch(path)
        compiled = _compile(named[2] if named else path)
        compiled = replace(compiled, name=named[1]) if named else compiled
        if compiled.name in lists:
            raise UsageError(
                f"two blocklists are called {compiled.name}, by which dropped pairs tell of them: "
                "pass each list once, and each name once in NAME=FILE"
            )
        lists[compiled.name] = compiled
    blocklists = Blocklists(tuple(lists.values()), min_phash_distance, min_pdq_distance)
    if blocklists.have(k.PDQ) and (missing := missing_extra("pdq", "a pdq: entry of a blocklist")):
        raise UsageError(missing)
    return blocklists


def _compile(path: str) -> CompiledList:
    folder = process_folder(os.getpid()).name
    try:
        if path.startswith(f"{k.IMAGE}:"):
            return compile_images(path.removeprefix(f"{k.IMAGE}:"), folder)
        if not exists(path):
            raise FileNotFoundError("there is no such file")
        if is_local(path) and not os.path.isfile(path):
            raise FileNotFoundError(
                "it is a folder, a pipe or a device, and is read more than once"
            )
        return compile_list(path, folder)
    except ModuleNotFoundError as error:
        missing = missing_extra("blocklists", f"{path}: a domain: entry of a blocklist")
        if missing:
            raise UsageError(missing) from error
        raise
    except ListError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"the blocklist {path} cannot be read: {reason}; pass files, comma-separated"
        ) from error


_SUFFIXES = (*EVALUATION_SUFFIXES, ".tar", ".parquet")


@dataclass(frozen=True)
class Evaluation:
    """Evaluation images that images are compared with.

    Attributes:
      files: of evaluation images, to index.
      index: the place of one that is used as it is; empty where there are files, or nothing.
    """

    files: Sequence[EvaluationFile] = ()
    index: str = ""

    def resolve_paths(self, everywhere: Callable[[str], str]) -> Evaluation:
        """The same with its paths as workers find them, which may run in another folder."""
        files = [replace(file, path=everywhere(file.path)) for file in self.files]
        return Evaluation(files, everywhere(self.index) if self.index else "")


def find_evaluation(eval_images: str, eval_index: str) -> Evaluation:
    """The evaluation images or the index of a command; nothing where it names none.

    Raises:
      UsageError: they are not there, or the index is none that this command can use.
    """
    from alignset.transforms.decontamination.evaluation_index import find_index  # with decoders

    folder, description = eval_index.rstrip("/"), None
    try:
        description = find_index(folder) if folder else None
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be read as an index of evaluation images: "
            f"{str(error).splitlines()[0]}"
        ) from error
    if eval_images:
        if description:
            raise UsageError(
                f"{folder} is an index itself: leave out --eval_images to use it as it is, or give "
                "--eval_index the folder that it is in"
            )
        files = find_evaluation_files(eval_images)
        for path in (file.path for file in files if file.path.lower().endswith(".parquet")):
            try:  # before anything is fetched
                check_images(path)
            except (OSError, ValueError, pa.ArrowException) as error:
                reason = str(error).partition("\n")[0]
                raise UsageError(
                    f"eval_images: {path} cannot be used: {reason}; name the files that hold "
                    "images, as in NAME=FOLDER/test-*.parquet"
                ) from error
        return Evaluation(files)
    if not folder:
        return Evaluation()
    if description is None:
        raise UsageError(
            f"{folder} is not a whole index of evaluation images: pass --eval_images=NAME=PATH to "
            "make one, or the folder in it that holds description.json"
        )
    if description.settings != INDEX_SETTINGS:
        raise UsageError(
            f"{folder} was made by another version of alignset: pass --eval_images=NAME=PATH to "
            "make an index by this one"
        )
    return Evaluation(index=folder)


def index_folder(out: str) -> str:
    """Where the index of evaluation images is kept where nothing is said: beside an output, since
    it must not be published with a dataset; within one that is a whole bucket of an object
    store."""
    bucket = "://" in out and "/" not in out.partition("://")[2]
    return f"{out}/eval_index" if bucket else f"{out}.eval_index"


def check_index_folder(folder: str) -> None:
    """Looks whether an index can be kept in a folder, which need not be there yet.

    Raises:
      UsageError: it cannot be made, or not be written.
    """
    if not is_local(folder):
        return
    parents = [Path(folder), *Path(folder).parents]
    parent = next(path for path in parents if path.exists())
    fault = "" if os.access(parent, os.W_OK) else "may not be written"
    fault = fault if parent.is_dir() else "is a file"
    if fault:
        raise UsageError(
            f"the index of evaluation images cannot be kept in {folder}, since {parent} {fault}: "
            "pass --eval_index=FOLDER, another one"
        )


def find_evaluation_files(eval_images: str) -> list[EvaluationFile]:
    """The files of evaluation images that `NAME=PATH,...` names.

    Raises:
      UsageError: a part is not NAME=PATH, a name comes twice, or nothing is there.
    """
    files: list[EvaluationFile] = []
    names: set[str] = set()
    for part in filter(None, eval_images.split(",")):
        name, equals, pattern = part.partition("=")
        if not (name and equals and pattern):
            raise UsageError(f"eval_images takes NAME=PATH,...; got {part!r}")
        if name in names:
            raise UsageError(
                f"eval_images names {name} twice: pass all its paths as one glob, or two names"
            )
        names.add(name)
        items = [item for item in match(pattern, links=True) if item[0].lower().endswith(_SUFFIXES)]
        if any(path.lower().endswith(".tar") for path, _ in items):
            items = [item for item in items if not item[0].lower().endswith(".parquet")]
        if not items:
            raise UsageError(f"no evaluation images at {pattern!r} ({name}); pass a path with some")
        files += [EvaluationFile(name, *item) for item in items]
    return files
