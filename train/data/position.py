"""How far a run has read, and where other processes continue behind it."""

from dataclasses import dataclass, field

from alignset.train.data.plan import Cursor
from alignset.train.errors import TrainingError
from alignset.train.settings import Settings

# Why a sample can be left out.
SKIPPED = ("no_image", "no_text", "scattered", "too_large", "undecodable")
_FIRST_JUDGED = 1_000  # samples; of fewer, a share says little


@dataclass(frozen=True)
class Position:
    """How far one process has read."""

    cursors: tuple[Cursor, ...] = ()  # of each dataset
    samples: int = 0  # of the whole run, skipped ones among them
    reasons: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SKIPPED, 0))
    # Where others were, by rank and then set, each time that as many as before did not go on.
    handovers: tuple[tuple[tuple[Cursor, ...], ...], ...] = ()

    @property
    def skipped(self) -> int:
        return sum(self.reasons.values())

    @property
    def epoch(self) -> int:
        """Whole epochs, of the dataset that has had fewest."""
        return min((cursor.epoch for cursor in self.cursors), default=0)

    def counts(self) -> dict[str, int]:
        """How many samples were skipped, and for which reasons, as metrics have it."""
        why = {f"skipped_{reason}": count for reason, count in self.reasons.items() if count}
        return {"skipped": self.skipped} | why


def position_of(rank: int, processes: int, positions: list[Position]) -> Position:
    """Where one of so many processes continues, behind the processes that had these positions, by
    rank.

    As many as before resume exactly. Otherwise each begins in the first epoch with samples left,
    and they share out the rest of it and of all that follow.
    """
    if len(positions) == processes:
        return positions[rank]
    of_sets = list(zip(*(position.cursors for position in positions), strict=True))
    starts = tuple(Cursor(min(cursor.epoch for cursor in of_set)) for of_set in of_sets)
    reasons = {
        reason: sum(position.reasons[reason] for position in positions) // processes
        for reason in SKIPPED
    }
    handovers = (*positions[0].handovers, tuple(position.cursors for position in positions))
    # Only what is left of an epoch that is not over matters; its number stays.
    lasting = tuple(
        handover
        if any(c.epoch >= start.epoch for p in handover for c, start in zip(p, starts, strict=True))
        else ()
        for handover in handovers
    )
    samples = sum(position.samples for position in positions) // processes
    return Position(starts, samples, reasons, lasting)


def check_skipped(reasons: dict[str, int], samples: int, settings: Settings, key: str) -> None:
    """Raises TrainingError where too many of so many samples can't be used.

    Args:
      reasons: how many, by why.
      key: of the last of them.
    """
    total, most = sum(reasons.values()), settings.max_skipped_share
    if total > most * max(samples, _FIRST_JUDGED):
        counts = ", ".join(f"{count} {reason}" for reason, count in reasons.items() if count)
        look = "look at the shards, where an image and its text must follow each other"
        if settings.caption_field and 2 * reasons["no_text"] > total:
            look = f"look whether KEY.json has the field --caption_field={settings.caption_field}"
        raise TrainingError(
            f"{total} of {samples} samples cannot be used ({counts}; the last is {key}): {look}, "
            f"or raise max_skipped_share; it is {most}"
        )
