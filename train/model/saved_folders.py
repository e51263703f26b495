"""Folders that appear whole or keep what they had."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def save_folder(folder: Path, *savers: Callable[[Path], object]) -> None:
    """Has each of `savers` write to a new folder, which then takes the place of `folder`."""
    aside = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(aside, ignore_errors=True)
    for save in savers:
        save(aside)
    os.replace(aside, folder)
