"""Files that appear whole or not at all."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO


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


def save_folder(folder: Path, *savers: Callable[[Path], object]) -> None:
    """Has each of `savers` write to a new folder, which then gets the name `folder`, in place of
    what has it. Where a kill comes between these two, `put_back` has to be called."""
    aside, old = folder.with_name(folder.name + ".tmp"), _old_folder(folder)
    for path in (aside, old):
        shutil.rmtree(path, ignore_errors=True)
    for save in savers:
        save(aside)
    if folder.exists():
        os.replace(folder, old)
    os.replace(aside, folder)
    shutil.rmtree(old, ignore_errors=True)


def put_back(folder: Path) -> None:
    """Gives the former folder its name again, where a kill kept the new one from getting it."""
    if _old_folder(folder).exists() and not folder.exists():
        os.replace(_old_folder(folder), folder)


def _old_folder(folder: Path) -> Path:
    return folder.with_name(folder.name + ".old")
