"""What should happen to every pair, by the rules of the text plane written out row by row.

Slow, plain and independent of the pipeline, so that the two can be compared. Identities and the
order of reasons are those of the project's contract.
"""

import html
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": ":80", "https": ":443"}


@dataclass(frozen=True)
class TextRules:
    """The limits that the demo's flags set; the rest are the paper's."""

    max_texts_per_image: int = 1000
    max_images_per_text: int = 10
    min_words: int = 3
    max_words: int = 20


def kept_text(caption: str | None) -> str:
    """The alt-text as it is kept: entities decoded, NFC, white space collapsed; "" for null."""
    return " ".join(unicodedata.normalize("NFC", html.unescape(caption or "")).split())


def text_identity(caption: str | None) -> str:
    return kept_text(caption).casefold()


def url_identity(url: str | None) -> str:
    """Scheme and host in lower case, without default port and fragment; "" for null."""
    parts = urlsplit((url or "").strip())
    scheme, host = parts.scheme.lower(), parts.netloc.lower()
    return parts._replace(
        scheme=scheme, netloc=host.removesuffix(DEFAULT_PORTS.get(scheme, " ")), fragment=""
    ).geturl()


def pair_identity(url: str | None, caption: str | None) -> tuple[str, str]:
    return url_identity(url), text_identity(caption)


def words(caption: str | None) -> list[str]:
    """The unigrams: cut at spaces, stripped of what is neither letter nor digit."""
    stripped = (_strip(word) for word in text_identity(caption).split(" "))
    return [word for word in stripped if word]


def _strip(word: str) -> str:
    inside = [i for i, character in enumerate(word) if character.isalnum()]
    return word[inside[0] : inside[-1] + 1] if inside else ""


def ngrams(caption: str | None) -> Iterator[str]:
    unigrams = words(caption)
    yield from unigrams
    for left, right in pairwise(unigrams):
        yield f"{left} {right}"


def is_malformed(url: str | None, caption: str | None) -> bool:
    parts = urlsplit(url or "")
    return parts.scheme not in DEFAULT_PORTS or not parts.hostname or not kept_text(caption)


class RawCounts:
    """What the corpus-wide rules read: counted over the rows that are well-formed and English."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self.ngrams: Counter[str] = Counter()
        self.texts_of_image: dict[str, set[str]] = defaultdict(set)
        self.images_of_text: dict[str, set[str]] = defaultdict(set)
        rows_with: Counter[str] = Counter()
        for url, caption in pairs:
            image, text = pair_identity(url, caption)
            self.texts_of_image[image].add(text)
            self.images_of_text[text].add(image)
            of_caption = list(ngrams(caption))
            self.ngrams.update(of_caption)
            rows_with.update(set(of_caption))
        self.vocabulary = {ngram for ngram, count in self.ngrams.items() if count >= 2}
        by_rows = {ngram for ngram, count in rows_with.items() if count >= 2}
        if (
            by_rows != self.vocabulary
        ):  # then the cut-off would depend on how repeats within a text count
            raise ValueError(
                f"n-grams twice in one text only: {sorted(self.vocabulary - by_rows)[:5]}"
            )


def text_reasons(
    rows: Sequence[tuple[str | None, str | None]], english: dict[str, bool], rules: TextRules
) -> tuple[list[str | None], int]:
    """Why each row falls in the text plane, or None, and the size of the vocabulary.

    Args:
      rows: URL and alt-text of each row.
      english: whether each kept alt-text is English.
      rules: the limits.
    """
    valid = [(url, text) for url, text in rows if not is_malformed(url, text)]
    counts = RawCounts([(url, text) for url, text in valid if english[kept_text(text)]])
    earlier_pairs: set[tuple[str, str]] = set()
    reasons = []
    for url, caption in rows:
        reason = _own_reason(caption, english, rules)
        if is_malformed(url, caption):
            reason = "malformed_pair"
        elif pair_identity(url, caption) in earlier_pairs:
            reason = "duplicate_pair"
        elif reason is None:
            reason = _corpus_reason(url, caption, counts, rules)
        earlier_pairs.add(pair_identity(url, caption))
        reasons.append(reason)
    return reasons, len(counts.vocabulary)


def _own_reason(caption: str | None, english: dict[str, bool], rules: TextRules) -> str | None:
    if not english.get(kept_text(caption)):
        return "wrong_language"
    if len(words(caption)) < rules.min_words:
        return "too_few_words"
    if len(words(caption)) > rules.max_words:
        return "too_many_words"
    return None


def _corpus_reason(
    url: str | None, caption: str | None, counts: RawCounts, rules: TextRules
) -> str | None:
    image, text = pair_identity(url, caption)
    if len(counts.images_of_text[text]) > rules.max_images_per_text:
        return "text_on_too_many_images"
    if len(counts.texts_of_image[image]) > rules.max_texts_per_image:
        return "image_with_too_many_texts"
    if any(ngram not in counts.vocabulary for ngram in ngrams(caption)):
        return "rare_token"
    return None
