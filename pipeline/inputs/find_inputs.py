"""The files that a command reads, with their formats, columns and splits; and the files that cannot
be read at all."""

from __future__ import annotations

import glob
import io
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from operator import attrgetter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.earlier_sets import SetManifest, earlier_set, leave_out_other_files
from alignset.pipeline.inputs.readers import cast_to_binary
from alignset.pipeline.inputs.row_groups import check_footer
from alignset.pipeline.inputs.splits import ROWS, InputFile, Split, row_group_splits
from alignset.pipeline.inputs.text_files import header_columns
from alignset.pipeline.settings import Job
from alignset.transforms.columns.pair_columns import PAGE_URL
from alignset.transforms.corpus.corpus_documents import NAME as VOCABULARY
from alignset.transforms.corpus.corpus_documents import HashFile, check_vocabulary
from alignset.transforms.pages.archives import check_archive
from alignset.transforms.pages.page_files import PAGE_FORMATS
from alignset.transforms.rules.language_codes import ENGLISH
from alignset.transforms.storage.broken_files import (
    CUT_SHORT,
    UNFINISHED,
    WRONG_FORMAT,
    BrokenFile,
    FileFault,
    broken_file,
)
from alignset.transforms.storage.documents import readable_document
from alignset.transforms.storage.files import exists, is_local, match, open_to_read
from alignset.transforms.storage.parquet_files import read_footer

LOG = logging.getLogger("alignset")

_PARQUET = b"PAR1"
_SHARD = re.compile(r"(.*/)?(\d+)\.tar")
_STATS = "_stats.json"
# The usual names, the most telling first; upper and lower case alike.
URL_NAMES = ("url", "image_url", "img_url", "imageurl", "image_link", "src", "link", "image")
TEXT_NAMES = (
    "caption",
    "text",
    "alt",
    "alt_text",
    "alttext",
    "caption_text",
    "title",
    "description",
)
SUFFIXES = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".tar": "webdataset",
    ".warc": "warc",
    ".wacz": "warc",
    ".wat": "wat",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}


def format_of(path: str) -> tuple[str, str]:
    """The format and the compression that a file's name tells, or empty."""
    name = Path(path).name.lower()
    compression = COMPRESSIONS.get(Path(name).suffix, "")
    stem = name[: name.rindex(".")] if compression else name
    return SUFFIXES.get(Path(stem).suffix, ""), compression


def find_files(job: Job, *, kept_only: bool = False) -> list[InputFile]:
    """The input files, sorted, each once.

    Args:
      kept_only: whether the dropped pairs of datasets of ours are left out.

    Raises:
      UsageError: nothing is there, or a file's format cannot be told from its name.
    """
    files: dict[str, InputFile] = {}
    for pattern in job.inputs:
        _check_apart(pattern, job.output)
        earlier = earlier_set(pattern)
        if earlier is None:
            matches = leave_out_other_files(pattern, _matching(job, pattern), job)
            if not matches:
                raise UsageError(_missing_message(pattern, job))
            files |= {file.path: file for file in matches}
            continue
        if earlier.has_rows:
            pairs = earlier.rows(job, kept_only=kept_only)
        else:
            folders = earlier.pair_folders(job)
            pairs = [file for of in folders for file in _matching(job, of, of_set=True)]
        if not pairs:
            raise UsageError(f"the dataset {earlier.folder} holds no pair: pass its own input")
        files |= {file.path: file for file in pairs}
    if not sum(file.bytes for file in files.values()):
        raise UsageError(f"the input is empty: {job.input} has no bytes; pass pairs to read")
    return sorted(files.values(), key=attrgetter("path"))


def _missing_message(pattern: str, job: Job) -> str:
    if _is_in(pattern, job.output):
        return f"the input {pattern!r} lies within --output={job.output}; pass another --output"
    links = sorted(filter(Path.is_symlink, Path(pattern).glob("*"))) if is_local(pattern) else []
    if links:
        return (
            f"no input at {pattern!r}: links in a folder are left out, and "
            f"--input='{pattern.rstrip('/')}/*{links[0].suffix}' reads them"
        )
    return f"no input at {pattern!r}: pass files, a folder or a glob that exists"


def _matching(job: Job, pattern: str, *, of_set: bool = False) -> list[InputFile]:
    """The files of pairs or pages that a pattern names, without files that lie beside them. A
    set of ours may have none.

    Raises:
      UsageError: there are files, and the format of none can be told.
    """
    is_auto = job.input_format == "auto"
    files = [
        InputFile(path, size, format_of(path)[0] if is_auto else job.input_format)
        for path, size in match(pattern, links=not of_set)
        if not _is_in(path, job.output)  # else a run could not go on where it stopped
    ]
    if of_set or len(files) > 1:  # there may be sidecars, and images and the like beside pages
        by_name = ((file, format_of(file.path)[0]) for file in files)
        files = [f for f, of in by_name if of == f.format or not (of or f.format == "html")]
        files = [f for f in files if not f.path.lower().endswith((".json", ".md", ".u64"))]
    tars = [file for file in files if file.format == "webdataset"]
    if any(file.format not in ("", "html") for file in files):
        files = [file for file in files if file.format != "html"]  # a page about the others
    inputs = [file for file in files if file.format]
    if files and not inputs:
        raise UsageError(
            f"cannot tell the format of {files[0].path} by its name; pass --input_format"
        )
    return tars or inputs  # beside shards, Parquet and JSON are their sidecars


def _check_apart(pattern: str, output: str) -> None:
    """Raises UsageError where the output is a folder that is read, or lies within one: a run that
    resumes would read what it wrote."""
    folder = pattern.partition("**")[0].rstrip("/") or "."
    if any(c in folder for c in "*?["):  # names files, and reads no folder
        return
    if _is_in(f"{output.rstrip('/')}/x", folder):
        raise UsageError(
            f"--output={output} is the input {pattern!r}, or lies within it; pass another --output"
        )


def _is_in(path: str, folder: str) -> bool:
    if is_local(path) and is_local(folder):
        path, folder = os.path.abspath(path), os.path.abspath(folder)
    return path.startswith(f"{folder.rstrip('/')}/")


def find_splits(job: Job, files: Sequence[InputFile]) -> list[Split]:
    """The splits of all files but pages, in the files' order, with the columns to read. A file that
    cannot be read at all, also of pages, is a split that says so.

    Raises:
      UsageError: a column is not there, a file cannot be read and is not to be skipped, or nothing
        is left.
    """
    splits: list[Split] = []
    open_shards = _open_shards(files)
    for file in files:
        split = Split(file.path, file.format, format_of(file.path)[1])
        try:
            if file.path in open_shards:
                stats = f"{file.path.rpartition('/')[2].removesuffix('.tar')}{_STATS}"
                fault = f"its writer has not ended: there is no {stats} beside it"
                raise FileFault(UNFINISHED, fault)
            splits.extend(_splits_of(job, split, file.bytes))
        except UsageError:
            raise
        except Exception as error:
            broken_input = broken_file(file.path, error)
            if broken_input is None:
                raise
            splits.append(replace(split, broken=broken_input))
    _refuse_broken(job, files, [split.broken for split in splits if split.broken])
    if not splits and not any(file.format in PAGE_FORMATS for file in files):
        raise UsageError(f"the input is empty: {job.input} has no rows; pass pairs to read")
    return splits


def mark_broken(files: Sequence[InputFile], splits: Sequence[Split]) -> list[InputFile]:
    """The files, each with the detail if nothing of it can be read."""
    faults = {split.path: split.broken.detail for split in splits if split.broken}
    return [
        replace(file, fault=faults[file.path]) if file.path in faults else file for file in files
    ]


def _refuse_broken(job: Job, files: Sequence[InputFile], broken: Sequence[BrokenFile]) -> None:
    """Raises UsageError if a file is broken and none is to be skipped, or if all files are."""
    if not broken:
        return
    formats = {file.path: file.format for file in files}
    paths = {fault.path for fault in broken}
    message = f"cannot read {broken[0].path} as {formats[broken[0].path]}: {broken[0].fault}"
    if any(file.bytes for file in files if file.path not in paths):
        if job.on_broken_input != "skip":
            raise UsageError(
                f"{message}; replace the file, leave it out of --input, or pass "
                "--on_broken_input=skip"
            )
        return
    if len(broken) == 2:
        message += "; and the other file cannot be read either"
    elif len(broken) > 2:
        message += f"; and none of the other {len(broken) - 1:,} files can be read"
    raise UsageError(f"{message}; pass files that can be read")


def _open_shards(files: Sequence[InputFile]) -> set[str]:
    """The shards whose writer has not ended: img2dataset and this project write a shard's stats
    last. Where no shard of a folder has stats, nothing is concluded."""
    shards: dict[str, dict[str, str]] = {}
    for file in files:
        if file.format == "webdataset" and (name_parts := _SHARD.fullmatch(file.path)):
            shards.setdefault(name_parts[1] or "", {})[name_parts[2]] = file.path
    open_shards = set()
    for folder, paths in shards.items():
        within = glob.escape(folder) if is_local(folder) else folder
        names = [path.rpartition("/")[2] for path, _ in match(f"{within}*{_STATS}")]
        finished = {number for name in names if (number := name.removesuffix(_STATS)).isdigit()}
        if finished:
            open_shards |= {path for number, path in paths.items() if number not in finished}
    return open_shards


def _splits_of(job: Job, split: Split, size: int) -> list[Split]:
    """The splits of one file; a file of pages has none, since pages are parsed first.

    Raises:
      FileFault: nothing of it can be read; and as reading raises.
    """
    binary = split.format in ("webdataset", "parquet", ROWS)
    if binary and split.compression:
        raise FileFault(WRONG_FORMAT, "it is compressed as a whole; decompress it")
    if not size:
        if binary or split.compression:
            raise FileFault(CUT_SHORT, "it is cut off: it has no bytes")
        return []
    if split.format in ("parquet", ROWS):
        return _parquet_splits(job, split)
    if split.format == "webdataset":
        return [split]
    if split.format in PAGE_FORMATS:
        if split.format != "html":
            with open_to_read(split.path) as source:
                check_archive(source)
        return []
    names = header_columns(split, (job.url_column, job.text_column))
    return [_find_split_columns(job, split, names)] if names else []


def _parquet_splits(job: Job, split: Split) -> list[Split]:
    footer = _footer(split.path)
    schema = footer.schema.to_arrow_schema()
    named_split = _find_split_columns(job, split, schema.names)
    for flag in ("url_column", "text_column"):
        field = schema.field(getattr(named_split, flag))
        if pa.types.is_nested(field.type):
            raise UsageError(
                f"{split.path}: column {field.name!r} holds {field.type}, no text; pass --{flag}"
            )
        try:
            cast_to_binary(pa.nulls(1, field.type))
        except pa.ArrowException as error:
            raise FileFault(WRONG_FORMAT, str(error)) from error
    if named_split.page_column:
        kind = schema.field(named_split.page_column).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if kind not in (pa.string(), pa.large_string(), pa.string_view()):
            named_split = replace(named_split, page_column="")
    return row_group_splits(named_split, footer)


def _footer(path: str) -> pq.FileMetaData:
    with open_to_read(path) as source:
        try:
            footer = read_footer(source)
            check_footer(footer, source.seek(0, io.SEEK_END))
            return footer
        except pa.ArrowException as error:
            source.seek(0)
            head = source.read(len(_PARQUET))
            size = source.seek(0, io.SEEK_END)
            source.seek(max(0, size - len(_PARQUET)))
            if not _PARQUET.startswith(head):
                raise FileFault(WRONG_FORMAT, f"no Parquet begins in it: {error}") from error
            if source.read() != _PARQUET or size < 3 * len(_PARQUET):
                fault = f"it is cut off at byte {size}, before its footer"
                raise FileFault(CUT_SHORT, fault) from error
            raise


def _find_split_columns(job: Job, split: Split, names: Sequence[str]) -> Split:
    # Datasets of ours have columns of their own, whatever columns other files have.
    is_ours = split.format == ROWS
    given_names = ("url", "caption") if is_ours else (job.url_column, job.text_column)
    url = _column(split, names, given_names[0], URL_NAMES, "url_column")
    text = _column(split, names, given_names[1], TEXT_NAMES, "text_column")
    if url == text:
        raise UsageError(
            f"{split.path}: column {url!r} is to be both URL and text; pass another --text_column"
        )
    page = next((name for name in names if name.lower() == PAGE_URL), "")
    if names.count(page) > 1 or page in (url, text):
        page = ""
    return replace(split, url_column=url, text_column=text, page_column=page)


def _column(
    split: Split, names: Sequence[str], given_name: str, usual: Sequence[str], flag: str
) -> str:
    if given_name:
        matching = [name for name in names if name == given_name]
    else:
        matching = [name for usual_name in usual for name in names if name.lower() == usual_name]
    if not matching:
        looked_for = repr(given_name) if given_name else f"named {', '.join(usual)}"
        first_names = ", ".join(name[:40] for name in names[:20])
        more = f" and {len(names) - 20} more" if len(names) > 20 else ""
        raise UsageError(
            f"{split.path} has no column {looked_for}; it has {first_names}{more}: pass --{flag}"
        )
    if names.count(matching[0]) > 1:
        raise UsageError(
            f"{split.path} has {names.count(matching[0])} columns {matching[0]!r}; "
            "rename all but one"
        )
    if len(matching) > 1:
        _tell_choice(flag, matching[0], matching[1])
    return matching[0]


@lru_cache  # many files have the same columns
def _tell_choice(flag: str, choice: str, other: str) -> None:
    LOG.info("the column %r is read; --%s=%s reads the column of that name", choice, flag, other)


def find_vocabulary(path: str, language: str = ENGLISH) -> HashFile | None:
    """The vocabulary at a path, read through; a folder there is an earlier run's output.

    Args:
      language: the flag of the run that filters with it.

    Raises:
      UsageError: it is not there, is not a vocabulary, or has other hashes than the run.
    """
    if not path:
        return None
    try:
        inside = f"{path.rstrip('/')}/{VOCABULARY}"
        file = inside if exists(inside) else path
        if file == path and is_local(path) and Path(path).is_dir():
            raise FileNotFoundError(f"that folder has no {VOCABULARY}")
        if not exists(file):
            raise FileNotFoundError(f"there is no such file, and no {VOCABULARY} in such a folder")
        vocabulary = check_vocabulary(file)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"{path} is not a vocabulary: {reason}; pass the {VOCABULARY} of an earlier run"
        ) from error
    # Words that were hashed by their languages, or not, would nearly all be rare.
    folder = file.rpartition("/")[0] or "."
    manifest = readable_document(f"{folder}/manifest.json", SetManifest)
    earlier = str(manifest.rules.get("language", language)) if manifest else language
    if (earlier in ("", ENGLISH)) != (language in ("", ENGLISH)):
        raise UsageError(
            f"{file} is of a run with --language={earlier}, whose words are hashed in another "
            f"way than with --language={language}: pass the vocabulary of a run with the latter, "
            "or leave --vocabulary out"
        )
    return vocabulary
