"""Texts of anybody's, as they can be shown on one line, and counts of things."""


def on_one_line(text: str) -> str:
    """A text whose line breaks, and commands for a terminal, are escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def counted(number: int, thing: str, things: str = "") -> str:
    """As "1 shard", "4,000 shards" and "2 classes"."""
    return f"{number:,} {thing if number == 1 else things or f'{thing}s'}"
