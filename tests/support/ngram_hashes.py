"""How n-grams are hashed, by the `xxhash` package alone, as docs/shard_format.md has it."""

import struct
from collections import Counter
from collections.abc import Iterable

import xxhash

from alignset.demo import text_rules


def ngram_hash(ngram: str) -> int:
    """Of a word, or of two with a space between."""
    raw = [word.encode() for word in ngram.split(" ")]
    words = [xxhash.xxh64_intdigest(word + b"\0" * (-len(word) % 8)) for word in raw]
    return words[0] if len(words) == 1 else xxhash.xxh64_intdigest(struct.pack("<QQ", *words))


def file_of(ngrams: Iterable[str]) -> bytes:
    """A vocabulary as it is written."""
    return b"".join(struct.pack("<Q", ngram) for ngram in sorted(map(ngram_hash, ngrams)))


def count_ngrams(captions: Iterable[str]) -> Counter[str]:
    """How often each n-gram stands in these alt-texts."""
    counts: Counter[str] = Counter()
    for caption in captions:
        counts.update(text_rules.ngrams(text_rules.text_identity(text_rules.kept_text(caption))))
    return counts
