"""Errors that end a command with one line instead of a traceback, and wording of counts."""


class SettingsError(Exception):
    """The user has to change a flag or a folder; the message is one line that says how."""


class TrainingError(Exception):
    """The run cannot continue; the message is one line that says what to try."""


class SharedError(TrainingError):
    """All processes of a run see it, and the first says so."""


class Diverged(SharedError):
    """The training diverged."""


def counted(number: int, thing: str, things: str = "") -> str:
    """As "1 shard", "4,000 shards" and "2 classes"."""
    return f"{number:,} {thing if number == 1 else things or f'{thing}s'}"
