"""The files that a command reads, with their formats, columns and splits."""

from __future__ import annotations

import os
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.earlier_sets import earlier_set, leave_out_other_files
from alignset.pipeline.inputs.splits import InputFile
from alignset.pipeline.job import Job
from alignset.transforms.corpus.corpus_documents import HashFile
from alignset.transforms.corpus.vocabulary_file import NAME as VOCABULARY
from alignset.transforms.corpus.vocabulary_file import check_vocabulary
from alignset.transforms.rules.catalogue import PRODUCT, Catalogue
from alignset.transforms.rules.language_codes import ENGLISH
from alignset.transforms.storage.documents import readable_document
from alignset.transforms.storage.files import exists, is_local, match

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


def find_files(job: Job, catalogue: Catalogue = PRODUCT) -> list[InputFile]:
    """The input files, sorted, each once.

    Raises:
      UsageError: nothing is there, or a file's format cannot be told from its name.
    """
    files: dict[str, InputFile] = {}
    sets = {pattern: found for pattern in job.inputs if (found := earlier_set(pattern))}
    reasons: tuple[str, ...] = ()
    if job.also_rejected:
        dropped = [name for earlier in sets.values() for name in earlier.dropped()]
        try:
            reasons = job.rejected_reasons(catalogue, dropped)
        except ValueError as error:
            raise UsageError(str(error)) from error
    for pattern in job.inputs:
        _check_apart(pattern, job.output)
        earlier = sets.get(pattern)
        if earlier is None:
            matches = leave_out_other_files(pattern, _matching(job, pattern), job)
            if not matches:
                raise UsageError(_missing_message(pattern, job))
            files |= {file.path: file for file in matches}
            continue
        pairs = earlier.rejected_files(job, reasons)
        for folder in earlier.pair_folders(job):
            pairs += _matching(job, folder, of_set=True)
        if not pairs:
            raise UsageError(
                f"the dataset {earlier.folder} holds no pair; run its own command with "
                "--retry_failed, or --also_rejected=all to read what it dropped"
            )
        files |= {file.path: file for file in pairs}
    if job.also_rejected and not sets:
        raise UsageError(
            "--also_rejected reads what a dataset of this project has dropped: pass the folder of "
            f"one, with its manifest.json, as --input; got {job.input}"
        )
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
    """The files of pairs or pages that a pattern names, without those that lie beside them; of a
    set of ours there may be none.

    Raises:
      UsageError: there are files, and the format of none can be told.
    """
    is_auto = job.input_format == "auto"
    files = [
        InputFile(path, size, format_of(path)[0] if is_auto else job.input_format)
        for path, size in match(pattern, links=not of_set)
        if not _is_in(path, job.output)  # else a run could not go on where it stopped
    ]
    if of_set or len(files) > 1:  # beside what was asked for there may be sidecars
        files = [f for f in files if _may_be(f)]
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


def _may_be(file: InputFile) -> bool:
    """Whether its name agrees with its format; beside pages there are images and the like."""
    by_name = format_of(file.path)[0]
    return by_name == file.format or (not by_name and file.format != "html")


def _is_in(path: str, folder: str) -> bool:
    if is_local(path) and is_local(folder):
        path, folder = os.path.abspath(path), os.path.abspath(folder)
    return path.startswith(f"{folder.rstrip('/')}/")


@dataclass(frozen=True)
class _VocabularyManifest:
    """The part of a manifest that says how the words of a vocabulary are hashed, in any version."""

    rules: dict[str, Any]


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
    manifest = readable_document(f"{folder}/manifest.json", _VocabularyManifest)
    earlier = str(manifest.rules.get("language", language)) if manifest else language
    if (earlier in ("", ENGLISH)) != (language in ("", ENGLISH)):
        raise UsageError(
            f"{file} is of a run with --language={earlier}, whose words are hashed in another "
            f"way than with --language={language}: pass the vocabulary of a run with the latter, "
            "or leave --vocabulary out"
        )
    return vocabulary
