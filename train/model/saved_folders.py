"""Folders that appear whole or not at all."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def save_folder(folder: Path, *savers: Callable[[Path], object]) -> None:
    """Has each of `savers` write to a new folder, which then gets the name `folder`, where nothing
    may be yet."""
    aside = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(aside, ignore_errors=True)
    for save in savers:
        save(aside)
    os.replace(aside, folder)
