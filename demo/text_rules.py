"""Every text rule of the design, row by row in plain Python: slow, and independent of the code.

Written from the design alone: no Arrow, no hashes, nothing of `transforms/`. The demo's truth, the
tests and the benchmark of the text rules compare with it.
"""

import html
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import can_ada
from icu4py.breakers import WordBreaker

Row = tuple[str | bytes | None, str | bytes | None]  # URL and alt-text, as they were read
Identity = tuple[str, str]


@dataclass(frozen=True)
class Numbers:
    """The rules' numbers, as the flags have them."""

    language: str = ""
    min_words: int = 3
    max_words: int = 20
    max_images_per_text: int = 10
    max_texts_per_image: int = 1000
    vocabulary_size: int = 100_000_000


def kept_text(caption: str) -> str:
    """Entities decoded, NFC, every run of white space one space, trimmed."""
    decoded = html.unescape(_without_long_numbers(caption))
    composed = unicodedata.normalize("NFC", _with_runs_parted(decoded))
    spaced = "".join(" " if character.isspace() else character for character in composed)
    while "  " in spaced:
        spaced = spaced.replace("  ", " ")
    return spaced.removeprefix(" ").removesuffix(" ")


def _without_long_numbers(text: str) -> str:
    """Decimal references of 4300 digits and more, which Python may refuse, are not characters."""
    first, *behind = text.split("&#")
    shown = [first]
    for piece in behind:
        rest = piece.lstrip("0123456789")
        is_long = len(piece) - len(rest) >= 4300
        shown.append("\ufffd" + rest.removeprefix(";") if is_long else "&#" + piece)
    return "".join(shown)


def _with_runs_parted(text: str) -> str:
    """A U+034F after every 255 combining marks in a row, where another follows; some characters of
    class 0 decompose to marks, and are marks."""
    parted, run = [], 0
    for character in text:
        begins = unicodedata.normalize("NFD", character)[0]
        run = run + 1 if unicodedata.combining(begins) else 0
        if run > 255:
            parted.append("\u034f")
            run = 1
        parted.append(character)
    return "".join(parted)


def text_identity(kept: str) -> str:
    return kept.casefold()


def url_identity(url: str) -> str | None:
    """Scheme and host lower-cased, default port and fragment dropped; where more has to be mended
    for that, what a browser's parser makes of it; None where that fails."""
    url = url.strip()
    try:
        parsed = can_ada.parse(url)
    except ValueError:
        parsed = None
    written = _identity_and_host(url)
    if written is None:
        usable = parsed is not None and parsed.protocol in ("http:", "https:")
        return parsed.href.partition("#")[0] if usable else None
    identity, host = written
    last = host.removesuffix(".").split(".")[-1]
    is_name = not re.search("[^a-zA-Z0-9._-]", host) and last[:1] not in set("0123456789")
    return identity if is_name or parsed is not None else None


def _identity_and_host(url: str) -> tuple[str, str] | None:
    url, _, _ = url.partition("#")
    scheme, colon, rest = url.partition("://")
    if scheme.lower() not in ("http", "https") or not colon:
        return None
    end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    authority, path = rest[:end], rest[end:]
    user, at, place = authority.rpartition("@")
    host, port = place, ""
    if place.startswith("["):
        host, bracket, port = place.partition("]")
        host += bracket
        if not bracket or (port and not port.startswith(":")):
            return None
        port = port.removeprefix(":")
    elif ":" in place:
        host, _, port = place.partition(":")
    if not _is_host(host) or any(digit not in "0123456789" for digit in port):
        return None
    if port and int(port) > 65535:
        return None
    if port and int(port) == {"http": 80, "https": 443}[scheme.lower()]:
        port = ""
    identity = f"{scheme.lower()}://{user}{at}{host.lower()}{':' if port else ''}{port}{path}"
    return identity, host


def _is_host(host: str) -> bool:
    if host.startswith("["):
        return len(host) > 2 and not host[1:-1].strip("0123456789abcdefABCDEF:.")
    return bool(host) and not any(c.isspace() or c in "[]:" for c in host)


def words(identity: str) -> list[str]:
    """Split at spaces, in scripts without spaces where ICU does; each stripped of what is neither
    letter nor digit, nor a sign behind a letter; empties dropped."""
    stripped = []
    for token in identity.split(" "):
        for word in WordBreaker(token, "en") if any(map(is_without_spaces, token)) else [token]:
            inside = [i for i, c in enumerate(word) if unicodedata.category(c)[0] in "LN"]
            if inside:
                end = inside[-1] + 1
                while end < len(word) and is_sign(word[end]):
                    end += 1
                stripped.append(word[inside[0] : end])
    return stripped


_SCRIPTS = (
    *("THAI ", "LAO ", "TIBETAN ", "MYANMAR ", "KHMER ", "HIRAGANA ", "KATAKANA", "HENTAIGANA "),
    *("HALFWIDTH KATAKANA", "CJK UNIFIED", "CJK COMPATIBILITY IDEOGRAPH"),
    *("IDEOGRAPHIC ITERATION", "IDEOGRAPHIC CLOSING", "IDEOGRAPHIC NUMBER"),
)


def is_without_spaces(character: str) -> bool:
    """Whether it is a letter or digit of a script that is written without spaces."""
    is_letter = unicodedata.category(character)[0] in "LN"
    return is_letter and unicodedata.name(character, "").startswith(_SCRIPTS)


def is_sign(character: str) -> bool:
    """Whether it is a vowel sign or another mark of a script, and none that any letter may have."""
    if unicodedata.category(character)[0] != "M" or not "\u0590" <= character < "\U000e0000":
        return False
    block = ord(character) >> 4
    of_any_letter = (*range(0x1AB, 0x1B0), *range(0x1DC, 0x1E0), *range(0x20D, 0x210), 0xFE0, 0xFE2)
    return block not in of_any_letter


def ngrams(identity: str) -> list[str]:
    unigrams = words(identity)
    return unigrams + [f"{a} {b}" for a, b in pairwise(unigrams)]


def text_of(value: str | bytes | None) -> str | None:
    """The text of a raw value; None for null and for bytes that are not UTF-8."""
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return None


def pair_identity(row: Row) -> Identity | None:
    """A pair's values, or None where it is malformed."""
    url, caption = map(text_of, row)
    if url is None or caption is None:
        return None
    image, text = url_identity(url), text_identity(kept_text(caption))
    return None if image is None or not text else (image, text)


def vocabulary(
    counts: Counter[str], size: int, tie_order: Callable[[str], int] | None = None
) -> set[str]:
    """The `size` most frequent n-grams; which of those that tie at the end, `tie_order` says."""
    ranked = sorted(counts, key=lambda n: (-counts[n], tie_order(n) if tie_order else 0))
    tied = 0 < size < len(ranked) and counts[ranked[size - 1]] == counts[ranked[size]]
    if tied and tie_order is None:
        raise ValueError("the design leaves ties at the cut-off open: give their order")
    return set(ranked[:size])


@dataclass(frozen=True)
class Corpus:
    """The well-formed pairs, and what the rules over the whole collection count of them.

    Attributes:
      rows_of: how many rows a pair has; None: the malformed. foreign: whether it is.
      images_of, texts_of: of a text, and of an image, counted over pairs that are not foreign.
      ngrams: of each row that is not foreign, as often as they occur.
    """

    rows_of: Counter[Identity | None]
    foreign: dict[Identity, bool]
    images_of: dict[str, set[str]]
    texts_of: dict[str, set[str]]
    ngrams: Counter[str]


def corpus_of(
    rows: Sequence[Row], language: str = "", language_of: Callable[[str], str] | None = None
) -> Corpus:
    """Counts of rows.

    Args:
      language: that is kept; empty keeps all. language_of: tells it of a kept text.
    """
    corpus = Corpus(Counter(), {}, defaultdict(set), defaultdict(set), Counter())
    for row in rows:
        pair = pair_identity(row)
        corpus.rows_of[pair] += 1
        if pair is None:
            continue
        kept = kept_text(text_of(row[1]) or "")
        corpus.foreign[pair] = bool(language and language_of and language_of(kept) != language)
        if not corpus.foreign[pair]:
            corpus.images_of[pair[1]].add(pair[0])
            corpus.texts_of[pair[0]].add(pair[1])
            corpus.ngrams.update(ngrams(pair[1]))
    return corpus


def judge(
    rows: Sequence[Row],
    numbers: Numbers,
    *,
    language_of: Callable[[str], str] | None = None,
    tie_order: Callable[[str], int] | None = None,
) -> dict[Identity | None, Counter[str | None]]:
    """The outcome of every row.

    Returns:
      per pair (None: the malformed), how many of its rows have which reason (None: kept). Rows
      of one pair are told apart by nothing else: the design leaves open which one is judged.
    """
    corpus = corpus_of(rows, numbers.language, language_of)
    kept_ngrams = vocabulary(corpus.ngrams, numbers.vocabulary_size, tie_order)
    outcomes: dict[Identity | None, Counter[str | None]] = {}
    for pair, count in corpus.rows_of.items():
        if pair is None:
            outcomes[pair] = Counter(malformed_pair=count)
        else:
            reason = _reason(pair, numbers, corpus, kept_ngrams)
            outcomes[pair] = Counter({reason: 1}) + Counter(duplicate_pair=count - 1)
    return outcomes


def _reason(pair: Identity, numbers: Numbers, corpus: Corpus, kept_ngrams: set[str]) -> str | None:
    image, text = pair
    faults = {
        "wrong_language": corpus.foreign[pair],
        "too_few_words": len(words(text)) < numbers.min_words,
        "too_many_words": len(words(text)) > numbers.max_words,
        "text_on_too_many_images": len(corpus.images_of[text]) > numbers.max_images_per_text,
        "image_with_too_many_texts": len(corpus.texts_of[image]) > numbers.max_texts_per_image,
        "rare_token": any(ngram not in kept_ngrams for ngram in ngrams(text)),
    }
    return next((reason for reason, fails in faults.items() if fails), None)
