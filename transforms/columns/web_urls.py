"""URLs as browsers read them.

Source: https://url.spec.whatwg.org/
"""

from __future__ import annotations

import re

import can_ada

_MAX_HOST = 1024  # characters, with a user's name: a DNS name has 253
_NO_BREAKS = {9: None, 10: None, 13: None}
_HOST = re.compile(
    r"([\x00-\x20]*+(?:(?:https?|wss?|ftp|file):[/\\]*+|[/\\]{2,}+))([^/\\?#]*+)", re.I
)


def parse_url(url: str, base: can_ada.URL | None = None) -> can_ada.URL | None:
    """Parses a URL, relative to another if that is given.

    Returns:
      None where the standard's parser fails, or the host is four times as long as any name: to
      write other letters in ASCII takes the square of their number.
    """
    if len(url) > _MAX_HOST or "ẞ" in url:
        url = url.translate(_NO_BREAKS)
        if match := _HOST.match(url):
            before, host = match.groups()
            if len(host) >= _MAX_HOST:
                return None
            # UTS 46 maps it to ß since Unicode 15.1, and can_ada to ss.
            url = before + host.replace("ẞ", "ß") + url[match.end() :]
    try:
        return can_ada.parse(url) if base is None else base + url
    except (ValueError, TypeError):  # of a lone surrogate
        return None
