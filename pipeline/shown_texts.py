"""Texts of anybody's, as they can be shown on one line."""


def on_one_line(text: str) -> str:
    """A text whose line breaks, and commands for a terminal, are escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
