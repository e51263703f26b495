"""Errors that end a command with one line, and that the Python API raises."""


class UsageError(Exception):
    """A command that cannot be run as it was given; says what to do."""

    status = 2  # of the command


class TooLittleKeptError(Exception):
    """A run that has ended and kept nothing, or almost nothing; says why and what to do."""


class FailedRunError(Exception):
    """A run that has failed, which the same call resumes; says why, and its cause is the error."""
