"""Alt-texts of what Unicode and HTML make difficult, with URLs beside them, through `measure` and
the judge of languages; against the rules row by row in plain Python."""

from __future__ import annotations

import html.entities
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from random import Random

import pyarrow as pa

from alignset.demo import text_rules
from alignset.transforms.pairs.language_votes import found_languages
from alignset.transforms.pairs.measure_pairs import Pairs, measure, recalled, remembered
from alignset.transforms.pairs.texts import measure_texts
from alignset.transforms.rules.language_codes import NUMBERED
from tests.support.labelled_texts import ENGLISH_TEXTS
from tests.support.languages_by_eldc import mistaken_for
from tests.support.made_batches import (
    in_the_middle,
    language_rule,
    ngram_hashes,
    ngrams_by_row,
    pair_batch,
    raw,
    xxh,
    xxh_pair,
)
from tests.support.nasty_texts import PIECES

URL = "http://a.example/b.jpg"
RULES = [language_rule("en"), language_rule("sw"), language_rule("all")]
ENTITIES = sorted(html.entities.html5)


@lru_cache(maxsize=1)
def characters() -> dict[str, list[str]]:
    """By kind: marks, what decomposes, what folds to another, white space."""
    every = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    kinds: dict[str, Callable[[str], bool]] = {
        "marks": lambda c: unicodedata.combining(unicodedata.normalize("NFD", c)[0]) > 0,
        "composed": lambda c: unicodedata.normalize("NFD", c) != c,
        "folded": lambda c: c.casefold() != c,
        "spaces": str.isspace,
    }
    return {name: [c for c in every if has(c)] for name, has in kinds.items()} | {"any": every}


def _entity(random: Random) -> str:
    number = random.choice([0, 9, 38, 0x300, 0xF73, 0xD800, 0x110000, random.randrange(0x110000)])
    zeros = "0" * random.choice([0, 0, 3, 4295, 4300])
    inside = random.choice([f"#{zeros}{number}", f"#x{zeros}{number:x}", random.choice(ENTITIES)])
    return f"&{inside}{random.choice([';', ';', '', ' ', 'x'])}"


def text_of(random: Random) -> str:
    parts: list[str] = []
    for _ in range(random.choice([0, 1, 3, 10])):
        kind = random.choice(["piece", "piece", "entity", "run", "word", "english", *characters()])
        if kind == "piece":
            parts.append(random.choice(PIECES))
        elif kind == "entity":
            parts.append(_entity(random))
        elif kind == "run":
            marks = random.choices(characters()["marks"], k=random.choice([1, 2, 5]))
            parts.append("".join(marks) * random.choice([1, 50, 127, 256]))
        elif kind == "english":
            parts.append(random.choice(ENGLISH_TEXTS))
        elif kind == "word":
            letters = random.choices("abcXYZ&;#09 ", k=random.choice([1, 7, 8, 9, 31, 32, 33, 70]))
            parts.append("".join(letters))
        else:
            parts += random.choices(characters()[kind], k=random.choice([1, 3]))
    whole = "".join(parts)
    if random.random() < 0.2:  # broken somewhere
        at = random.randrange(len(whole) + 1)
        whole = whole[:at] + random.choice(PIECES) + whole[at + random.randrange(3) :]
    return whole


def value_of(random: Random) -> str | bytes | None:
    """A text, or its bytes damaged, or null."""
    if random.random() < 0.05:
        return None
    text = text_of(random)
    if random.random() < 0.8:
        return text
    body = bytearray(text.encode())
    for _ in range(random.randrange(3)):
        body.insert(random.randrange(len(body) + 1), random.choice([0x80, 0xC0, 0xED, 0xF8, 0xFF]))
    return bytes(body[: random.choice([None, -1])])


def told(pairs: Pairs) -> list[tuple]:
    columns = [pairs.url.to_pylist(), pairs.text.to_pylist(), pairs.malformed.to_pylist()]
    numbers = pairs.url_hash, pairs.text_hash, pairs.key, pairs.word_count
    columns += [column.tolist() for column in numbers]
    return list(zip(*columns, ngrams_by_row(pairs), strict=True))


def _expected(url: str | bytes | None, caption: str | bytes | None) -> tuple | None:
    """What is to be told of a row; None of a malformed one."""
    identity = text_rules.pair_identity((url, caption))
    if identity is None:
        return None
    kept, shown = (raw(value).decode() for value in (caption, url))
    hashes = xxh(identity[0]), xxh(identity[1]), xxh_pair(*identity)
    words = len(text_rules.words(identity[1]))
    return (
        shown.strip(),
        text_rules.kept_text(kept),
        None,
        *hashes,
        words,
        ngram_hashes(identity[1]),
    )


def _check_languages(random: Random, texts: list[str]) -> None:
    rule = random.choice(RULES)
    found = found_languages(pa.array(texts, pa.string()), rule)
    assert {*found.languages.to_pylist()} <= {*NUMBERED}
    columns = found.rows.tolist(), found.languages.to_pylist(), found.scores.to_pylist()
    of_rows = {
        row: of_text
        for row, *of_text in zip(*columns, strict=True)
        if of_text[0] not in rule.languages
    }
    for row, text in enumerate(texts):
        mistaken = mistaken_for(text.casefold()[:240], rule)
        assert of_rows.get(row) == (list(mistaken) if mistaken else None)


def check(random: Random) -> None:
    urls = [URL, URL, "b.jpg", b"\xff"]
    rows = [(random.choice(urls), value_of(random)) for _ in range(random.choice([0, 1, 2, 7]))]
    batch = pair_batch(rows)
    pairs = measure(batch)
    pairs.text.validate(full=True)
    whole = told(pairs)
    for row, fate in zip(rows, whole, strict=True):
        expected = _expected(*row)
        assert fate[2] is not None if expected is None else fate == expected
    cut = random.randrange(len(rows) + 1)
    assert told(measure(batch.slice(0, cut))) + told(measure(batch.slice(cut))) == whole
    middle = [in_the_middle(column) for column in batch.columns]
    assert told(measure(pa.record_batch(middle, names=batch.schema.names))) == whole
    kept = recalled(remembered(pairs, batch))
    again = measure_texts(kept.text, pairs.usable(), kept.word_count)
    assert ngrams_by_row(again) == ngrams_by_row(pairs)
    _check_languages(random, pairs.text.to_pylist())


OTHER_TOKENS = [
    *("é", "ß", "ſ", "İ", "ΐ", "\u00a0", "\u3000", "\u0301", "\u0334", "\u0f73", "a\u0301"),
    *("\u1100", "\u1161", "\u11a8", "한", "日", "\ufb03", "🐕", "\U0001d15e", "\t", "9", ";"),
    *("&", "&amp;", "&a", "&#", "&lt;", "&notit;", "&#x41;"),
]
