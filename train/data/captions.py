"""The captions of an image, of a text or of JSON."""

import json

LONGEST_TEXT = 1 << 14  # bytes of a text that are read: its first 64 tokens are learned from


def caption_lines(text: str) -> list[str]:
    """The captions of an image whose text has one a line."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def json_captions(data: bytes | None, field: str) -> str | None:
    """The captions in a field of an object, a text or a list of them, one a line; None: none."""
    try:
        value = json.loads(data or b"null")
    except (ValueError, RecursionError):
        return None
    value = value.get(field) if isinstance(value, dict) else None
    texts = value if isinstance(value, list) else [value]
    lines = [" ".join(text.split()) for text in texts if isinstance(text, str)]
    # JSON may name halves of characters, which are none.
    whole = "\n".join(filter(None, lines)).encode("utf-8", "replace")
    return whole[:LONGEST_TEXT].decode("utf-8", "ignore") or None
