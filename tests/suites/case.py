"""A case of a suite."""

from __future__ import annotations

from typing import NamedTuple


class Case(NamedTuple):
    """What a suite, or the parser that it is compared with, says of an input, and what ours says.

    Attributes:
      name: the input, or the file it is in; the table of expected disagreements finds it by this.
    """

    name: str
    theirs: object
    ours: object

    @property
    def agrees(self) -> bool:
        """Checks whether both say the same."""
        return self.theirs == self.ours
