"""Which files a command reads, of which format, in which columns, and in which splits."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from pathlib import Path

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from pipeline.inputs.splits import InputFile
from pipeline.job import Job
from pipeline.options import UsageError
from transforms.corpus.hash_sets import HashFile
from transforms.corpus.vocabulary_file import NAME as VOCABULARY
from transforms.corpus.vocabulary_file import check_vocabulary
from transforms.decontamination.evaluation_images import EvaluationFile
from transforms.images.file_formats import IMAGE_SUFFIXES
from transforms.storage.documents import DocumentError, read_document
from transforms.storage.files import exists, is_local

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


@dataclass(frozen=True)
class _SetJob:
    text_only: bool


@dataclass(frozen=True)
class _SetManifest:
    """What of a set's manifest says where its pairs are; of any version of ours."""

    job: _SetJob


def match(pattern: str) -> list[tuple[str, int]]:
    """The files under a folder, or that a glob or a path names: (path, bytes), sorted."""
    if is_local(pattern):
        folder = Path(pattern).is_dir()
        names = glob.glob(f"{glob.escape(pattern)}/**" if folder else pattern, recursive=True)
        files = [(name, os.path.getsize(name)) for name in names if Path(name).is_file()]
    else:
        folder = pattern.endswith("/") or not FileSystems.match([pattern])[0].metadata_list
        spec = f"{pattern.rstrip('/')}/**" if folder else pattern
        listed = FileSystems.match([spec])[0].metadata_list
        files = [(item.path, item.size_in_bytes) for item in listed]
    if folder:
        files = [item for item in files if not Path(item[0]).name.startswith((".", "_"))]
    return sorted(files)


def format_of(path: str) -> tuple[str, str]:
    """The format and the compression that a file's name tells, or empty."""
    name = Path(path).name.lower()
    compression = COMPRESSIONS.get(Path(name).suffix, "")
    stem = name[: name.rindex(".")] if compression else name
    return SUFFIXES.get(Path(stem).suffix, ""), compression


def find_files(job: Job) -> list[InputFile]:
    """The input files, sorted, each once.

    Raises:
      UsageError: nothing is there, or a file's format cannot be told from its name.
    """
    found: dict[str, InputFile] = {}
    for pattern in job.input.split(","):
        _check_apart(pattern, job.output)
        pattern = _pairs_of_set(pattern.rstrip("/")) or pattern
        files = [
            InputFile(path, size, _named(job, path))
            for path, size in match(pattern)
            if not _is_in(path, job.output)  # else a run could not go on where it stopped
        ]
        if len(files) > 1:  # beside what was asked for there may be sidecars
            files = [f for f in files if _may_be(f)]
            files = [f for f in files if not f.path.lower().endswith((".json", ".md", ".u64"))]
        tars = [file for file in files if file.format == "webdataset"]
        if any(file.format not in ("", "html") for file in files):
            files = [file for file in files if file.format != "html"]  # a page about the others
        listed = [file for file in files if file.format]
        if not files:
            raise UsageError(f"no input at {pattern!r}: give files, a folder or a glob that exists")
        if not listed:
            raise UsageError(
                f"cannot tell the format of {files[0].path} by its name; give --input_format"
            )
        for file in tars or listed:  # beside shards, Parquet and JSON are their sidecars
            found[file.path] = file
    if not sum(file.bytes for file in found.values()):
        raise UsageError(f"the input is empty: {job.input} has no bytes; give pairs to read")
    return sorted(found.values())


def _check_apart(pattern: str, output: str) -> None:
    """Raises UsageError where the output is a folder that is read, or lies within one: a run that
    goes on would read what it wrote."""
    folder = pattern.partition("**")[0].rstrip("/") or "."
    if any(c in folder for c in "*?["):  # names files, and reads no folder
        return
    if _is_in(f"{output.rstrip('/')}/x", folder):
        raise UsageError(
            f"--output={output} is the input {pattern!r}, or lies within it; give another --output"
        )


def _pairs_of_set(folder: str) -> str | None:
    """Where a set of ours has its pairs, its other files being none; None of anything else."""
    if any(c in folder for c in "*?[") or not exists(f"{folder}/manifest.json"):
        return None
    try:
        job = read_document(f"{folder}/manifest.json", _SetManifest).job
    except DocumentError:
        return None
    return f"{folder}/{'pairs' if job.text_only else 'shards'}"


def _may_be(file: InputFile) -> bool:
    """Whether its name agrees with its format; beside pages there are pictures and the like."""
    named = format_of(file.path)[0]
    return named == file.format or (not named and file.format != "html")


def _is_in(path: str, folder: str) -> bool:
    if is_local(path) and is_local(folder):
        path, folder = os.path.abspath(path), os.path.abspath(folder)
    return path.startswith(f"{folder.rstrip('/')}/")


def _named(job: Job, path: str) -> str:
    return format_of(path)[0] if job.input_format == "auto" else job.input_format


def find_vocabulary(given: str) -> HashFile | None:
    """The vocabulary that is given, read through; a folder is an earlier run's output.

    Raises:
      UsageError: it is not there, or it is no vocabulary.
    """
    if not given:
        return None
    try:
        inside = f"{given.rstrip('/')}/{VOCABULARY}"
        path = inside if exists(inside) else given
        if path == given and is_local(given) and Path(given).is_dir():
            raise FileNotFoundError(f"that folder has no {VOCABULARY}")
        if not exists(path):
            raise FileNotFoundError(f"there is no such file, and no {VOCABULARY} in such a folder")
        return check_vocabulary(path)
    except (OSError, ValueError, BeamIOError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"{given} is no vocabulary: {reason}; give the {VOCABULARY} of an earlier run"
        ) from error


def find_evaluation_files(eval_images: str) -> list[EvaluationFile]:
    """The files of evaluation images that `NAME=PATH,...` names.

    Raises:
      UsageError: a part is not NAME=PATH, or nothing is there.
    """
    files: list[EvaluationFile] = []
    for part in filter(None, eval_images.split(",")):
        name, equals, pattern = part.partition("=")
        if not (name and equals and pattern):
            raise UsageError(f"eval_images takes NAME=PATH,...; got {part!r}")
        suffixes = (*IMAGE_SUFFIXES, ".tar", ".parquet")
        matched = [item for item in match(pattern) if item[0].lower().endswith(suffixes)]
        if any(path.lower().endswith(".tar") for path, _ in matched):
            matched = [item for item in matched if not item[0].lower().endswith(".parquet")]
        if not matched:
            raise UsageError(f"no evaluation images at {pattern!r} ({name}); give a path with some")
        files.extend(EvaluationFile(name, *item) for item in matched)
    return files
