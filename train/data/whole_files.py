"""Files that appear whole or not at all."""

import os
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
