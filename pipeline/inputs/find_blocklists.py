"""The blocklists that a command names, checked and compiled before anything is run."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import replace
from functools import lru_cache

from alignset.extras import missing_extra
from alignset.pipeline.errors import UsageError
from alignset.transforms.blocklists import kinds as k
from alignset.transforms.blocklists.blocklists import Blocklists
from alignset.transforms.blocklists.compiled_list import CompiledList, compile_images, compile_list
from alignset.transforms.blocklists.read_list import ListError
from alignset.transforms.storage.files import exists, is_local

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


@lru_cache
def _folder(pid: int) -> tempfile.TemporaryDirectory[str]:
    """A folder that ends with the process."""
    return tempfile.TemporaryDirectory(prefix=f"alignset-blocklists-{pid}-")


def _compile(path: str) -> CompiledList:
    folder = _folder(os.getpid()).name
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
