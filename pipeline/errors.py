"""Errors that end a command with one line instead of a traceback."""


class UsageError(Exception):
    """A command that cannot be run as it was given; says what to do."""


class TooLittleKeptError(Exception):
    """A run that has ended and kept nothing, or almost nothing; says why and what to do."""
