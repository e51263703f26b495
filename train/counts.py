"""How counts of things are told."""


def counted(number: int, thing: str, things: str = "") -> str:
    """As "1 shard", "4,000 shards" and "2 classes"."""
    return f"{number:,} {thing if number == 1 else things or f'{thing}s'}"
