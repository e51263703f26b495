"""What a task found: numbers for the line of JSON, and one HTML file with them and some images."""

import base64
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from alignset.train.data.images import decode_image
from alignset.train.data.whole_files import write_whole
from alignset.train.errors import SettingsError
from alignset.train.evaluate.bootstrap import Interval, Sample, difference, interval
from alignset.train.evaluate.task_table import TaskSettings
from alignset.train.runs.model_card import CURVES, read_points
from alignset.train.runs.trained_images import find_run

_THUMBNAIL = 192  # px
_LONGEST_LINE = 300  # characters of a text
# What a page calls numbers whose names in JSON say too little; others have spaces for "_".
_LABELS = {"n": "measured", "top1": "top-1", "top5": "top-5"}


class Card(NamedTuple):
    """An image and what is said of it.

    Attributes:
      identity: the SHA-256 of its file; empty: there is no image.
      lines: the first is its title.
      right: whether the model was right; None: that is not what it is about.
    """

    identity: bytes
    lines: tuple[str, ...]
    right: bool | None = None


class Section(NamedTuple):
    title: str
    cards: list[Card]


@dataclass
class TaskResult:
    """The result of one task.

    Attributes:
      result: what is printed, besides what every task says.
      sections: the page's.
      files: goes through the files of the dataset's images again, for the page.
      samples: the numbers whose intervals are over images, by their names in the result.
      identities: of the images that are measured on.
    """

    result: dict[str, Any]
    sections: list[Section] = field(default_factory=list)
    files: Callable[[], Iterable[bytes]] = tuple
    samples: dict[str, Any] = field(default_factory=dict)
    identities: list[bytes] = field(default_factory=list)


def percent(share: float) -> float:
    return round(100 * share, 3)


def percents(interval: Interval) -> list[float]:
    """An interval, in percent, as JSON has it."""
    return [percent(end) for end in interval]


def intervals(samples: dict[str, Any]) -> dict[str, Any]:
    """The interval of each number of a tree, in percent."""
    return over_tree(lambda sample: percents(interval(*sample)), samples)


def differences(first: TaskResult, second: TaskResult) -> dict[str, Any]:
    """How many percentage points more each number of the second is, and their paired intervals."""
    more = over_tree(difference, first.samples, second.samples)
    values = over_tree(lambda sample: percent(sample.value()), more)
    return {**values, "intervals": intervals(more)}


def over_tree(function: Callable[..., Any], *trees: dict[str, Any]) -> dict[str, Any]:
    """Calls a function with the samples of one name in trees of the same form."""
    owns = {name: [tree[name] for tree in trees] for name in trees[0]}
    return {
        name: function(*own) if isinstance(own[0], Sample) else over_tree(function, *own)
        for name, own in owns.items()
    }


def check_page(page: str) -> None:
    """Raises SettingsError where a page can't be written, before anything takes time."""
    if not page:
        return
    folder = Path(page).parent
    if Path(page).is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise SettingsError(
            f"--page={page} can't be written: name a file in a folder that can be written to"
        )


def write_page(
    models: Sequence[TaskSettings],
    results: list[dict[str, Any]],
    outcomes: list[TaskResult],
    paired: list[dict[str, Any]],
) -> None:
    """Writes the file, whole or not at all; of several models also their `differences` from the
    first, where the task has any, and the curves of their runs."""
    sections = [section for outcome in outcomes for section in outcome.sections]
    missing = {card.identity for section in sections for card in section.cards} - {b""}
    pictures: dict[bytes, str] = {}  # data: URLs
    for data in outcomes[0].files() if missing else ():
        if (identity := hashlib.sha256(data).digest()) in missing:
            small = decode_image(data).copy()
            small.thumbnail((_THUMBNAIL, _THUMBNAIL))
            small.save(buffer := io.BytesIO(), "JPEG", quality=80)
            encoded = base64.b64encode(buffer.getvalue()).decode()
            pictures[identity] = f"data:image/jpeg;base64,{encoded}"
            missing.remove(identity)
        if not missing:
            break
    template = Path(__file__).with_name("page.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    columns = [dict(numbers(of.result, of.result.get("intervals", {}))) for of in outcomes]
    columns += [dict(numbers(more, more["intervals"], sign="+")) for more in paired]
    runs = [find_run(of.model) for of in models] if len(models) > 1 else []
    metrics = [run and run[0] / "metrics.jsonl" for run in runs]
    html = environment.from_string(template).render(
        right=models[0].right,
        results=results,
        curves={name: [read_points(of, name) if of else [] for of in metrics] for name in CURVES},
        columns=columns,
        has_differences=bool(paired),
        outcomes=outcomes,
        pictures=pictures,
        marks={True: "right", False: "wrong", None: ""},
        longest=_LONGEST_LINE,
    )
    write_whole(Path(models[0].page), html)


def numbers(
    values: dict[str, Any], intervals: dict[str, Any], path: str = "", sign: str = ""
) -> Iterator[tuple[str, tuple[str, str]]]:
    """Each number of a tree by its path in words, with its interval, where it has one."""
    for name, value in values.items():
        is_of_data = path == "languages "  # whose names may have any character
        label = path + (name if is_of_data else _LABELS.get(name, name.replace("_", " ")))
        if isinstance(value, dict):
            yield from numbers(value, intervals.get(name, {}), f"{label} ", sign)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            interval = "to".join(f" {end:{sign}g} " for end in intervals.get(name, ()))
            yield label, (f"{value:{sign}g}", interval)
