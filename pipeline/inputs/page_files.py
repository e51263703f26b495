"""Which web pages a command reads, and the pairs that they were parsed to."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from urllib.parse import quote, urljoin

import pyarrow.parquet as pq

from alignset.pipeline.inputs.splits import InputFile, Split, row_group_splits
from alignset.pipeline.job import Job
from alignset.transforms.columns.pair_columns import PAGE_URL
from alignset.transforms.pages.page_files import PAGE_FORMATS, PageFiles
from alignset.transforms.pages.parse_pages import parsed_path
from alignset.transforms.storage.files import open_to_read

PAGES_PER_PART = 1 << 12
BYTES_PER_PART = 1 << 28


def find_pages(job: Job, files: Iterable[InputFile]) -> list[PageFiles]:
    """The parts in which pages are parsed: an archive each, or some thousand files of HTML."""
    parts, pages, size = [], [], 0
    for file in files:
        if file.format not in PAGE_FORMATS or not file.bytes or file.fault:
            continue
        if file.format == "html":
            pages.append((file.path, _page_url(job, file.path)))
            size += file.bytes
            if len(pages) == PAGES_PER_PART or size >= BYTES_PER_PART:
                parts.append(PageFiles("html", tuple(pages)))
                pages, size = [], 0
            continue
        parts.append(PageFiles(file.format, ((file.path, ""),)))
    return [*parts, PageFiles("html", tuple(pages))] if pages else parts


def _page_url(job: Job, path: str) -> str:
    """Where a page is served: its place in the folder that was given, below the base URL."""
    if not job.base_url:
        return ""
    for pattern in job.input.split(","):
        folder = re.split(r"[*?\[]", pattern)[0]
        folder = folder if folder == pattern else folder.rpartition("/")[0]
        if path.startswith(f"{folder.rstrip('/')}/"):
            return urljoin(job.base_url, _quoted(path[len(folder.rstrip("/")) + 1 :]))
    return urljoin(job.base_url, _quoted(path.rpartition("/")[2]))


def _quoted(path: str) -> str:
    return quote(os.fsencode(path))  # a name may be no UTF-8


def parsed_splits(folder: str, parts: Sequence[PageFiles]) -> list[Split]:
    """The splits of what the pages were parsed to."""
    splits = []
    for number in range(len(parts)):
        path = parsed_path(folder, number)
        with open_to_read(path) as source:
            footer = pq.read_metadata(source)
        split = Split(path, "pages", "", "url", "caption", page_column=PAGE_URL)
        splits.extend(row_group_splits(split, footer))
    return splits


def parsed_files(
    folder: str, parts: Sequence[PageFiles], files: Iterable[InputFile]
) -> list[InputFile]:
    """The input, with what the pages were parsed to in place of the pages."""
    parsed = [file for file in files if file.format not in PAGE_FORMATS]
    for number in range(len(parts)):
        path = parsed_path(folder, number)
        with open_to_read(path) as source:
            parsed.append(InputFile(path, source.seek(0, 2), "pages"))
    return parsed
