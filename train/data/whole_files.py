"""Files that appear whole or not at all."""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import IO

_NEW, _OLD = "new", "old"  # within a folder aside


def write_whole(path: Path, content: str | Callable[[IO[bytes]], object]) -> None:
    """The file appears with all of its content, or keeps what it had.

    Args:
      content: a text, or what writes the content to a file.
    """
    aside = aside_of(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(aside, "wb") as file:
            if isinstance(content, str):
                file.write(content.encode("utf-8", "replace"))
            else:
                content(file)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the name on an empty file
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def aside_of(path: Path) -> Path:
    """Files that a kill, or a full disk, may leave beside the file."""
    return path.with_name(f"{path.name}.tmp")


def save_folder(
    folder: Path, *savers: Callable[[Path], object], replaced: Collection[str] = ()
) -> None:
    """Writes a folder whole or not at all. Files of others in it stay: those that `savers` do not
    write.

    A kill between the two renames leaves the former folder aside, until `put_back` or the next
    `save_folder`.

    Args:
      savers: each writes to a new folder, which then gets the name `folder`.
      replaced: names in `folder` that earlier savers may have written, and that do not stay.
    """
    put_back(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(".tmp", f".{folder.name}.", folder.parent))
    try:
        for save in savers:
            save(work / _NEW)
        if folder.exists():
            _keep_others(folder, work / _NEW, replaced)
            os.replace(folder, work / _OLD)
        os.replace(work / _NEW, folder)
    finally:
        put_back(folder)


def put_back(folder: Path) -> None:
    """Removes what a `save_folder` left aside; before that, a folder that a kill kept from being
    replaced gets its name again."""
    aside = re.compile(rf"\.{re.escape(folder.name)}\.[a-z0-9_]{{8}}\.tmp")  # as mkdtemp names it
    there = folder.parent.iterdir() if folder.parent.is_dir() else ()
    for work in [path for path in there if aside.fullmatch(path.name)]:
        if (work / _OLD).exists() and not folder.exists():
            os.replace(work / _OLD, folder)
        shutil.rmtree(work, ignore_errors=True)


def _keep_others(folder: Path, new: Path, replaced: Collection[str]) -> None:
    """Has what is in a folder, and neither in the new one nor `replaced`, in the new one too."""
    for path in folder.iterdir():
        if path.name in replaced or (new / path.name).exists():
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, new / path.name, symlinks=True, copy_function=_link)
        else:
            _link(path, new / path.name)


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # not every file system has links
        shutil.copy2(source, target, follow_symlinks=False)
