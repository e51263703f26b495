"""Folders that appear whole or not at all."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def save_folder(folder: Path, *savers: Callable[[Path], object]) -> None:
    """Has each of `savers` write to a new folder, which then gets the name `folder`, in place of
    what has it. Where a kill comes between these two, `put_back` has to be called."""
    aside, replaced = folder.with_name(folder.name + ".tmp"), _replaced(folder)
    for path in (aside, replaced):
        shutil.rmtree(path, ignore_errors=True)
    for save in savers:
        save(aside)
    if folder.exists():
        os.replace(folder, replaced)
    os.replace(aside, folder)
    shutil.rmtree(replaced, ignore_errors=True)


def put_back(folder: Path) -> None:
    """Gives the former folder its name again, where a kill kept the new one from getting it."""
    if _replaced(folder).exists() and not folder.exists():
        os.replace(_replaced(folder), folder)


def _replaced(folder: Path) -> Path:
    return folder.with_name(folder.name + ".old")
