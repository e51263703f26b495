"""What ends a command with one line instead of a traceback."""


class SettingsError(Exception):
    """The user has to change a flag or a folder; the message is one line that says how."""


class TrainingError(Exception):
    """The run cannot go on; the message is one line that says what to try."""


class SharedError(TrainingError):
    """All processes of a run see it, and the first says so."""


class Diverged(SharedError):
    """What is learned has become useless."""
