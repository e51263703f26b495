"""Files of pages: their formats, and the parts of the input that workers parse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from alignset.transforms.columns.pair_columns import OF_PAGES

PAGE_FORMATS = ("warc", "wat", "html")
SAID = tuple(OF_PAGES.values())  # columns of what pages said


def parsed_path(folder: str, number: int) -> str:
    """Where the pairs of a part of the pages are."""
    return f"{folder}/{number:05d}.parquet"


@dataclass(frozen=True)
class PageFiles:
    """A part of the input that one worker parses.

    Args:
      files: (path, URL of the page or empty); of an archive just one.
    """

    format: str
    files: tuple[tuple[str, str], ...]

    def moved(self, place: Callable[[str], str]) -> PageFiles:
        """The same with each path put through a function."""
        return PageFiles(self.format, tuple((place(path), url) for path, url in self.files))
