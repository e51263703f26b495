"""All tasks over a YAML of datasets, with one table at the end beside what was published."""

import contextlib
import hashlib
import json
import os
import reprlib
import sys
import textwrap
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from alignset.train.data.whole_files import write_whole
from alignset.train.errors import SettingsError, TrainingError
from alignset.train.evaluate.embedding import Embedding
from alignset.train.evaluate.page import check_page, write_page
from alignset.train.evaluate.published import PUBLISHED, in_one_line
from alignset.train.evaluate.task_flags import TASKS, suite_flags
from alignset.train.evaluate.task_result import (
    NO_MATTER,
    TaskResult,
    as_json,
    check_flags,
    run_task,
    whole_result,
)

_LARGEST = 1 << 20  # bytes of the file
_LONGEST_REASON = 2000  # characters of what is told of a dataset that failed
_FORM = "a list under `sets`, each with name, task, and that task's flags, as data"


@dataclass(frozen=True)
class Entry:
    """One dataset of a suite.

    Attributes:
      published: the name by which published results of it are known; its own, if it has none.
    """

    name: str
    task: str
    flags: Namespace
    published: str

    def digest(self, model: str) -> str:
        """Tells results of these flags and this model from others."""
        flags = sorted((k, str(v)) for k, v in vars(self.flags).items() if k not in NO_MATTER)
        parts = [self.task, model, flags]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def read_suite(path: Path, common: dict[str, str]) -> list[Entry]:
    """The datasets of a YAML file. Its paths are from where the command runs.

    Args:
      common: flags of the suite that each task takes too.

    Raises:
      SettingsError: it can't be read, or an entry is not a task, lacks a flag or has another.
    """
    try:
        with path.open("rb") as file:
            content = yaml.safe_load(file.read(_LARGEST))
    except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = str(error).partition("\n")[0]
        raise SettingsError(f"{path} can't be read as YAML ({reason:.120})") from error
    entries = content.get("sets") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise SettingsError(f"{path} has no datasets: it must have {_FORM}")
    suite = [_entry(path, entry, common) for entry in entries]
    name, count = Counter(entry.name for entry in suite).most_common(1)[0]
    if count > 1:
        raise SettingsError(f"{path} has {count} sets called {name!r}: give each a name of its own")
    return suite


def _entry(path: Path, entry: object, common: dict[str, str]) -> Entry:
    if not isinstance(entry, dict) or not {"name", "task"} <= entry.keys():
        # Not all of it: a YAML of 1 KB may name a list that is larger than memory.
        raise SettingsError(
            f"{path}: each dataset must have a name and a task; got {reprlib.repr(entry):.80}"
        )
    for key, value in entry.items():
        if not isinstance(key, str) or isinstance(value, list | tuple | dict | set):
            raise SettingsError(
                f"{path}: {reprlib.repr(key):.80} must be a text and have one value: write the "
                "flags of a task as its command has them"
            )
    fields = dict(entry)
    name, task = str(fields.pop("name")), str(fields.pop("task"))
    peer_name = str(fields.pop("published", name))
    if task not in TASKS or task == "suite":
        raise SettingsError(f"{path}: {name} has the task {task!r}; there are {', '.join(TASKS)}")
    if "/" in name or name in ("", ".", ".."):
        raise SettingsError(f"{path}: {name!r} can't be the name of a file: give it another name")
    if clash := sorted(fields.keys() & common.keys()):
        raise SettingsError(f"{path}: {name}: {clash[0]} is a flag of the suite: give it there")
    words = [f"--{key}={_word(value)}" for key, value in (fields | common).items()]
    try:
        flags = suite_flags(task, words)
        check_flags(flags)
        check_page(flags.page)
    except SettingsError as error:
        raise SettingsError(f"{path}: {name}: {error}") from error
    return Entry(name, task, flags, peer_name)


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def evaluate(flags: Namespace, open_embedding: Callable[[], Embedding]) -> TaskResult:
    """Runs what has no result yet in the folder --out; one that fails is told, and the others run.

    Raises:
      SettingsError: the file or the folder is wrong. TrainingError: a dataset failed; the others
        have their results.
    """
    common = {"model": flags.model, "cache": flags.cache, "batch_size": flags.batch_size}
    suite = read_suite(Path(flags.data), {key: str(value) for key, value in common.items()})
    folder = Path(flags.out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"--out={folder} can't be made ({error.strerror})") from error
    embedding = open_embedding()
    results: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for entry in suite:
        try:
            results[entry.name] = _result(entry, folder, embedding)
        except Exception as error:  # whatever it is, the others may be well
            errors[entry.name] = reason = _why(error)
            print(f"{entry.name}: {reason}", file=sys.stderr)
    table = markdown(suite, results, errors)
    write_whole(folder / "table.md", table)
    print(table, end="", file=sys.stderr)
    if errors:
        raise TrainingError(
            f"{len(errors)} of {len(suite)} sets failed ({', '.join(errors)}): the same command "
            f"runs these again; the others are in {folder}"
        )
    return TaskResult({"sets": results})


def _why(error: Exception) -> str:
    if isinstance(error, SettingsError | TrainingError):
        return str(error)
    return f"{type(error).__name__}: {error}"[:300].replace("\n", " ")


def _result(entry: Entry, folder: Path, embedding: Embedding) -> dict[str, Any]:
    """The result in the folder, if it is of the same model and flags and its page is there, else
    the task's."""
    path = folder / f"{entry.name}.json"
    digest, page = entry.digest(embedding.embedder.digest), entry.flags.page
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        record = json.loads(path.read_text())
        if record["digest"] == digest and (not page or os.path.exists(page)):
            return dict(record["result"])
    print(f"{entry.name}: {entry.task}", file=sys.stderr)
    outcome = run_task(entry.task, entry.flags, lambda: embedding)
    result = whole_result(entry.task, embedding, entry.flags, outcome)
    if page:
        write_page(page, result, outcome)
    write_whole(path, as_json({"digest": digest, "result": result}, indent=1) + "\n")
    return result


# Of each task what its rows say, by the path to it in the result.
METRICS = {
    "retrieval": ("image_to_text R@1", "text_to_image R@1", "mean_recall"),
    "zero_shot": ("top1", "mean_per_class"),
    "knn": ("top1", "R@1"),
    "probe": ("top1", "mean_per_class"),
    "segmentation": ("mean_iou",),
    "words": ("spearman",),
    "crisscrossed": (
        "retrieval image_to_text R@1",
        "retrieval text_to_image R@1",
        "retrieval text_to_text R@1",
        "retrieval image_to_image R@1",
        "correlation sts spearman",
        "correlation sis spearman",
        "correlation sits spearman",
    ),
}

_OF_LANGUAGE = {"retrieval": "mean_recall", "zero_shot": "top1"}  # and of each language


def markdown(suite: list[Entry], results: dict[str, Any], errors: dict[str, str]) -> str:
    """The table: a row for each metric of each dataset, this model's and the published ones, in
    percent with one digit, as most are published.

    Args:
      errors: of the datasets that have no result, why.
    """
    rows = [["set", "task", "metric", "n", "this model", "95 %", "published"]]
    for entry in suite:
        if entry.name in errors:
            # What to do stands at the end of an error.
            reason = textwrap.shorten(errors[entry.name], _LONGEST_REASON, placeholder=" …")
            rows.append([entry.name, entry.task, f"failed: {reason}", *[""] * 4])
        else:
            rows += _rows(entry, results[entry.name])
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines) + "\n"


def _rows(entry: Entry, result: dict[str, Any]) -> list[list[str]]:
    peer_scores = PUBLISHED.get((entry.task, entry.published), {})
    rows = []
    by_language = [
        f"languages {code} {_OF_LANGUAGE[entry.task]}" for code in result.get("languages", ())
    ]
    metrics = (
        *METRICS[entry.task],
        *by_language,
        *(name for of in peer_scores.values() for name in of),
    )
    for metric in dict.fromkeys(metrics):
        value = _at(result, metric)
        if value is None:
            continue
        ends = _at(result["intervals"], metric)
        interval = f"{ends[0]:.1f} to {ends[1]:.1f}" if ends else ""
        row = [entry.name, entry.task, metric, _count(result, metric), f"{value:.1f}", interval]
        rows.append([*row, in_one_line(peer_scores, metric)])
    return rows


def _count(result: dict[str, Any], metric: str) -> str:
    """The number of images, captions or pairs of a metric: the nearest number to it."""
    path = metric.split(" ")
    counts = (_at(result, " ".join([*path[:end], "n"])) for end in range(len(path), -1, -1))
    return next((str(count) for count in counts if count is not None), "")


def _at(tree: dict[str, Any], path: str) -> Any:
    """The result in the folder, or None."""
    value: Any = tree
    for name in path.split(" "):
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    return value
