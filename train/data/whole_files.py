"""Files and folders that appear whole or not at all."""

import os
import shutil
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from alignset.transforms.storage.files import write_atomically


def write_whole(path: Path, content: str | Callable[[BinaryIO], object]) -> None:
    """The file appears with all of its content, or keeps what it had.

    Args:
      content: a text, or what writes the content to a file.
    """
    if isinstance(content, str):
        data = content.encode("utf-8", "replace")
        write_atomically(str(path), lambda file: file.write(data))
    else:
        write_atomically(str(path), content)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz`; none where it isn't there whole, or is another file."""
    with suppress(Exception), np.load(path) as file:  # numpy and zipfile raise many kinds
        return dict(file)
    return {}


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
    new, old = _aside(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)

    def not_kept(path: str, names: list[str]) -> set[str]:
        at_top = Path(path) == folder
        return {n for n in names if at_top and (n in replaced or (new / n).exists())}

    try:
        for save in savers:
            save(new)
        if folder.exists():
            shutil.copytree(
                folder, new, True, not_kept, copy_function=_link_or_copy, dirs_exist_ok=True
            )
            os.replace(folder, old)
        os.replace(new, folder)
    finally:
        put_back(folder)


def put_back(folder: Path) -> None:
    """Removes what a `save_folder` left aside; before that, a folder that a kill kept from being
    replaced gets its name again."""
    new, old = _aside(folder)
    if old.exists() and not folder.exists():
        os.replace(old, folder)
    for aside in (new, old):
        shutil.rmtree(aside, ignore_errors=True)


def _aside(folder: Path) -> tuple[Path, Path]:
    return folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # not every file system has links
        shutil.copy2(source, target)
