"""Whether the name server says nothing at all: then it is what is silent, and not the names."""

from __future__ import annotations

import math

_PROBED_S = 1.0  # between two probes, and after the last word


class ServerSilence:
    """When the name server spoke last, and since when it has not answered a probe: a question that
    each name server can answer.

    Args:
      limit_s: seconds without an answer to a probe, after which it counts as silent.

    Attributes:
      spoke_again: when it did after a silence; -inf where it never was silent.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._last_heard_s = self._last_probe_s = self.spoke_again = -math.inf
        self._unanswered_since = math.inf

    def hear(self, now: float) -> bool:
        """The name server said something; whether that ends a silence."""
        was_silent = self.lasts(now)
        if was_silent:
            self.spoke_again = now
        self._last_heard_s, self._unanswered_since = now, math.inf
        return was_silent

    def lasts(self, now: float) -> bool:
        """Whether it says nothing at all, though it was probed a while ago."""
        return now - self._unanswered_since >= self._limit_s

    @property
    def is_doubted(self) -> bool:
        """Whether a probe is not answered yet."""
        return self._unanswered_since < math.inf

    def due(self) -> float:
        """When it is to be probed."""
        return max(self._last_probe_s, self._last_heard_s) + _PROBED_S

    def probe(self, now: float) -> None:
        """It is probed."""
        self._last_probe_s, self._unanswered_since = now, min(now, self._unanswered_since)
