"""How far a run has read, and how many samples it could not use."""

from dataclasses import dataclass, field
from typing import NamedTuple

from alignset.train.errors import TrainingError
from alignset.train.settings import Settings

# Why a sample can be left out.
SKIPPED = ("no_image", "no_text", "too_large", "undecodable")
_FIRST_JUDGED = 1_000  # samples; of fewer, a share says little


class Cursor(NamedTuple):
    """How far a process has come in a dataset: so many samples of its share of an epoch."""

    epoch: int = 0
    taken: int = 0


@dataclass(frozen=True)
class Position:
    """How far one process has read."""

    cursors: tuple[Cursor, ...] = ()  # of each dataset
    samples: int = 0  # since there are as many processes, skipped ones among them
    reasons: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SKIPPED, 0))

    @property
    def epoch(self) -> int:
        """Whole epochs, of the dataset that has had fewest."""
        return min((cursor.epoch for cursor in self.cursors), default=0)

    def counts(self) -> dict[str, int]:
        """How many samples were skipped, and for which reasons, as metrics have it."""
        why = {f"skipped_{reason}": count for reason, count in self.reasons.items() if count}
        return {"skipped": sum(self.reasons.values())} | why


def resume_position(rank: int, positions: list[Position], processes: int) -> Position:
    """Where one of so many processes resumes a run whose processes had these positions, by rank.

    As many as before resume exactly. Others begin the next epoch of each dataset: nobody reads the
    rest of the one that was under way.

    >>> one, other = Position((Cursor(2, 7),), 40), Position((Cursor(3, 1),), 41)
    >>> resume_position(1, [one, other], 2) == other
    True
    >>> resume_position(1, [one, other], 3).cursors
    (Cursor(epoch=4, taken=0),)
    """
    if len(positions) == processes:
        return positions[rank]
    by_dataset = zip(*(position.cursors for position in positions), strict=True)
    return Position(tuple(Cursor(1 + max(c.epoch for c in cursors)) for cursors in by_dataset))


def check_skipped(reasons: dict[str, int], samples: int, settings: Settings, key: str) -> None:
    """Raises TrainingError where too many of so many samples can't be used.

    Args:
      reasons: how many, by why.
      key: of the last of them.
    """
    total, allowed = sum(reasons.values()), settings.max_skipped_share
    if total > allowed * max(samples, _FIRST_JUDGED):
        counts = ", ".join(f"{count} {reason}" for reason, count in reasons.items() if count)
        look = "look at the shards, where an image and its text must follow each other"
        if settings.caption_field and 2 * reasons["no_text"] > total:
            look = f"look whether KEY.json has the field --caption_field={settings.caption_field}"
        raise TrainingError(
            f"{total} of {samples} samples cannot be used ({counts}; the last is {key}): {look}, "
            f"or raise max_skipped_share; it is {allowed}"
        )
