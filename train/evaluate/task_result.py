"""Result of a task: numbers for the line of JSON, and images for the page."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from alignset.train.evaluate.bootstrap import Interval


@dataclass(frozen=True)
class Card:
    """An image and what is said of it.

    Attributes:
      place: of the image in the dataset that the task went through; -1: there is none.
      lines: the first is its title.
      right: whether the model was right; None: that is not what it is about.
    """

    place: int
    lines: tuple[str, ...]
    right: bool | None = None


@dataclass(frozen=True)
class Section:
    title: str
    cards: list[Card]


@dataclass
class TaskResult:
    """The result of one task.

    Attributes:
      result: what is printed, besides what every task says.
      sections: the page's.
      files: goes through the files of the dataset's images again, for the page.
    """

    result: dict[str, Any]
    sections: list[Section] = field(default_factory=list)
    files: Callable[[], Iterable[bytes]] = tuple


def percent(share: float) -> float:
    return round(100 * share, 3)


def percents(interval: Interval) -> list[float]:
    """An interval, in percent, as JSON has it."""
    return [percent(end) for end in interval]
